"""Turns items into latents: encoders of texts and images, and the cache of their latents."""
