"""Migrate: carries stored vectors of an old model to a new one, and says if search survives it."""

from typing import TYPE_CHECKING, Any

import gradio as gr
import look
from limits import FITTING
from methods import methods
from repos import Repos
from results import Results

from tabs.fit_your_own.fit import Method
from tabs.fit_your_own.runs import Facts
from tabs.fit_your_own.tab import news_files, tell_cost, vector_file
from tabs.migrate import migration
from tabs.migrate.migration import Migrated, Numbers, Store

if TYPE_CHECKING:
    from pandas import DataFrame

ALPHA = 0.1
EXAMPLES = {
    "1,000 news articles, all pairs": ["spectral", 5_000],
    "1,000 news articles, 100 pairs": ["spectral", 100],
    "1,000 news articles, rotated": ["ortho", 5_000],
}
CODE = """\
from hf_latent_bridge import SpectralTranslator, learning_curve, load_pairs, translate_file

translator = SpectralTranslator()
pairs = load_pairs(("old.npy", "new.npy"))              # row by row the same items
curve = learning_curve(translator, None, None, pairs, until_retention=0.95)
print(curve)                                            # how many pairs are enough
print(curve.report)                                     # the gate: pass, warn or fail
translate_file(translator, "old.npy", "translated.npy")
translator.save_pretrained("old-to-new")                # latent-bridge migrate moves a whole store
"""
REPORT = """
<section class="result" aria-live="polite">
<h2>{{value.title}}</h2><div class="note">{{value.note}}</div>
{{#each value.warnings}}<p class="warning">⚠ {{this}}</p>{{/each}}
{{#if value.reasons}}<ul>{{#each value.reasons}}<li>{{this}}</li>{{/each}}</ul>{{/if}}
{{#if value.points}}<div class="wide" role="region" tabindex="0" aria-label="learning curve">
<table class="wrapped"><thead><tr><th scope="col">pairs</th>
<th scope="col">retention of {{value.score}} (95 % interval)</th></tr></thead>
<tbody>{{#each value.points}}<tr><th scope="row">{{this.name}}</th>{{#each this.cells}}
<td>{{this.value}} <span class="tag">{{this.range}}</span></td>{{/each}}</tr>{{/each}}</tbody>
</table></div>{{/if}}
{{#if value.costs}}<div class="wide" role="region" tabindex="0" aria-label="time and price">
<table class="wrapped"><thead><tr><th scope="col">to get there</th><th scope="col">time</th>
<th scope="col">price</th></tr></thead>
<tbody>{{#each value.costs}}<tr><th scope="row">{{this.name}}</th>{{#each this.cells}}
<td>{{this.value}}</td>{{/each}}</tr>{{/each}}</tbody></table></div>{{/if}}
{{#each value.notes}}<p class="note">{{this}}</p>{{/each}}</section>
"""
INVITATION = {
    "title": "Nothing migrated yet",
    "note": "One click on an example above moves 1,000 news articles from MiniLM to MPNet. Fits "
    "run one at a time; your place in the queue is shown here.",
    **{name: [] for name in ("warnings", "reasons", "points", "costs", "notes")},
}
DOWNLOADS = ("the translated vectors", "the translator", "the gate's report")

Answer = tuple[Numbers, str, str, str]


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "A store full of an **old** model's vectors, and a **new** model: must all be encoded "
        "again? Give both models' vectors of some of the items. You see how many pairs are enough, "
        "whether search survives (the gate), what it saves, and take home the translated file and "
        "the translator. What you send is deleted within two hours."
    )
    files, how, store = _forms()
    button = gr.Button("Migrate", variant="primary")
    report = gr.HTML(
        INVITATION, html_template=REPORT, min_height=120, js_on_load=None, render=False
    )
    plot = _plot()
    shown = gr.Column(visible=False, render=False)
    downloads = [
        gr.DownloadButton(f"Download {what}", interactive=False, render=False) for what in DOWNLOADS
    ]
    inputs = [*files, *how, *store]

    def estimate(old: str, new: str, method: str, pairs: int) -> Facts:
        return migration.estimate(old, new, Method(method, ALPHA, pairs))

    cost = tell_cost(files, how, estimate)
    results = Results(report, *downloads, plot, shown)
    event: dict[str, Any] = {"show_progress_on": report, **FITTING}

    def migrate(  # noqa: PLR0917
        old: str,
        new: str,
        method: str,
        pairs: int,
        items: int,
        tokens: int,
        price: float,
        rate: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Answer:
        chosen = Method(method, ALPHA, pairs)
        store = Store(items, tokens, price, rate)
        return _answer(migration.migrate(old, new, chosen, store, progress))

    def drawn(*given: Any) -> list[Any]:
        report, *files = migrate(*given)
        ready = [gr.update(value=file, interactive=True) for file in files]
        return [report, *ready, _points(report), gr.update(visible=True)]

    def example(*given: Any) -> list[Any]:
        files = news_files(repos)
        return [*files, *drawn(*files, *given)]

    results.examples(
        list(EXAMPLES.values()),
        how,
        example,
        inputs=[*how, *store],
        filled=files,
        labels=list(EXAMPLES),
        **event,
    )
    results.notice.render()
    _place(cost, report, shown, plot, downloads)
    results.on(button.click, drawn, inputs, **event)
    results.endpoint(migrate, inputs, [report, *downloads], **event)
    look.code(CODE)


def _forms() -> tuple[list[Any], list[Any], list[Any]]:
    """The files; method and pairs; what is said of the store."""
    with gr.Row():
        old = gr.File(label="Old model's vectors (.npy, .csv, ...; 20 MB)", **vector_file())
        new = gr.File(label="New model's, of the same items", **vector_file())
    with gr.Row():
        method = gr.Dropdown(list(methods()), value="spectral", label="Method", min_width=150)
        pairs = gr.Number(5_000, precision=0, label="Pairs at most")
        items = gr.Number(1_000_000, precision=0, label="Items in your store")
        tokens = gr.Number(200, precision=0, label="Tokens an item")
        price = gr.Number(0.02, label="Price per million tokens")
        rate = gr.Number(100, label="Items encoded a second")
    return [old, new], [method, pairs], [items, tokens, price, rate]


def _plot() -> gr.LinePlot:
    return gr.LinePlot(
        x="pairs",
        y="retention",
        color="of the retention",
        x_title="pairs",
        y_title="retention",
        color_map=dict(zip(("lower end", "mean", "upper end"), look.PLOT_COLOURS, strict=True)),
        label="How much of the new model's search is kept, by the number of pairs",
        height=280,
        buttons=[],
        show_label=False,
        render=False,
    )


def _place(
    cost: gr.HTML, report: gr.HTML, shown: gr.Column, plot: gr.LinePlot, downloads: list[Any]
) -> None:
    cost.render()
    report.render()
    shown.render()
    with shown:
        gr.Markdown("### How much of the new model's search is kept, by the number of pairs")
        plot.render()
    with gr.Row():
        for download in downloads:
            download.render()


def _answer(done: Migrated) -> Answer:
    return done.report, done.vectors, done.translator, done.page


def _points(report: Numbers) -> "DataFrame":
    import pandas as pd

    names = {"lower": "lower end", "retention": "mean", "upper": "upper end"}
    return pd.DataFrame(
        {"pairs": point["n_pairs"], "retention": point[key], "of the retention": name}
        for point in report["curve"]["points"]
        for key, name in names.items()
    )
