"""Writes model cards from configs and merges them into text that people wrote."""

import contextlib
import functools
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_latent_bridge._version import LIBRARY_NAME
from hf_latent_bridge.errors import ConfigError
from hf_latent_bridge.metrics import NAMES
from hf_latent_bridge.selection import Selection

if TYPE_CHECKING:
    import jinja2

_BEGIN = "<!-- begin: written by hf-latent-bridge"
_GENERATED = re.compile(f"{_BEGIN}(?:(?!{_BEGIN}).)*?<!-- end -->", re.DOTALL)
_LOCAL_PATH = "path/to/this/folder"
_SCORED = ("translated", "untranslated", "shuffled")
_LABELS = {  # in the order of a card
    "revision": "revision",
    "name": "configuration",
    "split": "split",
    "source": "source column",
    "target": "target column",
    "max_pairs": "sample of",
    "seed": "seed",
    "deduplicated": "without duplicates",
    "bad_rows_skipped": "bad rows skipped",
    "rows_skipped": "bad rows skipped",
    "text_field": "texts of the field",
    "matched_by": "matched by",
    "only_in_source": "in the source alone",
    "only_in_target": "in the target alone",
    "shift_removed": "without the direction of the mean, for search alone",
}
CARD_TAG = "latent-translation"
TYPE_TAG = "translator:"
SIDE_TAGS = {"source": "source_encoder:", "target": "target_encoder:"}
_WRITTEN_TAGS = (TYPE_TAG, *SIDE_TAGS.values())
_REPO_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def render_card(
    config: Mapping[str, Any],
    *,
    owner: type = object,
    repo_id: str | None = None,
    tags: Sequence[str] = (),
) -> str:
    """The README.md for what a config describes.

    Args:
        config: Content of `config.json`.
        owner: The class that is published; a component's card takes its name and docstring.
        repo_id: Where it is pushed to, for the snippet; None for a folder.
        tags: Further tags.
    """
    if "translator_type" in config:
        template, data, facts = "translator_card.md", _translator_data(config), _fit_facts(config)
    elif "space_type" in config:
        template, data, facts = "space_card.md", _space_data(config), _space_facts(config, repo_id)
    else:
        template = "component_card.md"
        data, facts = _component_data(config, repo_id), _component_facts(config, owner, repo_id)
    data.tags = [*(data.tags or []), *tags]
    facts = {"card_data": data.to_yaml(), "repo_id": repo_id or _LOCAL_PATH, **facts}
    card = ModelCard(_template(template).render(facts))
    return f"{str(card).rstrip()}\n"


@functools.cache
def _template(name: str) -> "jinja2.Template":
    """A template of this folder, compiled once: that takes longer than all the rest of a save."""
    import jinja2

    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return jinja2.Environment().from_string(text)


def is_foreign(card: str) -> bool:
    """Whether a README.md is someone else's text: without our marks, and not of our library."""
    if _GENERATED.search(card):
        return False
    try:
        parsed = _parse(card)
    except ConfigError:
        return True
    library = _values(parsed).get("library_name")
    return library != LIBRARY_NAME and (library is not None or bool(parsed.text.strip()))


def library_of(card: str) -> str | None:
    """The library that a card's metadata names."""
    return _values(_parse(card)).get("library_name")


def merge_card(existing: str | None, generated: str) -> str:
    """The generated card, with the text and metadata that people added to the existing one.

    Generated values win, tags are joined, and results do not outlive the fit they belong to.

    Raises:
        ConfigError: The metadata of the existing card is not a YAML mapping.
    """
    if existing is None:
        return generated
    old, new = _parse(existing), ModelCard(generated)
    kept, fresh = _values(old), _values(new)
    for name in ("model-index", "eval_results"):
        kept.pop(name, None)
    fresh["tags"] = _joined_tags(kept.get("tags"), fresh["tags"])
    data = ModelCardData(**{**kept, **fresh})
    block = new.text.strip()
    if _GENERATED.search(old.text):
        text = _GENERATED.sub(lambda _: block, old.text, count=1)
    else:
        text = f"{old.text.rstrip()}\n\n{block}"
    return f"---\n{data.to_yaml()}\n---\n\n{text.strip()}\n"


