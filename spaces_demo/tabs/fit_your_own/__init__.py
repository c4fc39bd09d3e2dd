"""Fit your own: a visitor's encoders, table or vectors become a translator to keep or publish."""
