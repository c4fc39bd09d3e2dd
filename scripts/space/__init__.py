"""Publishes, checks and photographs the Space."""
