"""Fit your own: the forms that take a visitor's items or vectors, and the result."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import look
import numpy as np
from limits import FITTING, Refusal, answering
from methods import methods
from repos import Repos
from results import Results

from hf_latent_bridge.encoders.modality import MODALITIES
from hf_latent_bridge.encoders.text import TEXT
from hf_latent_bridge.errors import LatentBridgeError
from hf_latent_bridge.vectors.formats import plain_suffixes
from tabs.fit_your_own.fit import Method
from tabs.fit_your_own.items import MAX_ANCHORS, Hub, Side, Table
from tabs.fit_your_own.publish import push
from tabs.fit_your_own.runs import Facts, Result, estimate_fit, fit_on_items, fit_on_vectors

EXAMPLES = {
    "ortho on 100 pairs": ["ortho", 0.1, 100],
    "affine on 100 pairs": ["affine", 0.1, 100],
    "ortho on 20 pairs": ["ortho", 0.1, 20],
}
PUSHING: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "push"}
CODE = """\
from hf_latent_bridge import OrthoTranslator, evaluate, fit_translator, load_encoder, load_pairs

source = load_encoder("{source}", max_length=64)
target = load_encoder("{target}", max_length=64)
pairs = load_pairs("{namespace}/demo-news", split="train", source="text", max_pairs=100)
translator = fit_translator(OrthoTranslator(), source, target, pairs)

held_out = load_pairs("{namespace}/demo-news", split="test", source="text", max_pairs=25)
report = evaluate(translator, source, target, held_out)
print(report)
translator.save_pretrained("my-translator", metrics=report)     # push_to_hub takes the same
"""
INVITATION = (
    "One click on an example above fits the two encoders of this Space on news. Fits run one at a "
    "time; your place in the queue is shown here."
)
VECTORS = (
    "Source vectors (.npy, .jsonl, .csv, ...; 20 MB)",
    "Target vectors (row by row the same items)",
)
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
TARGET = "sentence-transformers/all-mpnet-base-v2"


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "A translator of your own in seconds: two encoders and some texts, pictures or other "
        "items, or vectors that you already have. It is checked on pairs that the fit has not "
        "seen, and is yours to download or to push. What you send is deleted within two hours."
    )
    hub = Hub(repos)
    with gr.Row():
        method = gr.Dropdown(list(methods()), value="ortho", label="Method")
        penalised = [name for name, kind in methods().items() if "alpha" in kind.get_params()]
        told = f"Alpha, the ridge penalty ({', '.join(penalised)})"
        alpha = gr.Number(0.1, label=told, step=0.1)
        anchors = gr.Number(100, precision=0, label="Anchors (pairs to fit on)")
    how = [method, alpha, anchors]
    report, archive = look.scores("Nothing fitted yet", INVITATION), gr.State(None)
    download = gr.DownloadButton("Download the translator", interactive=False, render=False)
    vectors = [gr.File(label=label, render=False, **vector_file()) for label in VECTORS]
    cost = tell_cost(vectors, how, estimate_fit)
    results = Results(report, download, archive)
    with gr.Tabs():
        with gr.Tab("Items"):
            _items_form(repos, hub, how, results)
        with gr.Tab("Vectors"):
            _vectors_form(repos, vectors, how, results)
            cost.render()
    results.notice.render()
    report.render()
    download.render()
    with gr.Accordion("Push it to the Hub", open=False):
        button = _push_form(archive)
    archive.change(
        lambda path: [gr.update(interactive=path is not None)] * 2,
        archive,
        [download, button],
        api_visibility="private",
        show_progress="hidden",
    )
    look.code(CODE.format(namespace=repos.settings.namespace, source=SOURCE, target=TARGET))


def _items_form(repos: Repos, hub: Hub, how: list[Any], results: Results) -> None:
    kinds, encoders, columns, uploads = zip(*map(_side_form, ("Source", "Target")), strict=True)
    with gr.Row():
        dataset = gr.Textbox(repos.settings.repo_id("demo-news"), label="Dataset (repo id)")
        split = gr.Textbox("train", label="Split")
        table = gr.File(label="Or a csv with these columns (5 MB)", file_types=[".csv"], height=150)
    inputs = [*kinds, *encoders, dataset, split, *columns, table, *uploads, *how]

    def fit_items(  # noqa: PLR0917
        source_modality: str,
        target_modality: str,
        source_encoder: str,
        target_encoder: str,
        dataset: str,
        split: str,
        source_column: str,
        target_column: str,
        table: str | None,
        source_files: list[str] | None,
        target_files: list[str] | None,
        method: str,
        alpha: float,
        anchors: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Result:
        sides = (
            Side(source_modality, source_encoder, source_column, source_files or ()),
            Side(target_modality, target_encoder, target_column, target_files or ()),
        )
        how = Method(method, alpha, anchors, MAX_ANCHORS)
        return fit_on_items(hub, sides, Table(dataset, split, table), how, progress)

    button = gr.Button("Fit on items", variant="primary")
    event: dict[str, Any] = {"show_progress_on": results.shown[0], **FITTING}
    results.on(button.click, fit_items, inputs, **event)
    results.endpoint(fit_items, inputs, **event)

    @functools.wraps(fit_items)
    def fit_example(*given: Any) -> Result:
        """Clicked before the page has filled in the encoders, it takes those that will be there."""
        kinds, encoders, rest = given[:2], given[2:4], given[4:]
        own = [
            encoder or _own(hub, kind, side)
            for side, (kind, encoder) in enumerate(zip(kinds, encoders, strict=True))
        ]
        return fit_items(*kinds, *own, *rest)

    results.examples(
        list(EXAMPLES.values()), how, fit_example, inputs=inputs, labels=list(EXAMPLES), **event
    )

    def known(*modalities: str) -> list[Any]:
        return [_choices(hub, name, side) for side, name in enumerate(modalities)]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on(None, known, list(kinds), list(encoders), **quiet)  # at the start and at each change


def _side_form(name: str) -> tuple[gr.Dropdown, gr.Dropdown, gr.Textbox, gr.File]:
    """The fields of one side; the kinds of items are those that the library knows."""
    files = sorted({suffix for kind in MODALITIES.values() for suffix in kind.suffixes})
    same = " (empty: the same)" if name == "Target" else ""
    with gr.Row():
        kind = gr.Dropdown(sorted(MODALITIES), value=TEXT.name, label=f"{name} items", scale=1)
        encoder = gr.Dropdown(
            label=f"{name} encoder (repo id)",
            allow_custom_value=True,
            choices=[],
            scale=3,
            min_width=260,
            elem_classes="encoder",  # whose long name a phone shows whole
        )
        column = gr.Textbox(
            "" if same else "text", label=f"{name} column{same}", scale=2, min_width=200
        )
        upload = gr.File(
            label=f"Or {name.lower()} files", file_count="multiple", file_types=files, height=150
        )
    return kind, encoder, column, upload


def _choices(hub: Hub, modality: str, side: int) -> Any:
    """The Space's own encoders of a modality, one of them chosen."""
    try:
        known, chosen = hub.encoders().get(modality, []), _own(hub, modality, side)
    except Refusal:  # the Hub is away: a visitor can still type an id
        known, chosen = [], ""
    return gr.update(choices=known, value=chosen or None)


