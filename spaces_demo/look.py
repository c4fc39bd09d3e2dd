"""Defines the look of the Space: theme, style sheet, and the templates that show results.

A template gets the same JSON as the API returns; Handlebars escapes it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")

PLOT_COLOURS = ("#94a3b8", "#f97316", "#818cf8")
_SCORES = {"r2": "R²", "mrr": "MRR", "ndcg": "nDCG"}

CSS = """
.dark { --color-accent: #818cf8; }
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.tab-wrapper { min-width: 0; height: auto !important; }
.tabs { min-width: 0; }
.tab-container { flex-wrap: wrap !important; height: auto !important; }
.lede { font-size: 1.05rem; line-height: 1.5; max-width: 68ch; }
.result h2 { font-size: .95rem; margin: 0 0 .1rem; }
.result .note { color: var(--body-text-color-subdued); font-size: .85rem; min-height: 1.3em; }
.result ol { list-style: none; margin: .5rem 0 0; padding: 0; }
.result li { padding: .45rem 0; border-top: 1px solid var(--border-color-primary); }
.result li .row { display: flex; justify-content: space-between; gap: .75rem; }
.result .score { font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued);
  white-space: nowrap; }
.result .bar { height: .4rem; border-radius: .2rem; margin-top: .3rem;
  background: var(--background-fill-secondary); }
.result .bar > i { display: block; height: 100%; border-radius: .2rem;
  background: var(--color-accent); }
