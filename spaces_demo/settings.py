"""Names the repos that the Space loads, from defaults, a settings file and the environment."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS_FILE = Path(__file__).with_name("settings.json")
NAMESPACE = "LATENT_BRIDGE_NAMESPACE"
PROGRESS = "LATENT_BRIDGE_PROGRESS"  # a file, where a demo's repos are still being made
NAMES = (
    "demo-news",
    "news-index",
    "news-head",
    "minilm-to-mpnet",
    "news-shared",
    "demo-pictures",
    "title-to-picture",
    "picture-to-title",
    "picture-index",
    "title-index",
    "demo-fashion",
    "autoencoder-a",
    "autoencoder-b",
    "autoencoder-a-to-b",
)


@dataclass(frozen=True)
class Settings:
    """Repo ids and revisions of the repos that the Space loads.

    Attributes:
        namespace: User or organisation that owns the repos that `repos` does not name.
        repos: Name -> repo id.
        revisions: Name -> branch, tag or commit; "main" by default.
        progress: File that says which repos are still being made; None where all are there.
    """

    namespace: str = "local"
    repos: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    progress: Path | None = None

    def __post_init__(self) -> None:
        unknown = sorted({*self.repos, *self.revisions} - set(NAMES))
        if unknown:
            raise ValueError(f"settings name unknown repos {unknown}; known are {list(NAMES)}")

    def repo_id(self, name: str) -> str:
        """The id of the repo with this name."""
        return self.repos.get(name, f"{self.namespace}/{name}")

    @classmethod
    def read(cls, file: Path = SETTINGS_FILE) -> "Settings":
        """From the settings file, if there is one; the environment comes before it."""
        content = json.loads(file.read_text()) if file.exists() else {}
        if namespace := os.environ.get(NAMESPACE):
            content["namespace"] = namespace
        if progress := os.environ.get(PROGRESS):
            content["progress"] = Path(progress)
        return cls(**content)
