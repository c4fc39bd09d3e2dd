"""Autoencoders: the tab, and the reconstruction behind it."""
