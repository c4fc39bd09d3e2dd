"""Which repos the Space shows: defaults, a settings file, and the environment."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS_FILE = Path(__file__).with_name("settings.json")
NAMESPACE = "LATENT_BRIDGE_NAMESPACE"
PARTS = (
    "demo-news",
    "news-index",
    "news-head",
    "minilm-to-mpnet",
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
    """Repo ids of what the Space loads.

    Attributes:
        namespace: User or organisation that holds every part that `repos` does not name.
        repos: Part -> repo id.
        revisions: Part -> branch, tag or commit; "main" where it says nothing.
    """

    namespace: str = "local"
    repos: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted({*self.repos, *self.revisions} - set(PARTS))
        if unknown:
            raise ValueError(f"settings name unknown parts {unknown}; the parts are {list(PARTS)}")

    def repo_id(self, part: str) -> str:
        """The repo that holds a part."""
        return self.repos.get(part, f"{self.namespace}/{part}")

    @classmethod
    def read(cls, file: Path = SETTINGS_FILE) -> "Settings":
        """From the settings file, if there is one; LATENT_BRIDGE_NAMESPACE comes before it."""
        content = json.loads(file.read_text()) if file.exists() else {}
        if namespace := os.environ.get(NAMESPACE):
            content["namespace"] = namespace
        return cls(**content)
