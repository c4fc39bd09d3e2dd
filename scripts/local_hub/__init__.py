"""The Hugging Face Hub's HTTP API on this machine, for demos, tests and closed networks."""

from .server import LocalHub

__all__ = ["LocalHub"]
