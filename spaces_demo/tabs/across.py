"""Across models: searches an index of one encoder, or of two, by queries of another."""

from typing import Any

import gradio as gr
import look
import numpy as np
from limits import ENCODING, Unpublished, check_text
from repos import Repos
from results import Results

from hf_latent_bridge import LatentIndex, SharedSpace

EXAMPLES = (
    "central bank raises interest rates again",
    "a comeback win in the cup final",
    "new phone lets you watch films on the train",
    "ministers argue over the budget",
    "award for the best film of the year",
)
TOP_K = 5
VIEWS = ("MiniLM", "MPNet")
CODE = """\
from datasets import load_dataset
from hf_latent_bridge import (
    AutoTranslator, LatentIndex, SharedSpace, load_decoder, load_encoder, stitch
)

translator = AutoTranslator.from_pretrained("{namespace}/minilm-to-mpnet")
encoder = load_encoder(translator.source_)              # MiniLM, 384 wide
index = load_decoder("{namespace}/news-index")              # MPNet's latents, 768 wide
search = stitch(encoder, translator, index)
print(search("central bank raises interest rates again", top_k=5))

# one index of both encoders: every other article as MiniLM saw it, the rest as MPNet did
space = SharedSpace.from_pretrained("{namespace}/news-shared")
minilm, mpnet = space.translator("MiniLM"), space.translator("MPNet")
news = load_dataset("{namespace}/demo-news", split="test").with_format("numpy")[:]
old, new = (news["title"][start::2].tolist() for start in (0, 1))
index = LatentIndex.from_latents(minilm.transform(news["source"][::2]), old, space=space.space_)
index.add(mpnet.transform(news["target"][1::2]), new)
search = stitch(encoder, minilm, index)                 # or MPNet's encoder and mpnet
print(search("central bank raises interest rates again", top_k=5))
"""
SHARED = """\
**One index of both.** A *shared space* takes in both encoders. Half of the articles in this index \
were encoded by MiniLM, half by MPNet, and either model may ask; each article says which one \
encoded it. In **bold**, those among MPNet's own.
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
        query = gr.Textbox(
            label="Query", placeholder="What are you looking for?", scale=5, min_width=320
        )
        button = gr.Button("Search", variant="primary", scale=1, min_width=120)
    times = look.facts()
    own, translated, untranslated = map(
        look.ranked, ("MPNet itself", "MiniLM, translated", "MiniLM, untranslated")
    )
    asking = [look.ranked(f"{name} asks", "one index of both encoders") for name in VIEWS]
    results = Results(own, translated, untranslated, times, *asking)

    def search(query: str) -> tuple[Ranked | Facts, ...]:
        found = search_across(repos, query)
        return (*found, *search_shared(repos, query, {hit["row"] for hit in found[0]["found"]}))

    results.examples(EXAMPLES, query, search, **ENCODING)
    results.notice.render()
    times.render()
    with gr.Row():
        for ranking in (own, translated, untranslated):
            ranking.render()
    look.lede(SHARED)
    with gr.Row():
        for ranking in asking:
            ranking.render()
    results.on([button.click, query.submit], search, query, **ENCODING)
    results.endpoint(search, query, **ENCODING)
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


def search_shared(repos: Repos, query: str, kept: set[int]) -> list[Ranked]:
    """Searches one index, half of each encoder's latents, by a query of each encoder.

    Args:
        repos: With the shared space; without it, both rankings are empty and say so.
        query: A text.
        kept: Rows of the articles that MPNet's own index finds.
    """
    text = check_text(query, "a query")
    try:
        space = repos.shared_space("news-shared")
        index = repos.once("news-shared index", lambda: _mixed_index(repos, space))
    except Unpublished as missing:
        return [_ranking(f"{name} asks", str(missing.message), [], kept) for name in VIEWS]
    rankings = []
    for name in VIEWS:
        view = space.translator(name)
        latents = repos.encoder(view.source_).encode([text])
        (found,) = index.search(view.transform(latents), TOP_K)
        rankings.append(_ranking(f"{name} asks", _origins(found), found, kept))
    return rankings


def _mixed_index(repos: Repos, space: SharedSpace) -> LatentIndex:
    """The articles in the shared space: even rows as MiniLM saw them, odd rows as MPNet did."""
    news = repos.latents("demo-news", "test")
    latents = zip(VIEWS, (news.source, news.target), strict=True)
    vectors = np.stack([space.translator(name).transform(x) for name, x in latents])
    rows = np.arange(len(news))
    articles = zip(news.rows["title"], news.rows["label"], strict=True)
    items = [
        {"title": title, "label": label, "encoder": VIEWS[row % 2]}
        for row, (title, label) in enumerate(articles)
    ]
    return LatentIndex.from_latents(vectors[rows % 2, rows], items, space=space.space_)


def _origins(found: list[dict[str, Any]]) -> str:
    counts = (
        f"{sum(hit['item']['encoder'] == name for hit in found)} encoded by {name}"
        for name in VIEWS
    )
    return ", ".join(counts)


def _overlap(found: list[dict[str, Any]], kept: set[int]) -> str:
    same = sum(hit["row"] in kept for hit in found)
    return f"{same} of {len(kept)} are MPNet's own (overlap@{len(kept)})"


def _ranking(title: str, note: str, found: list[dict[str, Any]], kept: set[int]) -> Ranked:
    rows = [
        {
            "title": hit["item"]["title"],
            "label": _tag(hit["item"]),
            "score": f"cosine {hit['score']:.2f}",
            "row": hit["row"],
            "same": hit["row"] in kept,
        }
        for hit in found
    ]
    return {"title": title, "note": note, "found": rows}


def _tag(item: dict[str, Any]) -> str:
    """The class of an article and, in an index of both, the encoder that it came from."""
    origin = f" · encoded by {item['encoder']}" if "encoder" in item else ""
    return f"{item['label']}{origin}"
