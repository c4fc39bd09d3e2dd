"""The card of a translator repo: what a stranger needs to know before using it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

_TEMPLATE = Path(__file__).with_name("card.md")
_GENERATED = re.compile(r"<!-- begin: .*?<!-- end -->", re.DOTALL)
_LOCAL_PATH = "path/to/this/folder"


def render_card(config: Mapping[str, Any], *, repo_id: str | None, tags: Sequence[str]) -> str:
    """The README.md for a translator.

    Args:
        config: Content of `config.json`.
        repo_id: Where it is pushed to, for the snippet; None for a folder.
        tags: Further tags.
    """
    source, target = config["source"], config["target"]
    metrics = config["metrics"]
    rows = [(k, v) for k, v in metrics.items() if isinstance(v, Mapping) and k in _ROWS]
    columns = list(rows[0][1]) if rows else []
    card = ModelCard.from_template(
        _card_data(config, tags),
        template_path=str(_TEMPLATE),
        **{k: config[k] for k in ("translator_type", "n_pairs")},
        source=source,
        target=target,
        source_name=_name(source),
        target_name=_name(target),
        repo_id=repo_id or _LOCAL_PATH,
        params=", ".join(f"{k}={v!r}" for k, v in config["params"].items()),
        dataset=describe_dataset(config["dataset"]),
        evaluated=metrics.get("n_pairs", 0),
        evaluated_on=describe_dataset(metrics.get("dataset", {})),
        columns=columns,
        rows=[(name, [f"{values[c]:.3f}" for c in columns]) for name, values in rows],
    )
    return f"{str(card).rstrip()}\n"


def merge_card(existing: str | None, generated: str) -> str:
    """The generated card, with the text and metadata that people added to the existing one."""
    if existing is None:
        return generated
    old, new = ModelCard(existing, ignore_metadata_errors=True), ModelCard(generated)
    data = ModelCardData(**{**_values(old), **_values(new)})
    block = new.text.strip()
    if _GENERATED.search(old.text):
        text = _GENERATED.sub(lambda _: block, old.text, count=1)
    else:
        text = f"{old.text.rstrip()}\n\n{block}"
    return f"---\n{data.to_yaml()}\n---\n\n{text.strip()}\n"


def describe_dataset(dataset: Mapping[str, Any]) -> str:
    """A dataset's provenance in one line of Markdown; empty where nothing is known."""
    name = dataset.get("repo_id")
    details = [f"{k} {v}" for k, v in dataset.items() if k != "repo_id" and v is not None]
    if not name:
        return ", ".join(details)
    return f"`{name}`" + (f" ({', '.join(details)})" if details else "")


_ROWS = ("translated", "untranslated", "shuffled")


def _card_data(config: Mapping[str, Any], tags: Sequence[str]) -> ModelCardData:
    base_models = [config[k]["repo_id"] for k in ("source", "target") if "repo_id" in config[k]]
    dataset = config["dataset"].get("repo_id")
    results = list(_eval_results(config["metrics"]))
    return ModelCardData(
        library_name="hf-latent-bridge",
        pipeline_tag="feature-extraction",
        tags=["latent-translation", f"translator:{config['translator_type']}", *tags],
        base_model=base_models or None,
        base_model_relation="adapter" if base_models else None,
        datasets=[dataset] if dataset else None,
        model_name=f"{_name(config['source'])} to {_name(config['target'])}" if results else None,
        eval_results=results or None,
    )


def _eval_results(metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    dataset = metrics.get("dataset", {})
    name = dataset.get("repo_id")
    if not name:
        return
    for metric, value in metrics.get("translated", {}).items():
        yield EvalResult(
            task_type="feature-extraction",
            dataset_type=name,
            dataset_name=name,
            dataset_split=dataset.get("split"),
            metric_type=metric,
            metric_value=value,
        )


def _values(card: ModelCard) -> dict[str, Any]:
    values: dict[str, Any] = card.data.to_dict()  # type: ignore[no-untyped-call]
    return values


def _name(space: Mapping[str, Any]) -> str:
    repo_id = space.get("repo_id")
    return repo_id.rsplit("/", 1)[-1] if repo_id else f"{space['dim']}-d latents"