def _own(hub: Hub, modality: str, side: int) -> str:
    """The Space's own encoder for a side; empty if it has none of this modality."""
    known = hub.encoders().get(modality, [])
    return known[min(side, len(known) - 1)] if known else ""


def _vectors_form(repos: Repos, files: list[gr.File], how: list[Any], results: Results) -> None:
    with gr.Row():
        for file in files:
            file.render()
    inputs = [*files, *how]

    def fit_vectors(  # noqa: PLR0917
        source: str,
        target: str,
        method: str,
        alpha: float,
        anchors: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Result:
        return fit_on_vectors(source, target, Method(method, alpha, anchors), progress)

    def fit_news(
        method: str,
        alpha: float,
        anchors: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list[Any]:
        files = news_files(repos)
        return [*files, *fit_vectors(*files, method, alpha, anchors, progress)]

    with gr.Row():
        button = gr.Button("Fit on vectors", variant="primary")
        sample = gr.Button("Try the vectors of 1,000 news articles")
    event: dict[str, Any] = {"show_progress_on": results.shown[0], **FITTING}
    results.on(button.click, fit_vectors, inputs, **event)
    results.on(sample.click, fit_news, how, files, **event)
    results.endpoint(fit_vectors, inputs, **event)


def vector_file() -> dict[str, Any]:
    """Options of an upload that takes a file of vectors."""
    return {"file_types": plain_suffixes(), "height": 150, "min_width": 320}


def tell_cost(files: list[gr.File], settings: list[Any], estimate: Callable[..., Facts]) -> gr.HTML:
    """Says what the work will take as soon as both files are there, before it starts.

    Args:
        files: Uploads of vectors.
        settings: Further components that it depends on.
        estimate: Takes both files and the settings; raises if they cannot be taken.

    Returns:
        The facts, not rendered yet; none where the work's own button says why not.
    """

    def tell(source: str | None, target: str | None, *given: Any) -> Facts:
        try:
            return estimate(source, target, *given) if source and target else []
        except (Refusal, LatentBridgeError):
            return []

    cost = look.facts()
    gr.on(
        [component.change for component in (*files, *settings)],
        answering(tell),
        [*files, *settings],
        cost,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=2,
    )
    return cost


def news_files(repos: Repos) -> tuple[str, str]:
    """The vectors of the published news by both encoders, as files, written once."""

    def write() -> tuple[str, str]:
        folder = Path(tempfile.mkdtemp(prefix="news-vectors-"))
        news = repos.latents("demo-news", "train")
        for name, vectors in (("source", news.source), ("target", news.target)):
            np.save(folder / f"{name}.npy", vectors)
        return str(folder / "source.npy"), str(folder / "target.npy")

    return repos.once("news vectors", write)


def _push_form(archive: gr.State) -> gr.Button:
    with gr.Row():
        repo_id = gr.Textbox(label="New repo", placeholder="you/my-translator")
        token = gr.Textbox(
            label="Your token (write permission; used once, never kept)",
            type="password",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        )
        private = gr.Checkbox(True, label="Private")
    button = gr.Button("Push", interactive=False)
    pushed = look.facts()
    results = Results(pushed)
    results.notice.render()
    pushed.render()

    def push_translator(
        archive: str | None, repo_id: str, token: str, private: bool = True
    ) -> list[dict[str, str]]:
        return push(archive, repo_id, token, private)

    inputs = [archive, repo_id, token, private]
    results.endpoint(push_translator, inputs, **PUSHING)
    event = results.on(button.click, push_translator, inputs, **PUSHING)
    event.then(lambda: "", None, token, api_visibility="private", show_progress="hidden")
    return button
