"""Paired items: which columns, files or streams say the same thing to two encoders."""
