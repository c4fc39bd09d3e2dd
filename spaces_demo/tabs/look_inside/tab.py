"""Look inside: shows the two spaces of a translator, its map, its scores and its weaknesses."""

from typing import TYPE_CHECKING, Any

import gradio as gr
import look
from gradio.events import api
from limits import ENCODING, answering
from repos import Repos
from results import Results

from tabs.look_inside import inspection
from tabs.look_inside.inspection import Numbers, inspect_repo

if TYPE_CHECKING:
    from pandas import DataFrame

EXAMPLES = ("minilm-to-mpnet", "title-to-picture", "picture-to-title", "autoencoder-a-to-b")
COLOURS = {"target": "#818cf8", "translated": "#f97316", "source": "#94a3b8"}
PAIRS = {"own": "its counterpart", "others": "all other items"}
PAIR_COLOURS = {PAIRS["own"]: "#f97316", PAIRS["others"]: "#94a3b8"}
CODE = """\
import torch
from hf_latent_bridge import AutoTranslator

translator = AutoTranslator.from_pretrained("{repo_id}")
print(translator.source_)
print(translator.target_)
print(translator.translator_type, translator.get_params(), translator.n_pairs_)
print(translator.metrics_["translated"], translator.metrics_["intervals"])
print(torch.linalg.svdvals(translator.map_.weight)[:10])
"""
REPORT = """
<section class="result" aria-live="polite">
<h2>{{value.title}}</h2><div class="note">{{value.note}}</div>
{{#each value.warnings}}<p class="warning">⚠ {{this}}</p>{{/each}}
{{#if value.spaces}}<div class="wide" role="region"
tabindex="0" aria-label="spaces"><table>
<thead><tr><th>space</th><th>encoder</th><th>commit</th><th>pooling</th><th>norm</th><th>width</th>
</tr></thead>
{{#each value.spaces}}<tr><th scope="row">{{this.side}}</th><td>{{this.repo_id}}</td>
<td><code>{{this.commit}}</code></td><td>{{this.pooling}}</td><td>{{this.norm}}</td>
<td>{{this.width}}</td></tr>{{/each}}
</table></div>{{/if}}
{{#if value.scores}}<div class="wide" role="region"
tabindex="0" aria-label="scores"><table>
<thead><tr><th>score</th><th>translated</th><th>95 % interval</th><th>untranslated</th>
<th>chance</th><th>p</th></tr></thead>
{{#each value.scores}}<tr><th scope="row">{{this.score}}</th><td><b>{{this.translated}}</b></td>
<td>{{this.interval}}</td><td>{{this.untranslated}}</td><td>{{this.chance}}</td><td>{{this.p}}</td>
</tr>{{/each}}</table></div>{{/if}}
{{#if value.selection}}<p>Chosen by cross-validation: {{value.selection.summary}}.</p>
<div class="wide" role="region"
tabindex="0" aria-label="choice of the penalty"><pre
aria-label="held-out score by penalty">{{value.selection.curve}}</pre></div>
{{/if}}
</section>
"""
EMPTY: Numbers = {
    "title": "Nothing opened yet",
    "note": "One click on an example above opens a translator of this Space.",
    "warnings": [],
    "spaces": [],
    "scores": [],
    "selection": None,
}


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "A translator is one matrix and a record of what it joins. Here is all that a repo tells: "
        "the two spaces, how it was fitted, how well it does beside chance, and what the matrix "
        "does to directions and to items. Doubts come first."
    )
    own = [repos.settings.repo_id(name) for name in EXAMPLES]
    with gr.Row(equal_height=True):
        repo_id = gr.Textbox(
            label="Repo of a translator", placeholder=own[0], max_length=200, scale=5, min_width=320
        )
        button = gr.Button("Look inside", variant="primary", scale=1, min_width=140)
    report = gr.HTML(EMPTY, html_template=REPORT, min_height=100, js_on_load=None, render=False)
    facts = look.facts()
    spectrum, cosines, projection = _plots()
    plots, items = (gr.Column(visible=False, render=False) for _ in range(2))
    results = Results(report, facts, spectrum, cosines, projection, plots, items)

    def drawn(numbers: Numbers) -> list[Any]:
        return [gr.update(visible=True), gr.update(visible=bool(numbers["n_items"]))]

    def draw(repo_id: str) -> tuple[Any, ...]:
        numbers = inspect_repo(repos, repo_id)
        frames = (_spectrum(numbers), _cosines(numbers), _projection(numbers))
        return _report(numbers), _facts(numbers), *frames, *drawn(numbers)

    @answering
    def inspect_translator(repo_id: str) -> dict[str, Any]:
        return inspect_repo(repos, repo_id)

    results.examples(own, repo_id, draw, **ENCODING)
    results.notice.render()
    report.render()
    facts.render()
    plots.render()
    with plots:
        gr.Markdown("### The map")
        spectrum.render()
    items.render()
    with items:
        gr.Markdown("### Items and their counterparts")
        cosines.render()
        gr.Markdown(f"### {inspection.SHOWN} items in the plane in which the target spreads most")
        projection.render()
    results.on([button.click, repo_id.submit], draw, repo_id, **ENCODING)
    api(
        inspect_translator,
        api_name="inspect_translator",
        api_description="All numbers about the translator in a repo, as JSON",
        **ENCODING,
    )
    look.code(CODE.format(repo_id=own[0]))


