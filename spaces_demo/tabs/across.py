"""Across models: searches an index of one encoder by queries of another."""

from typing import Any

import gradio as gr
import look
from limits import ENCODING, answering, check_text
from repos import Repos

EXAMPLES = (
    "central bank raises interest rates again",
    "a comeback win in the cup final",
    "new phone lets you watch films on the train",
    "ministers argue over the budget",
    "award for the best film of the year",
)
TOP_K = 5
CODE = """\
from hf_latent_bridge import AutoTranslator, load_decoder, load_encoder, stitch

translator = AutoTranslator.from_pretrained("{namespace}/minilm-to-mpnet")
encoder = load_encoder(translator.source_)              # MiniLM, 384 wide
index = load_decoder("{namespace}/news-index")              # MPNet's latents, 768 wide
search = stitch(encoder, translator, index)
print(search("central bank raises interest rates again", top_k=5))
"""

Ranked = dict[str, Any]
Facts = list[dict[str, str]]


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "The index holds news articles as **MPNet** saw them. Your query is encoded by **MiniLM**, "
        "carried over by a translator, and finds the same articles, although the index never saw "
        "MiniLM. Without the translator it finds nothing."
    )
    with gr.Row(equal_height=True):
        query = gr.Textbox(label="Query", placeholder="What are you looking for?", scale=5)
        button = gr.Button("Search", variant="primary", scale=1, min_width=120)
    times = look.facts()
    own, translated, untranslated = map(
        look.ranked, ("MPNet itself", "MiniLM, translated", "MiniLM, untranslated")
    )
    outputs = [own, translated, untranslated, times]

    @answering
    def search(query: str) -> tuple[Ranked, Ranked, Ranked, Facts]:
        return search_across(repos, query)

    look.examples(EXAMPLES, query, outputs, search)
    times.render()
    with gr.Row():
        for ranking in (own, translated, untranslated):
            ranking.render()
    gr.on([button.click, query.submit], search, query, outputs, api_name="search", **ENCODING)
    look.code(CODE.format(namespace=repos.settings.namespace))


def search_across(repos: Repos, query: str) -> tuple[Ranked, Ranked, Ranked, Facts]:
    """Searches MPNet's index by a query of MPNet, of MiniLM translated, and of MiniLM as it is.

    Returns:
        Three rankings, and the time that each step took.
    """
    text = check_text(query, "a query")
    translator, index = repos.translator("minilm-to-mpnet"), repos.decoder("news-index")
    source, target = repos.encoder(translator.source_), repos.encoder(translator.target_)
    absolute = repos.untranslated(translator.source_.dim, translator.target_.dim)
    times: Facts = []
    with look.timed(times, "MiniLM encodes in"):
        latents = source.encode([text])
    with look.timed(times, "translated in"):
        carried = translator.transform(latents)
    with look.timed(times, "searched in"):
        (translated,) = index.search(carried, TOP_K)
    with look.timed(times, "MPNet encodes in"):
        reference = target.encode([text])
    (own,) = index.search(reference, TOP_K)
    (untranslated,) = index.search(absolute(latents), TOP_K)
    kept = {found["row"] for found in own}
    times.append({"name": "articles searched", "value": f"{len(index):,}"})
    return (
        _ranking("MPNet itself", "what the index was built for", own, kept),
        _ranking("MiniLM, translated", _overlap(translated, kept), translated, kept),
        _ranking("MiniLM, untranslated", _overlap(untranslated, kept), untranslated, kept),
        times,
    )


def _overlap(found: list[dict[str, Any]], kept: set[int]) -> str:
    same = sum(hit["row"] in kept for hit in found)
    return f"{same} of {len(kept)} are MPNet's own (overlap@{len(kept)})"


def _ranking(title: str, note: str, found: list[dict[str, Any]], kept: set[int]) -> Ranked:
    rows = [
        {
            "title": hit["item"]["title"],
            "label": hit["item"]["label"],
            "score": f"cosine {hit['score']:.2f}",
            "row": hit["row"],
            "same": hit["row"] in kept,
        }
        for hit in found
    ]
    return {"title": title, "note": note, "found": rows}
