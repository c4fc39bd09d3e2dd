"""The journal of a migration: which target it has made, for only that is resumed or removed."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hf_latent_bridge._version import __version__
from hf_latent_bridge.atomic import locked, write_atomic, writing
from hf_latent_bridge.encoders.cache import default_cache_dir
from hf_latent_bridge.errors import CheckpointError, ConfigError
from hf_latent_bridge.files import seal_json, unseal_json
from hf_latent_bridge.vectors.stores.base import Collection

_FIELDS = {"source": str, "target": str, "library_version": str, "facts": dict}
_CONVERSION = {"translator", "folding", "view"}
_ALIAS = {"alias", "alias_before"}


@dataclass
class Journal:
    """What is noted of a migration: a file that carries a hash of its content.

    Attributes:
        path: The file.
        urls: Of the source and the target.
        facts: What was noted; empty where no such migration was begun here.
    """

    path: Path
    urls: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def of(cls, old: Collection, new: Collection, state_dir: str | Path | None) -> Iterator[Self]:
        """The journal of a source and a target, held by this process alone.

        Raises:
            InUseError: A migration between the two is running.
            CheckpointError: The journal is damaged.
            OSError: Nothing can be written there.
        """
        folder = default_cache_dir() / "migrations" if state_dir is None else Path(state_dir)
        urls = {"source": str(old.url), "target": str(new.url)}
        places = repr((old.url.container, old.url.vector, new.url.container, new.url.vector))
        path = folder / f"{hashlib.sha256(places.encode()).hexdigest()[:32]}.json"
        with contextlib.ExitStack() as held:
            with writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(path.with_suffix(".lock"), new.url, patience=0))
            journal = cls(path, urls)
            journal._read()
            yield journal

    @property
    def found(self) -> bool:
        """Whether such a migration was begun here."""
        return bool(self.facts)

    def save(self, **facts: Any) -> None:
        """Adds facts, whole or not at all."""
        self.facts = {**self.facts, **facts}
        content = {**self.urls, "library_version": __version__, "facts": self.facts}
        with writing(self.path):
            write_atomic(self.path, seal_json(content))

    def remove(self) -> None:
        """Forgets the migration."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
        self.facts = {}

    def _read(self) -> None:
        try:
            facts = unseal_json(self.path.read_bytes(), _FIELDS, str(self.path))["facts"]
            _check_facts(facts, self.path)
            self.facts = facts
        except FileNotFoundError:
            return
        except ConfigError as error:
            raise CheckpointError(
                f"{error}; {self.urls['source']} is as it was: delete {self.urls['target']} with "
                "the store's own client and this file, and start again"
            ) from error


def _check_facts(facts: dict[str, Any], path: Path) -> None:
    """Refuses what `MigrationJob` does not note, such as the facts of another version."""
    conversion = facts.get("conversion")
    known = isinstance(conversion, dict) and conversion.keys() == _CONVERSION
    if not known or facts.keys() - {"conversion"} not in (set(), _ALIAS):
        raise ConfigError(f"{path} does not hold the facts of a migration, got {sorted(facts)}")