.result .tag { font-size: .75rem; color: var(--body-text-color-subdued); }
.result .same { font-weight: 600; }
.result .wide { overflow-x: auto; width: 0; min-width: 100%; }
.result .wide { white-space: nowrap; }
.result .wide table { border: 0 !important; width: 100%; border-collapse: collapse;
  margin-top: .9rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
.result .wide th, .result .wide td { border: 0 !important; padding: .35rem 1rem .35rem 0;
  font-weight: 400; text-align: left; }
.result .wide tr { border: 0; border-top: 1px solid var(--border-color-primary); }
.result .wide thead tr { border: 0; }
.result .wide thead th { color: var(--body-text-color-subdued); font-size: .8rem; }
.result .wide .wrapped { white-space: normal; }
.result .wide .wrapped .tag { white-space: nowrap; }
.result ul { margin: .5rem 0 0; padding-left: 1.2rem; }
.result .warning { margin: .4rem 0 0; padding: .4rem .6rem; border-radius: .3rem;
  border-left: 3px solid #f97316; background: var(--background-fill-secondary); }
[data-testid=status-tracker] .progress-text { background: var(--body-background-fill);
  padding: 0 .3rem; }
.preparing progress { width: 100%; height: .6rem; appearance: none; border: 0;
  border-radius: .3rem; overflow: hidden; background: var(--border-color-primary); }
.preparing progress::-webkit-progress-bar { background: var(--border-color-primary); }
.preparing progress::-webkit-progress-value { background: var(--color-accent); }
.preparing progress::-moz-progress-bar { background: var(--color-accent); }
.pixels img { image-rendering: pixelated; width: 100%; height: 100%; object-fit: contain; }
.pixels .grid-wrap, .tiles .grid-wrap { padding-top: 2.2rem; }
:is(.pixels, .tiles) .thumbnail-lg { display: flex; flex-direction: column; height: 100%;
  aspect-ratio: auto; overflow: visible; }
:is(.pixels, .tiles) .thumbnail-lg img { flex: none; width: 100%; height: auto; aspect-ratio: 1; }
:is(.pixels, .tiles) .caption-label { position: static; max-width: 100%; white-space: normal;
  overflow-wrap: anywhere; opacity: 1 !important; }
footer .show-api { display: flex !important; }
.upload .image-container { padding-top: 2.2rem; }
:is(a, button, input, textarea, select, summary, [tabindex], [role=tab]):focus-visible,
label:has(input[type=radio]:focus-visible), .wrap:has(> .wrap-inner input:focus-visible) {
  outline: 3px solid var(--color-accent) !important; outline-offset: 2px !important; }
.pixels .grid-container { grid-template: none / repeat(auto-fill, minmax(64px, 1fr)) !important;
  grid-auto-rows: auto !important; }
.pixels.large { min-height: 15.5rem; }
.pixels.large .grid-wrap { height: auto !important; min-height: 0; max-height: none; }
.pixels.large .grid-container {
  grid-template: none / repeat(auto-fit, minmax(150px, 1fr)) !important; }
@media (max-width: 640px) { .pixels.large { min-height: 33rem; } }
.facts { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; min-height: 1.6em;
  font-variant-numeric: tabular-nums; }
.facts b { font-weight: 600; }
@media (max-width: 640px) {
  .row:has(.result) { flex-direction: column; }
  .encoder .wrap-inner input { font-size: .7rem !important; }
  .tiles .grid-container {
    grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)) !important;
  }
}
"""

RANKED = """
<section class="result" aria-live="polite">
<h2>{{value.title}}</h2><div class="note">{{value.note}}</div>
<ol>{{#each value.found}}
<li><div class="row"><span class="{{#if this.same}}same{{/if}}">{{this.title}}</span>
<span class="score">{{this.score}}</span></div><div class="tag">{{this.label}}</div></li>
{{/each}}</ol></section>
"""

BARS = """
<section class="result" aria-live="polite">
<h2>{{value.title}}</h2><div class="note">{{value.note}}</div>
<ol>{{#each value.labels}}
<li><div class="row"><span class="{{#if this.best}}same{{/if}}">{{this.label}}</span>
<span class="score">{{#if this.score}}{{this.score}}{{else}}{{this.percent}} %{{/if}}</span></div>
<div class="bar"><i style="width: {{this.percent}}%"></i></div></li>
{{/each}}</ol></section>
"""

SCORES = """
<section class="result" aria-live="polite">
<h2>{{value.title}}</h2><div class="note">{{value.note}}</div>
{{#if value.rows}}<div class="wide" role="region"
tabindex="0" aria-label="scores"><table class="wrapped">
<thead><tr><th scope="col">score</th>{{#each value.columns}}
<th scope="col">{{this}}</th>{{/each}}</tr></thead>
<tbody>{{#each value.rows}}<tr><th scope="row">{{this.name}}</th>{{#each this.cells}}
<td>{{this.value}} <span class="tag">{{this.range}}</span></td>{{/each}}</tr>{{/each}}</tbody>
</table></div>{{/if}}
{{#each value.warnings}}<p class="warning">⚠ {{this}}</p>{{/each}}
{{#each value.notes}}<p class="note">{{this}}</p>{{/each}}</section>
"""

FACTS = """
<div class="facts" aria-live="polite">{{#each value}}
<span>{{this.name}} <b>{{this.value}}</b></span>
{{/each}}</div>
"""


def theme() -> gr.themes.Base:
    """A quiet theme with the reader's own fonts: nothing is fetched from elsewhere."""
    return gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", font=list(FONTS), font_mono=list(MONO)
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        color_accent="*primary_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def ranked(title: str, note: str = "", height: int = 320) -> gr.HTML:
    """A list of search results, not rendered yet.

    Its value is {"title", "note", "found": [{"title", "score", "label", "same"}]}; `height` is that
    of the full list, so that nothing moves when results arrive.
    """
    return _shown(RANKED, {"title": title, "note": note, "found": []}, height)


def bars(title: str, note: str = "", height: int = 320) -> gr.HTML:
    """Labels with bars: {"title", "note", "labels": [{"label", "percent", "score", "best"}]}.

    A bar is `percent` long; beside it stands the text `score`, or else the percentage.
    """
    return _shown(BARS, {"title": title, "note": note, "labels": []}, height)


def scores(title: str, note: str, height: int = 120) -> gr.HTML:
    """A table, {"title", "note", "columns", "rows", "warnings", "notes"}; title and note at first.

    A row is {"name", "cells": [{"value", "range"}]}, with a cell for each column.
    """
    names = ("columns", "rows", "warnings", "notes")
    return _shown(SCORES, {"title": title, "note": note, **{name: [] for name in names}}, height)


def facts() -> gr.HTML:
    """A line of named numbers: [{"name", "value"}], where a value is a text with its unit."""
    return _shown(FACTS, [], 30)


def lede(text: str) -> None:
    """The introduction of a tab."""
    gr.Markdown(text, elem_classes="lede")


def score_name(name: str) -> str:
    """A score as people write it: "MRR@10" for "mrr@10"."""
    score, at, k = name.partition("@")
    return _SCORES.get(score, score) + at + k


def code(text: str) -> None:
    """The code that does the same, folded away."""
    with gr.Accordion("The code that does the same", open=False):
        gr.Code(text, language="python", show_label=False, interactive=False, label="Python")


@contextmanager
def timed(facts: list[dict[str, str]], name: str) -> Iterator[None]:
    """Adds the time that the block takes to the facts."""
    start = time.perf_counter()
    yield
    facts.append({"name": name, "value": milliseconds(time.perf_counter() - start)})


def milliseconds(seconds: float) -> str:
    """A time as people read it."""
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.001 else "under 1 ms"


def _shown(template: str, value: Any, height: int) -> gr.HTML:
    # in the template, for Gradio lets go of min_height while a result is awaited
    held = template.replace('class="result"', f'class="result" style="min-height: {height}px"')
    return gr.HTML(value, html_template=held, min_height=height, js_on_load=None, render=False)