def describe_dataset(dataset: Mapping[str, Any]) -> str:
    """A dataset's provenance in one line of Markdown; empty where nothing is known."""
    known = {**dataset, "revision": str(dataset.get("revision") or "")[:12] or None}
    name, parts = known.pop("repo_id", None), _parts(known.pop("parts", []))
    keys = sorted(known, key=lambda key: (key not in _LABELS, [*_LABELS, key].index(key), key))
    details = ", ".join(_detail(key, known[key]) for key in keys if known[key] is not None)
    if name:
        return f"`{name}`" + (f" ({details})" if details else "")
    together = " and ".join(describe_dataset(part) or "pairs of no dataset" for part in parts)
    return ", ".join(filter(None, [together, details]))


def _detail(key: str, value: Any) -> str:
    if key in ("deduplicated", "shift_removed"):
        return _LABELS[key]
    if key == "views":
        return "columns " + ", ".join(f"{column} for {view}" for view, column in value.items())
    if key in ("bad_rows_skipped", "rows_skipped"):
        return f"{value:,} {_LABELS[key]}"
    return f"{_LABELS.get(key, key)} {value}"


def _parts(stated: Any) -> list[Mapping[str, Any]]:
    return [p for p in stated if isinstance(p, Mapping)] if isinstance(stated, list) else []


def _repo_ids(dataset: Mapping[str, Any]) -> list[str]:
    """The Hub datasets of a record, each once."""
    names = [part.get("repo_id") for part in _parts(dataset.get("parts", [dataset]))]
    return list(dict.fromkeys(name for name in names if is_repo_id(name)))


def _translator_data(config: Mapping[str, Any]) -> ModelCardData:
    named = {
        side: name
        for side, field in (("source", "source"), ("target", _target(config)))
        if is_repo_id(name := config[field].get("repo_id"))
    }
    base_models = list(dict.fromkeys(named.values()))
    sides = [f"{SIDE_TAGS[side]}{name}" for side, name in named.items()]
    results = list(_eval_results(config["metrics"]))
    return ModelCardData(
        library_name=LIBRARY_NAME,
        pipeline_tag="feature-extraction",
        tags=[CARD_TAG, f"{TYPE_TAG}{config['translator_type']}", *sides],
        base_model=base_models or None,
        base_model_relation="adapter" if base_models else None,
        datasets=_repo_ids(config["dataset"]) or None,
        model_name=f"{_name(config['source'])} to {_name(config[_target(config)])}"
        if results
        else None,
        eval_results=results or None,
    )


def _target(config: Mapping[str, Any]) -> str:
    """Where a translator's config describes the target's encoder."""
    return "items" if "items" in config else "target"


def _fit_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of a translator's card prints."""
    source, target, metrics = config["source"], config["target"], config["metrics"]
    columns = list(_scores(metrics, _SCORED[0]))
    return {
        "translator_type": config["translator_type"],
        "n_pairs": config["n_pairs"],
        "unrelated_pairs": config.get("unrelated_pairs", False),
        "selection": _selection(config),
        "bank_size": config.get("bank_size", 0),
        "n_landmarks": _n_landmarks(config),
        **_shared_bits(config.get("information", {})),
        "source": source,
        "target": target,
        "source_name": _name(source),
        "target_name": _name(config[_target(config)]),
        "items": config.get("items"),
        "params": ", ".join(f"`{k}={v!r}`" for k, v in sorted(config["params"].items())),
        "made_of": _made_of(config),
        "dataset": describe_dataset(config["dataset"]),
        "evaluated": metrics.get("n_pairs"),
        "evaluated_on": describe_dataset(_evaluated_on(metrics)),
        "columns": columns,
        "rows": list(_rows(metrics, columns)),
        "shuffles": metrics.get("n_permutations"),
        "p_value": max(_p_values(metrics), default=None),
        "cka": _scores(metrics, "cka"),
        "learning_curve": metrics.get("learning_curve"),
        **_search_facts(metrics.get("search")),
    }


