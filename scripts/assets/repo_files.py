"""Writes the files that the assets' repos share: the parquet file of a split, and the card."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Features

CARDS = Path(__file__).with_name("cards")


def write_split(
    repo: Path, split: str, columns: Mapping[str, Sequence[object]], features: "Features"
) -> None:
    """Write `data/<split>-00000-of-00001.parquet` into the folder `repo`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = repo / "data"
    folder.mkdir(exist_ok=True)
    table = pa.Table.from_pydict(dict(columns), schema=features.arrow_schema)
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=1000)


def copy_card(name: str, repo: Path) -> None:
    """Write the card `name` as `README.md` into the folder `repo`."""
    shutil.copyfile(CARDS / f"{name}.md", repo / "README.md")


def png_cell(data: bytes) -> dict[str, object]:
    """Return a PNG file's bytes as the cell of an image column."""
    return {"bytes": data, "path": None}


def shuffle_key(name: str) -> str:
    """Return a key to sort by, for a mixed order that is the same on every machine."""
    return hashlib.sha256(f"0/{name}".encode()).hexdigest()
