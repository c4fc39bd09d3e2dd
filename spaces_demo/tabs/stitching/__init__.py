"""Zero-shot stitching: the tab, and the classification that it shows."""
