"""Opens what holds latents to translate, by its kind."""

from pathlib import Path

from hf_latent_bridge.translation.lines import JsonLines
from hf_latent_bridge.translation.matrix_file import MatrixFile
from hf_latent_bridge.translation.sources import Place, Source
from hf_latent_bridge.translation.tables import DatasetColumn, ParquetColumn


def open_source(place: Place) -> Source:
    """Opens a source by its kind.

    Raises:
        FileNotFoundError: No such file, and no column named of a dataset.
        InvalidLatentsError: Not a matrix of floating numbers.
    """
    path = Path(place.name)
    if place.name == "-" or path.suffix == ".jsonl":
        return JsonLines(place)
    if path.is_dir() or (place.column and not path.suffix and not path.exists()):
        return DatasetColumn(place)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file {path} to translate; a Hub dataset needs its column too"
        )
    if path.suffix == ".parquet":
        return ParquetColumn(place)
    return MatrixFile.safetensors(place) if path.suffix == ".safetensors" else MatrixFile.npy(path)
