"""Names the extra that installs a missing optional dependency, before anything else is done."""

from importlib.util import find_spec

from hf_latent_bridge.errors import MissingExtraError


def require(extra: str, *modules: str, purpose: str) -> None:
    """Checks that the modules of an extra are installed, without importing them.

    Args:
        extra: Name of the extra in this package's metadata, such as "encoders".
        modules: Top-level modules that will be imported.
        purpose: What needs them, such as "load_encoder".

    Raises:
        MissingExtraError: One is not installed; names the extra and the pip command.
    """
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        raise MissingExtraError(
            f'{purpose} needs {" and ".join(missing)}: pip install "hf-latent-bridge[{extra}]"'
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it has no spec
        return False
