"""One fit in steps: from pairs by way of latents and moments to a solved translator."""
