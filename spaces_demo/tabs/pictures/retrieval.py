"""Finds pictures by a text and captions by a picture, and labels a picture."""

from typing import Any

import look
from limits import Refusal, check_text
from PIL import Image
from repos import Repos

from hf_latent_bridge import Translator, zero_shot

TOP_K = 8
CAPTIONS = 5
SAMPLES = 12  # pictures to pick from
MAX_LABELS = 20
MAX_LABEL = 80  # characters

Shown = list[tuple[Image.Image, str]]
Facts = list[dict[str, str]]
Ranked = dict[str, Any]
Bars = dict[str, Any]


def choose_pictures(repos: Repos) -> Shown:
    """Some of the pictures of held-out folders, evenly spread, with their titles."""

    def load() -> Shown:
        rows = repos.latents("demo-pictures", "test").rows
        chosen = range(0, len(rows), max(1, len(rows) // SAMPLES))[:SAMPLES]
        return [(rows[row]["image"], rows[row]["title"]) for row in chosen]

    repos.decoder("picture-index")
    return repos.once("samples of demo-pictures", load)


def find_by_text(repos: Repos, text: str) -> tuple[Shown, Facts]:
    """The pictures that are nearest to a text, with title and cosine, and facts about the search.

    The pictures were encoded by a network that has never seen a text.
    """
    text = check_text(text, "a text")
    translator, index = repos.translator("title-to-picture"), repos.decoder("picture-index")
    rows = repos.latents("demo-pictures", "test").rows
    encoder = repos.encoder(translator.source_)
    facts: Facts = []
    with look.timed(facts, "text encoded in"):
        latents = encoder.encode([text])
    with look.timed(facts, "translated and searched in"):
        (found,) = index.search(translator.transform(latents), TOP_K)
    shown = [
        (rows[hit["item"]["row"]]["image"], f"{hit['item']['title']} · {hit['score']:.2f}")
        for hit in found
    ]
    return shown, [*facts, *measured(translator, "picture", "titles")]


def find_by_picture(repos: Repos, picture: Image.Image) -> tuple[Ranked, Facts]:
    """The titles that are nearest to a picture, and facts about the search."""
    translator, index = repos.translator("picture-to-title"), repos.decoder("title-index")
    encoder = repos.encoder(translator.source_)
    facts: Facts = []
    with look.timed(facts, "picture encoded in"):
        latents = encoder.encode([picture])
    with look.timed(facts, "translated and searched in"):
        (found,) = index.search(translator.transform(latents), CAPTIONS)
    rows = [
        {"title": hit["item"]["title"], "score": f"cosine {hit['score']:.2f}", "row": hit["row"]}
        for hit in found
    ]
    ranking = {"title": "Captions", "note": f"nearest of {len(index):,} titles", "found": rows}
    return ranking, [*facts, *measured(translator, "title", "pictures")]


def label_picture(repos: Repos, picture: Image.Image, labels: str) -> tuple[Bars, Facts]:
    """How near a picture is to each of the visitor's labels, and the time it took."""
    names = read_labels(labels)
    translator = repos.translator("picture-to-title")
    encoder, text_encoder = (
        repos.encoder(space) for space in (translator.source_, translator.target_)
    )
    facts: Facts = []
    with look.timed(facts, f"{len(names)} labels encoded in"):
        classify = zero_shot(encoder, translator, text_encoder, names)
    with look.timed(facts, "picture encoded, translated and compared in"):
        answers = classify(picture, top_k=len(names))
    rows = [
        {
            "label": answer["label"],
            "percent": round(100 * max(0.0, answer["score"]), 1),
            "score": f"cosine {answer['score']:.2f}",
            "best": answer is answers[0],
        }
        for answer in answers
    ]
    note = "nothing was trained on these labels"
    return {"title": "Your labels", "note": note, "labels": rows}, facts


def read_labels(text: str) -> list[str]:
    """The distinct labels in a text, one a line or between commas.

    Raises:
        Refusal: Fewer than two, more than 20, or one of more than 80 characters.
    """
    lines = check_text(text, "some labels").replace(",", "\n").splitlines()
    labels = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not 2 <= len(labels) <= MAX_LABELS:
        raise Refusal(
            f"Please type 2 to {MAX_LABELS} different labels, one a line or between commas; "
            f"this has {len(labels)}."
        )
    if (longest := max(map(len, labels))) > MAX_LABEL:
        raise Refusal(f"A label may have {MAX_LABEL} characters; one has {longest}.")
    return labels


def measured(translator: Translator, counterpart: str, items: str) -> Facts:
    """How often the true counterpart is among the ten nearest, and how often by chance."""
    scores = translator.metrics_
    name = f"right {counterpart} among the 10 nearest of {scores['n_pairs']:,}"
    return [
        {"name": name, "value": f"{100 * scores['translated']['recall@10']:.0f} % of {items}"},
        {"name": "by chance", "value": f"{100 * scores['shuffled']['recall@10']:.1f} %"},
    ]