def _n_landmarks(config: Mapping[str, Any]) -> int:
    """How many landmarks a kernel map has, or all of those in a composition."""
    params, kind = config["params"], config["translator_type"]
    known = {"kernel": [params.get("n_landmarks", 0)], "composed": params.get("landmarks", [])}
    return sum(known.get(kind, []))


def _search_facts(search: Any) -> dict[str, Any]:
    """The rankings with and without correction for hubs, where an evaluation has them."""
    if not isinstance(search, Mapping) or "plain" not in search:
        return {}
    columns = list(_scores(search, "plain"))
    names = {"plain": "plain", "corrected": "corrected (CSLS)", "native": "target encoder itself"}
    rows = [(text, _cells(_scores(search, k), columns)) for k, text in names.items() if k in search]
    told = {"search_bank": search.get("bank"), "mrr_gain": search.get("mrr_gain")}
    return {"search_columns": columns, "search_rows": rows, **told}


def _selection(config: Mapping[str, Any]) -> Selection | None:
    """How the map was chosen; None where nothing was."""
    return Selection.from_dict(config["selection"]) if "selection" in config else None


def _made_of(config: Mapping[str, Any]) -> list[str]:
    """One line of Markdown for each translator that a composition was made of."""
    if config["translator_type"] != "composed":
        return []
    lines = []
    for record in config["params"]["translators"]:
        where = f"`{record['repo_id']}`" if "repo_id" in record else "not on the Hub"
        if "revision" in record:
            where += f" at `{record['revision'][:12]}`"
        spaces = f"{_name(record['source'])} to {_name(record['target'])}"
        lines.append(
            f"`{record['translator_type']}`, {spaces}, {record['n_pairs']:,} pairs, {where}"
        )
    return lines


def _space_data(config: Mapping[str, Any]) -> ModelCardData:
    named = (view.get("repo_id") for view in config["views"].values())
    base_models = list(dict.fromkeys(name for name in named if is_repo_id(name)))
    return ModelCardData(
        library_name=LIBRARY_NAME,
        pipeline_tag="feature-extraction",
        tags=[CARD_TAG, f"space:{config['space_type']}"],
        base_model=base_models or None,
        datasets=_repo_ids(config["dataset"]) or None,
        base_model_relation="adapter" if base_models else None,
    )


def _space_facts(config: Mapping[str, Any], repo_id: str | None) -> dict[str, Any]:
    """What the template of a shared space's card prints."""
    return {
        "name": (repo_id or "shared space").rsplit("/", 1)[-1],
        **_shared_bits(config["information"]),
        "dataset": describe_dataset(config["dataset"]),
        "banks": config.get("banks", {}),
        **{name: config[name] for name in ("space", "views", "params", "n_pairs")},
    }


def _shared_bits(information: Mapping[str, Any]) -> dict[str, Any]:
    """How much encoders share, with the best penalty and with each; nothing if it is not known."""
    return {"bits": max(information.get("bits", ()), default=None), "curve": _curve(information)}


def _curve(information: Mapping[str, Any]) -> str:
    """The held-out bits of each penalty, in one line; empty if none was chosen."""
    if len(information.get("alphas", ())) < 2:
        return ""
    tried = zip(information["alphas"], information["bits"], strict=True)
    return ", ".join(f"{bits:.1f} with alpha={alpha:g}" for alpha, bits in tried)


def _component_data(config: Mapping[str, Any], repo_id: str | None) -> ModelCardData:
    spaces = (config[name] for name in ("space", "encoder", "decoder") if name in config)
    named = [space.get("repo_id") for space in spaces]
    base_models = list(dict.fromkeys(n for n in named if is_repo_id(n) and n != repo_id))
    kind = next(f"{key.removesuffix('_type')}:{config[key]}" for key in config if "_type" in key)
    return ModelCardData(
        library_name=LIBRARY_NAME,
        tags=[CARD_TAG, kind],
        base_model=base_models or None,
    )


