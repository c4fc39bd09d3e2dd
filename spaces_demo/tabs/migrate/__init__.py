"""Migrate: the tab, and the translation of stored vectors that it shows."""
