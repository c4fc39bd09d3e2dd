"""A repo on the Hub: its files, its card, and what is published into it."""
