"""Text and image: the tab, and the retrieval that it shows."""
