"""Text and image: the tab, and the retrieval behind it."""
