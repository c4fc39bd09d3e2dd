"""Fit your own: a visitor's encoders, table or vectors become a translator to keep or publish."""

from tabs.fit_your_own.tab import build

__all__ = ["build"]
