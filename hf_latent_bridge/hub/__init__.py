"""A repo on the Hub: its files, its card, and the objects published into it."""