def _plots() -> tuple[gr.LinePlot, gr.LinePlot, gr.ScatterPlot]:
    options: dict[str, Any] = {"buttons": [], "show_label": False, "render": False}
    spectrum = gr.LinePlot(
        x="direction",
        y="factor",
        x_title="direction, the most stretched first",
        y_title="singular value",
        label="How much the map stretches each direction",
        height=280,
        **options,
    )
    cosines = gr.LinePlot(
        x="cosine",
        y="share",
        color="pair",
        x_title=f"cosine, in steps of {2 / inspection.BINS}",
        y_title="share of pairs, %",
        color_title="translated item with",
        color_map=PAIR_COLOURS,
        label="Cosine of translated items with their counterpart, and by chance",
        height=280,
        **options,
    )
    projection = gr.ScatterPlot(
        x="x",
        y="y",
        color="latents",
        x_title="1st principal component",
        y_title="2nd component",
        color_map=COLOURS,
        tooltip=["item", "latents"],
        label=f"{inspection.SHOWN} items in two dimensions",
        height=380,
        **options,
    )
    return spectrum, cosines, projection


def _report(numbers: Numbers) -> Numbers:
    commit = f" at {numbers['commit'][:7]}" if numbers["commit"] else ""
    params = ", ".join(f"{name}={value}" for name, value in numbers["params"].items())
    return {
        "title": f"{numbers['repo_id']}{commit}",
        "note": f"{numbers['method']} ({params}), fitted on {numbers['n_pairs']:,} pairs",
        "warnings": numbers["warnings"],
        "spaces": [_space(side, numbers[side]) for side in ("source", "target")],
        "scores": [_score(score) for score in numbers["scores"]],
        "selection": numbers["selection"],
    }


def _space(side: str, space: Numbers) -> dict[str, str]:
    return {
        "side": side,
        "repo_id": space["repo_id"] or "unnamed",
        "commit": (space["revision"] or "?")[:7],
        "pooling": space["pooling"] or "?",
        "norm": {True: "unit", False: "none", None: "?"}[space["normalize"]],
        "width": f"{space['dim']:,}",
    }


def _score(score: Numbers) -> dict[str, str]:
    low, high = map(_shown, score["interval"])
    return {
        "score": look.score_name(str(score["score"])),
        "translated": _shown(score["translated"]),
        "interval": f"{low} to {high}",
        "untranslated": _shown(score["untranslated"]),
        "chance": _shown(score["chance"]),
        "p": _shown(score["p_value"]),
    }


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _facts(numbers: Numbers) -> list[dict[str, str]]:
    seconds = numbers["seconds"]
    facts = {
        "directions carried": f"{numbers['rank']:,} of {len(numbers['singular_values']):,}",
        "loaded in": look.milliseconds(seconds["load"]),
        "computed in": look.milliseconds(seconds["compute"]),
    }
    if numbers["n_items"]:
        mean = numbers["mean_cosine"]
        facts |= {
            "items compared": f"{numbers['n_items']:,}",
            "mean cosine with the counterpart": f"{mean['own']:.3f}",
            "with every other": f"{mean['others']:.3f}",
            "variance in the two dimensions": f"{100 * numbers['explained']:.0f} %",
        }
    else:
        facts["no picture of items:"] = "this Space holds no latents of these two spaces"
    return [{"name": name, "value": value} for name, value in facts.items()]


def _spectrum(numbers: Numbers) -> "DataFrame":
    import pandas as pd

    values = numbers["singular_values"]
    return pd.DataFrame({"direction": range(1, len(values) + 1), "factor": values})


def _cosines(numbers: Numbers) -> "DataFrame | None":
    import pandas as pd

    rows = [
        {"cosine": row["cosine"], "share": row[key], "pair": name}
        for key, name in PAIRS.items()
        for row in numbers["cosines"]
    ]
    return pd.DataFrame(rows) if rows else None


def _projection(numbers: Numbers) -> "DataFrame | None":
    import pandas as pd

    return pd.DataFrame(numbers["points"]) if numbers["points"] else None
