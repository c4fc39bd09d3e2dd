"""The embedded Hub, filled with what an experiment needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from assets import AssetError
from quickstart import embedded_hub


@contextmanager
def seeded_hub(names: Sequence[str]) -> Iterator[None]:
    """Runs the embedded Hub, with these assets on it, and points this process to it.

    Args:
        names: Names in `assets.CATALOGUE`, such as "minilm" or "bbc-news".

    Raises:
        AssetError: One of them is not to be had on this machine.
    """
    from seed_hub import seed

    with embedded_hub():
        commits = seed(names, quiet=True)
        missing = [name for name in names if name not in commits]
        if missing:
            raise AssetError(f"this experiment needs {', '.join(missing)}: see above for why not")
        yield
