"""The tab "Zero-shot stitching": labels and accuracies are the library's own."""

import numpy as np
import pytest
from datasets import load_dataset
from gradio_client.exceptions import AppError
from limits import MAX_TEXT, Refusal
from methods import label, methods
from tabs.stitching.classification import ANCHORS, READERS, classify_by_each
from tabs.stitching.tab import CODE

from hf_latent_bridge import (
    AutoTranslator,
    OrthoTranslator,
    fit_head,
    fit_translator,
    load_decoder,
    load_encoder,
    load_pairs,
    stitch,
)
from hf_latent_bridge.translators.base import TRANSLATORS

# layer norms leave one direction of the small encoders' latents empty
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning"),
]
TEXT = "the red dog runs"
CHOICES = ("MiniLM", "affine", 1000)


def percent(bars):
    return {row["label"]: row["percent"] for row in bars["labels"]}


def accuracy(bars):
    return float(bars["note"].removeprefix("right for ").split(" %")[0])


def expected(model):
    answers = model(TEXT, top_k=2)
    return {answer["label"]: pytest.approx(100 * answer["score"], abs=0.1) for answer in answers}


@pytest.fixture(scope="module")
def published(repos):
    return AutoTranslator.from_pretrained("acme/minilm-to-mpnet")


@pytest.fixture(scope="module")
def rows(repos):
    splits = load_dataset("acme/demo-news")
    columns = {split: data[:] for split, data in splits.items()}
    for split in columns.values():
        for side in ("source", "target"):
            split[side] = np.array(split[side], dtype=np.float32)
    return columns


def test_native_and_untranslated_labels_are_the_heads_own(repos, published):
    native, _, untranslated, _ = classify_by_each(repos, TEXT, *CHOICES)
    head = load_decoder("acme/news-head")
    assert percent(native) == expected(stitch(load_encoder(published.target_), None, head))
    pad = repos.untranslated(24, 32)
    encoder = load_encoder(published.source_, device="cpu")
    assert percent(untranslated) == expected(stitch(encoder, pad, head))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("method", methods())
def test_stitched_labels_and_accuracy_are_those_of_a_translator_of_the_published_latents(
    repos, published, rows, reader, method
):
    sides, space = ("source", "target"), published.source_
    head = load_decoder("acme/news-head")
    if reader == "MPNet":
        sides, space = ("target", "source"), published.target_
        head = fit_head(rows["train"]["source"], rows["train"]["label"], space=published.source_)
    pairs = load_pairs("acme/demo-news", split="train", source=sides[0], target=sides[1])
    translator = fit_translator(methods()[method], space, head.space, pairs)
    _, stitched, _, _ = classify_by_each(repos, TEXT, reader, method, 1000)
    assert percent(stitched) == expected(stitch(load_encoder(space), translator, head))
    found = [answer["label"] for answer in head(translator.transform(rows["test"][sides[0]]))]
    right = np.mean([a == b for a, b in zip(found, rows["test"]["label"], strict=True)])
    assert accuracy(stitched) == pytest.approx(100 * right, abs=0.05)


@pytest.mark.parametrize("reader", READERS)
def test_a_stitched_head_is_nearly_as_good_as_native_and_far_above_untranslated(repos, reader):
    native, stitched, untranslated, _ = classify_by_each(repos, TEXT, reader, "affine", 1000)
    assert accuracy(native) > 95
    assert accuracy(stitched) > accuracy(native) - 5
    assert accuracy(untranslated) < 70


def test_more_anchors_help(repos):
    few, many = (classify_by_each(repos, TEXT, "MiniLM", "affine", n)[1] for n in (25, 250))
    assert accuracy(few) < accuracy(many)


def test_a_map_is_fitted_once_for_each_choice(repos):
    times = [classify_by_each(repos, TEXT, "MiniLM", "ortho", 100)[3] for _ in range(2)]
    fitted = [fact for facts in times for fact in facts if fact["name"].startswith("map fitted on")]
    assert fitted[0]["name"] == "map fitted on 100 anchors in"
    assert fitted[0] == fitted[1]


@pytest.fixture
def toy():
    """A translator type that somebody else's package registers."""

    class ToyTranslator(OrthoTranslator, translator_type="toy"):
        """A rotation."""

    yield "toy"
    del TRANSLATORS["toy"]


def test_a_registered_type_can_be_chosen_with_no_edit_of_the_space(repos, toy):
    assert toy in methods()
    *shown, _ = classify_by_each(repos, TEXT, "MiniLM", toy, 100)
    *expected, _ = classify_by_each(repos, TEXT, "MiniLM", "ortho", 100)
    assert shown == expected


def test_a_label_names_the_parameters_that_are_not_the_defaults():
    assert label(methods()["ortho"]) == "ortho"
    assert label(methods()["affine"]) == "affine (alpha 0.1)"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"text": ""}, "Please type a text"),
        ({"text": "x" * (MAX_TEXT + 1)}, "may have 2,000 characters; this has 2,001"),
        ({"reader": "BERT"}, "encoder must be one of MiniLM, MPNet"),
        ({"reader": None}, "encoder must be one of"),
        ({"method": "magic"}, f"method must be one of {', '.join(methods())}"),
        ({"method": ["affine"]}, "method must be one of"),
        ({"anchors": 26}, "anchors must be one of 25, 50"),
        ({"anchors": 1e9}, "anchors must be one of"),
        ({"anchors": None}, "anchors must be one of"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(repos, changed, sentence):
    good = {"text": TEXT, "reader": "MiniLM", "method": "affine", "anchors": ANCHORS[0]}
    with pytest.raises(Refusal, match=sentence):
        classify_by_each(repos, **{**good, **changed})


def test_the_api_gives_what_the_tab_shows(repos, space):
    answer = space.predict(TEXT, *CHOICES, api_name="/classify")
    assert list(answer[:3]) == list(classify_by_each(repos, TEXT, *CHOICES)[:3])


def test_the_api_refuses_what_the_tab_does_not_offer(space):
    with pytest.raises(AppError):
        space.predict(TEXT, "MiniLM", "magic", 500, api_name="/classify")
    with pytest.raises(AppError, match="Please type a text"):
        space.predict(" ", *CHOICES, api_name="/classify")


def test_the_code_beside_the_tab_gives_what_the_tab_shows(repos, capsys):
    exec(CODE.format(namespace="acme"), {})
    answers = eval(capsys.readouterr().out)
    text = "The striker scored twice in the last ten minutes."
    _, stitched, _, _ = classify_by_each(repos, text, "MiniLM", "affine", 500)
    assert percent(stitched) == {
        answer["label"]: pytest.approx(100 * answer["score"], abs=0.1) for answer in answers
    }
