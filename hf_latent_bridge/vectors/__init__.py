"""Rows of vectors: one reader and one writer per format, behind one protocol and one registry."""
