"""Zero-shot stitching: the tab, and the classification behind it."""
