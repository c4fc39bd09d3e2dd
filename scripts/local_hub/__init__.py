"""An embedded look-alike of the Hugging Face Hub, for demos, tests and closed networks."""

from .server import LocalHub

__all__ = ["LocalHub"]
