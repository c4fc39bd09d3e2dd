"""Finds translators on the Hub by the encoders that they join."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers, paginate  # type: ignore[attr-defined]

from hf_latent_bridge._version import LIBRARY_NAME, __version__
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import HubUnavailableError, InvalidNameError
from hf_latent_bridge.hub.cards import CARD_TAG, SIDE_TAGS, TYPE_TAG, is_repo_id
from hf_latent_bridge.hub.client import clear_errors, endpoint, spelling
from hf_latent_bridge.hub.waits import patiently

_ASKED = ["cardData", "downloads", "lastModified", "model-index", "private", "sha", "tags"]


@dataclass(frozen=True)
class TranslatorInfo:
    """A translator on the Hub, as its card describes it.

    Attributes:
        repo_id: Its repo, to be loaded with `AutoTranslator.from_pretrained`.
        translator_type: The method, such as "ortho".
        source: Repo of the source encoder; None where the card names none.
        target: Repo of the target encoder (for a map for search alone: of the items' encoder).
        scores: Results on held-out pairs, by metric, such as "recall@1"; empty where the card has
            none.
        commit: The commit that was described.
        private: Whether only some accounts see the repo.
        downloads: In the last 30 days.
        last_modified: Time of the last commit, ISO 8601.
    """

    repo_id: str
    translator_type: str
    source: str | None
    target: str | None
    scores: dict[str, float] = field(default_factory=dict)
    commit: str | None = None
    private: bool = False
    downloads: int = 0
    last_modified: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in self.scores.items())
        joins = f"{self.source or 'not stated'} → {self.target or 'not stated'}"
        return f"{self.repo_id}: {self.translator_type}, {joins}, {scores or 'no scores'}"


def search_translators(
    source: str | None = None,
    target: str | None = None,
    *,
    author: str | None = None,
    limit: int | None = 100,
    token: str | bool | None = None,
) -> list[TranslatorInfo]:
    """Finds translators on the Hub by the encoders that they join, those used most first.

    It reads their cards alone, as `push_to_hub` wrote them; nothing is downloaded.

    Args:
        source: Repo id of the source encoder, in any case; None for any.
        target: Repo id of the target encoder, or, for a map for search alone, of the items'; None
            for any.
        author: Account or organisation that published them; None for all.
        limit: How many at most; None for all.
        token: Hub token, for private repos; None for the one that is logged in, False for none.

    Returns:
        What the cards say; an empty list if there is none.

    Raises:
        InvalidNameError: A name that is not a repo id.
        ValueError: `limit` is less than 1.
        RepoAccessError: The Hub refuses the token.
        HubUnavailableError: The Hub cannot be reached, does not answer in time, or fails.
    """
    if limit is not None:
        check_count("limit", limit, also=", or None for all")
    sides = {"source": source, "target": target}
    for side, name in sides.items():
        if name is not None and not is_repo_id(name):
            raise InvalidNameError(
                f"{side} must be the repo id of an encoder, such as "
                f"'sentence-transformers/all-MiniLM-L6-v2', got {name!r:.80}"
            )
    if author is not None and (not is_repo_id(author) or "/" in author):
        raise InvalidNameError(f"author must be the name of an account, got {author!r:.80}")
    what = " ".join(
        ["translators", *(f"with {side} {name}" for side, name in sides.items() if name)]
    )
    if constants.HF_HUB_OFFLINE:
        raise HubUnavailableError(
            f"a search for {what} asks the Hub at {endpoint()}: unset HF_HUB_OFFLINE"
        )
    wanted = {side: name for side, name in sides.items() if name is not None}

    def search(names: Mapping[str, str]) -> list[TranslatorInfo]:
        found = filter(None, map(_read, _listed(names.values(), author, token)))
        joining = (one for one in found if _joins(one, names))
        return list(islice(joining, limit))

    with clear_errors(what, token=token):
        found = patiently(partial(search, wanted))
        if found or not wanted:
            return found
        spelled = {side: spelling(name, token=token) for side, name in wanted.items()}
        return [] if spelled == wanted else patiently(partial(search, spelled))


def _joins(one: TranslatorInfo, names: Mapping[str, str]) -> bool:
    """Whether it joins these encoders; the Hub has no two repos that differ in case alone."""
    known = {side: getattr(one, side) or "" for side in names}
    return all(known[side].lower() == name.lower() for side, name in names.items())


def _listed(
    encoders: Iterable[str], author: str | None, token: str | bool | None
) -> Iterator[Mapping[str, Any]]:
    """What the Hub says of repos that have our tag and are made for these encoders.

    `HfApi.list_models` parses each card, and a stranger's `tags: 3` ends it with a TypeError.
    """
    params: dict[str, Any] = {
        "filter": [CARD_TAG, *(f"base_model:{name}" for name in encoders)],
        "sort": "downloads",
        "expand": _ASKED,
    }
    if author is not None:
        params["author"] = author
    headers = build_hf_headers(token=token, library_name=LIBRARY_NAME, library_version=__version__)
    yield from paginate(f"{constants.ENDPOINT}/api/models", params=params, headers=headers)


def _read(listed: Mapping[str, Any]) -> TranslatorInfo | None:
    """A translator; None for a head, an index or anything else. Anyone may write such a card."""
    tags = _texts(listed["tags"])
    kind = _tagged(tags, TYPE_TAG)
    if kind is None:
        return None
    sides = {side: _tagged(tags, prefix) for side, prefix in SIDE_TAGS.items()}
    card = listed.get("cardData")
    encoders = _texts(card.get("base_model")) if isinstance(card, Mapping) else []
    if not any(sides.values()) and len(encoders) == 2:  # as version 0.1.0 wrote it
        sides = dict(zip(SIDE_TAGS, encoders, strict=True))
    return TranslatorInfo(
        repo_id=listed["id"],
        translator_type=kind,
        **sides,
        scores=_scores(listed.get("model-index")),
        commit=listed.get("sha"),
        private=bool(listed.get("private")),
        downloads=listed.get("downloads") or 0,
        last_modified=listed.get("lastModified"),
    )


def _tagged(tags: list[str], prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), None)


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _scores(model_index: Any) -> dict[str, float]:
    """The metrics of a model-index; whatever has another form is left out."""
    metrics = _dicts(model_index, "results", "metrics")
    pairs = ((metric.get("type"), metric.get("value")) for metric in metrics)
    return {
        name: float(value)
        for name, value in pairs
        if isinstance(name, str) and isinstance(value, int | float)
    }


def _dicts(value: Any, *fields: str) -> list[Mapping[str, Any]]:
    """The mappings in a list, or in the lists that these fields of them hold."""
    found = [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    if not fields:
        return found
    return [inner for one in found for inner in _dicts(one.get(fields[0]), *fields[1:])]
