"""Opens datasets at one commit, from the Hub or a folder, with errors that say what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.errors import HubUnavailableError, InvalidPairsError, RepoAccessError
from hf_latent_bridge.extras import require
from hf_latent_bridge.hub import client

if TYPE_CHECKING:
    from datasets import Dataset


def load_dataset(data: str, split: str | None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A split of a dataset on the Hub or in a folder, and where it comes from.

    Args:
        data: Repo id or folder.
        split: Such as "train".
        options: `name`, `revision`, `token` and `streaming`, as `load_pairs` takes them.

    Raises:
        MissingExtraError: `datasets` is not installed.
        RepoNotFoundError: No such dataset or revision.
        RepoAccessError: The dataset is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        InvalidPairsError: No such configuration or split, or no rows.
    """
    require("encoders", "datasets", purpose="load_pairs from a dataset")
    commit = None
    if not Path(data).is_dir():
        access = {"revision": options["revision"], "token": options["token"]}
        commit = client.resolve_commit(data, repo_type="dataset", **access)
    loaded = pick_split(_read(data, {**options, "revision": commit}), repr(data), split)
    if not options["streaming"]:
        _check_commit(loaded, data, commit)
    known = {"repo_id": None if commit is None else data, "revision": commit}
    known |= {"name": options["name"], "split": split}
    return loaded, {k: v for k, v in known.items() if v}


def _read(data: str, options: dict[str, Any]) -> Any:
    import datasets

    try:
        if any((Path(data) / f"dataset_{kind}.json").is_file() for kind in ("info", "dict")):
            return datasets.load_from_disk(data)
        return datasets.load_dataset(data, **options)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise RepoAccessError(
            f"dataset {data!r} is gated: ask for access on its page and pass a token that has it"
        ) from error
    except ConnectionError as error:
        raise HubUnavailableError(
            f"dataset {data!r} is not in the cache and the Hub was not reached: {error}"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidPairsError(f"dataset {data!r} cannot be read: {error}") from error


def _check_commit(loaded: "Dataset", data: str, commit: str | None) -> None:
    """`datasets` falls back to what it has cached, of whatever commit, when a download fails."""
    files = [Path(file["filename"]) for file in loaded.cache_files]
    if commit and files and not any(commit in file.parts for file in files):
        raise HubUnavailableError(
            f"dataset {data!r} at {commit} could not be downloaded: only other commits of it are "
            "cached; check the network, your token and access, or name one of them as revision"
        )


def pick_split(loaded: Any, data: str, split: str | None) -> Any:
    """One split of a `DatasetDict`; any other dataset as it is, if it is that split.

    Raises:
        InvalidPairsError: No such split.
    """
    if isinstance(loaded, dict) and hasattr(loaded, "column_names"):  # a DatasetDict
        if split not in loaded:
            raise InvalidPairsError(f"{data} has the splits {sorted(loaded)}, got {split=}")
        return loaded[split]
    own = getattr(loaded, "split", None)
    if None not in (split, own) and str(own) != split:
        raise InvalidPairsError(f"{data} is the split {str(own)!r}, got {split=}")
    return loaded
