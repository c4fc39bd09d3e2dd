"""One file per tab; each has a `build(parts)` that adds it to the Blocks being built."""