def _component_facts(config: Mapping[str, Any], owner: type, repo_id: str | None) -> dict[str, Any]:
    """What the template of a component's card prints."""
    return {
        "name": (repo_id or owner.__name__).rsplit("/", 1)[-1],
        "class_name": owner.__name__,
        "about": inspect.cleandoc(owner.__doc__ or "").split("\n\nAttributes:")[0],
        "space": config.get("space"),
        "bank_size": config.get("params", {}).get("bank_size", 0),
        "components": _components(config),
    }


def _components(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The repos that a stitched model points to, in the order in which latents pass them."""
    if "decoder" not in config:
        return []
    translators = [("translator", step) for step in config["translators"]]
    return [("encoder", config["encoder"]), *translators, ("decoder", config["decoder"])]


def _evaluated_on(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    dataset = metrics.get("dataset")
    return dataset if isinstance(dataset, Mapping) else {}


def _eval_results(metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    dataset = _evaluated_on(metrics)
    if len(names := _repo_ids(dataset)) != 1:  # the model-index takes one only
        return
    (name,) = names
    for metric, value in _scores(metrics, "translated").items():
        yield EvalResult(
            task_type="feature-extraction",
            dataset_type=name,
            dataset_name=name,
            dataset_config=dataset.get("name"),
            dataset_split=dataset.get("split"),
            dataset_revision=dataset.get("revision"),
            metric_type=metric,
            metric_value=value,
        )


def _rows(metrics: Mapping[str, Any], columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for row in _SCORED:
        if row in metrics:
            yield row, _cells(_scores(metrics, row), columns)
        intervals = _intervals(metrics.get("intervals"))
        if row == _SCORED[0] and intervals.keys() >= set(columns):
            yield "95 % interval", ["{:.3f} to {:.3f}".format(*intervals[name]) for name in columns]


def _intervals(stated: Any) -> dict[str, Sequence[float]]:
    """The intervals of a config; whatever has another form is left out."""
    pairs = stated.items() if isinstance(stated, Mapping) else ()
    return {k: v for k, v in pairs if isinstance(v, list | tuple) and len(v) == 2 and _numbers(v)}


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _p_values(metrics: Mapping[str, Any]) -> list[float]:
    chance = metrics.get("chance")
    found = chance.values() if isinstance(chance, Mapping) else ()
    values = [each.get("p_value") for each in found if isinstance(each, Mapping)]
    return [value for value in values if isinstance(value, int | float)]


def _scores(metrics: Mapping[str, Any], row: str) -> dict[str, float]:
    """The scores of a row, in one order: a config that is loaded has its keys sorted."""
    scores = metrics.get(row)
    if not isinstance(scores, Mapping):
        return {}
    names = [name for name in NAMES if name in scores]
    names += sorted(scores.keys() - names)
    return {name: scores[name] for name in names if isinstance(scores[name], int | float)}


def _cells(scores: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{scores[name]:.3f}" if name in scores else "-" for name in columns]


def _parse(card: str) -> ModelCard:
    with _as_the_hub_has_it():
        return ModelCard(card, ignore_metadata_errors=True)


@contextlib.contextmanager
def _as_the_hub_has_it() -> Iterator[None]:
    """Turns what the Hub's client raises for metadata of people into an error that says so."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(
            "the metadata at the top of the existing README.md must be a YAML mapping with fields "
            f"as the Hub has them: {error}"
        ) from error


def _joined_tags(old: Any, new: Sequence[str]) -> list[str]:
    known = [old] if isinstance(old, str) else old or []
    texts = (tag for tag in known if isinstance(tag, str))
    return list(dict.fromkeys([*new, *(t for t in texts if not t.startswith(_WRITTEN_TAGS))]))


def _values(card: ModelCard) -> dict[str, Any]:
    with _as_the_hub_has_it():
        values: dict[str, Any] = card.data.to_dict()  # type: ignore[no-untyped-call]
        return values


def is_repo_id(name: Any) -> TypeGuard[str]:
    """Whether a name can be that of a repo."""
    return isinstance(name, str) and _REPO_ID.fullmatch(name) is not None


def _name(space: Mapping[str, Any]) -> str:
    repo_id = space.get("repo_id")
    return repo_id.rsplit("/", 1)[-1] if repo_id else f"{space['dim']}-d latents"
