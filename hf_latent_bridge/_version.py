"""States the library's name on the Hub and its version, for all that needs them."""

LIBRARY_NAME = "hf-latent-bridge"
__version__ = "0.2.0"
