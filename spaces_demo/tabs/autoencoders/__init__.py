"""Autoencoders: the tab, and the reconstruction that it shows."""
