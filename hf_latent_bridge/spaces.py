"""Says which latent space a vector is from, and compares two spaces."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from hf_latent_bridge.errors import ConfigError, SpaceMismatchError


@dataclass(frozen=True)
class SpaceSpec:
    """A latent space; a field is None where it is not known.

    Two encoders share a space only if they agree in all fields but `max_length`.

    Attributes:
        dim: Width of the latents.
        repo_id: Hub repo (or name) of the encoder.
        revision: Commit of that repo.
        subfolder: Folder in that repo; None for its root.
        modality: What is encoded, such as "text" or "image".
        pooling: How token states become one vector, such as "mean", "cls" or "last".
        normalize: Whether latents are scaled to unit L2 norm.
        max_length: Number of tokens at which inputs are cut.
    """

    dim: int
    repo_id: str | None = None
    revision: str | None = None
    subfolder: str | None = None
    modality: str | None = None
    pooling: str | None = None
    normalize: bool | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuses fields of the wrong type, which would be saved and could not be loaded.

        Raises:
            ValueError: Names the field.
        """
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, kind) or type(value) is bool is not kind
            ):
                raise ValueError(f"a space's {name} must be {kind.__name__}, got {value!r}")
        for name in ("dim", "max_length"):
            value = getattr(self, name)
            if (value is None and name == "dim") or (value is not None and value < 1):
                raise ValueError(f"a space's {name} must be a positive integer, got {value!r}")

    @classmethod
    def from_dict(cls, content: object) -> Self:
        """Reads what `to_dict` wrote.

        Raises:
            ConfigError: Not a mapping, an unknown field, or a value of the wrong type.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"a space must be a JSON object with at least dim, got {content!r}")
        unknown = set(content) - {f.name for f in fields(cls)}
        if unknown:
            raise ConfigError(f"a space has unknown fields {sorted(unknown)}")
        try:
            return cls(**{"dim": None, **content})
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """The known fields, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def mismatches(self, other: Self) -> list[str]:
        """The fields, known on both sides, in which the two spaces differ.

        A shared space is known to be none of any encoder that has a name.
        """
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in _IDENTITY}
        pairs["repo_id"] = (self._known_as, other._known_as)
        if None not in pairs["repo_id"]:
            pairs["subfolder"] = (self.subfolder or "", other.subfolder or "")
        return [
            f"{k}: {a!r} and {b!r}" for k, (a, b) in pairs.items() if None not in (a, b) and a != b
        ]

    @property
    def _known_as(self) -> str | None:
        return self.repo_id or (_A_SHARED_SPACE if self.pooling == SHARED else None)

    def __str__(self) -> str:
        shared = self.pooling == SHARED
        name = self._known_as or "an encoder of unknown name"
        name += f"/{self.subfolder}" if self.subfolder else ""
        commit = f"@{self.revision[:7]}" if self.revision else ""
        details = [f"dim={self.dim}"]
        if self.pooling and not shared:
            details.append(f"{self.pooling} pooling")
        if self.normalize:
            details.append("unit norm")
        return f"{name}{commit} ({', '.join(details)})"


SHARED = "shared"  # the pooling of a space that several encoders share
_A_SHARED_SPACE = "a shared space"
_KINDS: dict[str, type] = {
    "dim": int,
    "repo_id": str,
    "revision": str,
    "subfolder": str,
    "modality": str,
    "pooling": str,
    "normalize": bool,
    "max_length": int,
}
_IDENTITY = ("repo_id", "revision", "modality", "pooling", "normalize", "dim")


def check_space(space: object, *, or_none: bool = True) -> None:
    """Refuses anything else in place of a space, such as the name of an encoder.

    Args:
        space: What was given as a space.
        or_none: Whether it may be unknown.

    Raises:
        TypeError: It is not a `SpaceSpec`.
    """
    if not (isinstance(space, SpaceSpec) or (space is None and or_none)):
        raise TypeError(
            f"a space is SpaceSpec(dim, 'me/encoder'){' or None' if or_none else ''}, got "
            f"{type(space).__name__} {space!r:.60}"
        )


def check_meet(giver: tuple[str, SpaceSpec], reader: tuple[str, SpaceSpec]) -> None:
    """Refuses two neighbours in a chain if their spaces differ in a field that both know.

    Args:
        giver: Name of the side that gives latents, such as "encoder", and their space.
        reader: Name of the side that reads them, such as "decoder", and the space it expects.

    Raises:
        SpaceMismatchError: Names both sides, both spaces and the fields that differ.
    """
    (giver_name, given), (reader_name, expected) = giver, reader
    if mismatches := given.mismatches(expected):
        cure = ""
        if given.repo_id and expected.repo_id and given.repo_id != expected.repo_id:
            sides = f"{given.repo_id!r}, {expected.repo_id!r}"
            cure = f". search_translators({sides}) finds translators in between"
        raise SpaceMismatchError(
            f"the {giver_name} gives latents of {given}, but the {reader_name} reads latents of "
            f"{expected}: they differ in {'; '.join(mismatches)}{cure}"
        )
