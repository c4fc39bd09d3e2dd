"""fit_translator: the same map as fitting all latents at once, and errors that say which pairs."""

import functools
import threading

import numpy as np
import pytest
import torch
from tiny_models import DE, EN, bert_repo, sentence_repo, sentences, text_dataset_repo

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    SpaceSpec,
    fit_translator,
    load_encoder,
    load_pairs,
)
from hf_latent_bridge.data.pairs import as_pairs
from hf_latent_bridge.errors import (
    EncoderError,
    InvalidLatentsError,
    InvalidPairsError,
    RankWarning,
)
from hf_latent_bridge.fitting.encoding import EncodingLoop, Side

# encoders with random weights tell nothing about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")

NUMBERS = [str(i) for i in range(50)]


def vectors(width, *, seed=0):
    """An encoder that gives the text of a number a fixed random latent."""
    table = torch.randn(len(NUMBERS), width, generator=torch.Generator().manual_seed(seed))
    return lambda items: table[[int(item) for item in items]]


def spoiled(encoder, item, value):
    """The same encoder, with one item's latent spoiled."""

    def spoil(items):
        latents = encoder(items).clone()
        if item in items:
            latents[items.index(item), 1] = value
        return latents

    return spoil


@functools.cache
def encoders():
    """Two whose norms, unlike a bare layer norm, leave no direction out."""
    return tuple(load_encoder(sentence_repo(normalize=True, seed=seed)) for seed in (0, 1))


def texts():
    return sentences(40, EN, seed=5), sentences(40, DE, seed=5)


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("make", [OrthoTranslator, lambda: AffineTranslator(alpha=0.1)])
def test_the_map_equals_a_fit_on_all_latents_at_once(make, chunk):
    source, target = encoders()
    english, german = texts()
    fitted = fit_translator(make(), source, target, (english, german), chunk_size=chunk)
    x, y = source.encode(english), target.encode(german)
    expected = make().fit(x.double(), y.double())
    torch.testing.assert_close(fitted.transform(x), expected.transform(x), atol=1e-5, rtol=1e-4)
    assert fitted.n_pairs_ == 40


@pytest.mark.parametrize("batch_size", [1, 3, 200])
def test_the_batch_size_changes_nothing(batch_size):
    source, target = encoders()
    reference = fit_translator(OrthoTranslator(), source, target, texts())
    fitted = fit_translator(OrthoTranslator(), source, target, texts(), batch_size=batch_size)
    torch.testing.assert_close(fitted.map_.weight, reference.map_.weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3, 200])
def test_rounding_noise_of_a_layer_norms_hyperplane_is_not_taken_for_a_direction(batch_size):
    encoder = load_encoder(bert_repo())
    with pytest.warns(RankWarning, match="15 of 16 directions"):
        fit_translator(OrthoTranslator(), encoder, encoder, texts(), batch_size=batch_size)


def test_each_side_is_encoded_by_its_own_encoder_from_its_own_column():
    asked = {"source": [], "target": []}

    def recording(side, width):
        return lambda items: asked[side].extend(items) or vectors(width)(items)

    pairs = NUMBERS[:20], NUMBERS[20:40]
    fitted = fit_translator(
        OrthoTranslator(), recording("source", 3), recording("target", 4), pairs
    )
    assert (asked["source"], asked["target"]) == pairs
    assert (fitted.source_.dim, fitted.target_.dim) == (3, 4)


def test_the_spaces_and_the_dataset_are_recorded_and_survive_a_save(tmp_path):
    source, target = encoders()
    pairs = load_pairs(text_dataset_repo(), split="train", source="text", target="de", max_pairs=60)
    fit_translator(OrthoTranslator(), source, target, pairs).save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert (loaded.source_, loaded.target_) == (source.space, target.space)
    assert loaded.dataset_ == pairs.dataset
    assert loaded.n_pairs_ == 60


def test_callables_are_recorded_by_their_width_alone_and_lists_by_nothing():
    fitted = fit_translator(OrthoTranslator(), vectors(3), vectors(4), (NUMBERS, NUMBERS))
    assert (fitted.source_, fitted.target_) == (SpaceSpec(3), SpaceSpec(4))
    assert fitted.dataset_ == {}


def test_the_translator_itself_is_given_back_and_earlier_pairs_are_forgotten():
    translator = OrthoTranslator()
    fit_translator(translator, vectors(3), vectors(3, seed=1), (NUMBERS, NUMBERS))
    again = fit_translator(translator, vectors(4), vectors(4, seed=2), (NUMBERS, NUMBERS))
    assert again is translator
    fresh = fit_translator(OrthoTranslator(), vectors(4), vectors(4, seed=2), (NUMBERS, NUMBERS))
    assert torch.equal(again.map_.weight, fresh.map_.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_map_is_float32_whatever_the_encoders_give(dtype):
    def encoder(items):
        return vectors(3)(items).to(dtype)

    fitted = fit_translator(OrthoTranslator(), encoder, encoder, (NUMBERS, NUMBERS))
    assert fitted.map_.weight.dtype == fitted.map_.bias.dtype == torch.float32


def test_products_in_float32_are_near_those_in_float64_and_are_told_as_less_precise():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3000, 20)).astype(np.float32) + 5
    y = (x @ draw.normal(size=(20, 30)) + draw.normal(size=(3000, 30))).astype(np.float32)
    exact = fit_translator(LinearTranslator(), None, None, (x, y))
    fast = fit_translator(LinearTranslator(), None, None, (x, y), gemm_dtype=torch.float32)
    for name, expected in exact.moments_.to_tensors().items():
        got = fast.moments_.to_tensors()[name]
        assert got.dtype == torch.float64
        assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()
    torch.testing.assert_close(fast.map_.weight, exact.map_.weight, atol=1e-4, rtol=1e-4)
    assert (fast.moments_.eps, exact.moments_.eps < 1e-11) == (torch.finfo(torch.float32).eps, True)
    with pytest.raises(ValueError, match=r"float32 or torch\.float64, got torch\.float16"):
        fit_translator(LinearTranslator(), None, None, (x, y), gemm_dtype=torch.float16)


def test_encoders_that_track_gradients_leave_none_in_the_map():
    weight = torch.ones(3, requires_grad=True)
    fitted = fit_translator(
        OrthoTranslator(), lambda items: vectors(3)(items) * weight, vectors(3), (NUMBERS, NUMBERS)
    )
    assert not fitted.map_.weight.requires_grad


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_latent_that_is_not_finite_is_refused_with_its_side_and_row(side, value):
    encoders = {"source": vectors(3), "target": vectors(4)}
    encoders[side] = spoiled(encoders[side], "25", value)
    expected = rf"row 25 of the {side} column is encoded as NaN or infinity: drop this pair"
    with pytest.raises(InvalidLatentsError, match=expected):
        fit_translator(OrthoTranslator(), **encoders, pairs=(NUMBERS, NUMBERS), chunk_size=20)


def test_an_encoder_that_changes_its_dim_is_refused():

    def narrower(items):
        return vectors(3 if "45" in items else 4)(items)

    expected = (
        "among pairs 40 to 49: the source encoder must give .* one dim, got 4 before and 3 now"
    )
    with pytest.raises(EncoderError, match=expected):
        fit_translator(OrthoTranslator(), narrower, vectors(4), (NUMBERS, NUMBERS), chunk_size=20)


def test_an_encoder_that_drops_an_item_is_refused():
    with pytest.raises(EncoderError, match=r"among pairs 0 to 49: .* one row per item, \(50, d\)"):
        fit_translator(
            OrthoTranslator(), lambda items: vectors(3)(items[1:]), vectors(3), (NUMBERS, NUMBERS)
        )


def test_a_blank_text_is_refused_with_its_row_and_side():
    blank = [*NUMBERS[:30], " ", *NUMBERS[31:]]
    with pytest.raises(InvalidPairsError, match="row 30 of the target column is an empty text"):
        fit_translator(OrthoTranslator(), vectors(3), vectors(3), (NUMBERS, blank), chunk_size=20)


def test_items_that_are_no_texts_are_refused_with_their_place():
    encoder = load_encoder(bert_repo())
    numbers = [*NUMBERS[:30], 30, *NUMBERS[31:]]
    with pytest.raises(InvalidPairsError, match="among pairs 20 to 39: item 10 must be a text"):
        fit_translator(OrthoTranslator(), encoder, encoder, (numbers, NUMBERS), chunk_size=20)


@pytest.mark.parametrize("given", ["ortho", OrthoTranslator, np.eye(9)])
def test_what_is_not_a_translator_is_refused_with_advice(given):
    with pytest.raises(ValueError, match=r"fit a translator such as OrthoTranslator\(\)"):
        fit_translator(given, None, None, (np.eye(9), np.eye(9)))


def test_a_refused_fit_leaves_the_translator_as_it_was():
    translator = fit_translator(OrthoTranslator(), vectors(3), vectors(3), (NUMBERS, NUMBERS))
    before = translator.map_.weight.clone()
    with pytest.raises(InvalidLatentsError):
        fit_translator(
            translator, spoiled(vectors(4), "9", float("nan")), vectors(4), (NUMBERS, NUMBERS)
        )
    assert torch.equal(translator.map_.weight, before)


@pytest.mark.parametrize("given", ["me/encoder", np.eye(9)])
def test_a_name_or_latents_in_place_of_an_encoder_are_refused_with_advice(given):
    with pytest.raises(EncoderError, match=r"^an encoder comes from load_encoder"):
        fit_translator(OrthoTranslator(), given, given, (NUMBERS, NUMBERS))


@pytest.mark.parametrize("size", ["chunk_size", "checkpoint_every"])
def test_a_size_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} must be an integer of at least 1, got 0"):
        fit_translator(OrthoTranslator(), vectors(3), vectors(3), (NUMBERS, NUMBERS), **{size: 0})


def test_a_missing_folder_for_the_bad_rows_is_told_before_anything_is_encoded(tmp_path):
    path = tmp_path / "none" / "bad.jsonl"
    with pytest.raises(FileNotFoundError, match=r"none/bad\.jsonl"):
        fit_translator(
            OrthoTranslator(), pytest.fail, pytest.fail, (NUMBERS, NUMBERS), bad_rows_file=path
        )


def test_a_bar_is_shown_only_when_asked_for(capfd):
    encoder, _ = encoders()
    fit_translator(OrthoTranslator(), encoder, encoder, texts())
    assert capfd.readouterr() == ("", "")
    fit_translator(OrthoTranslator(), encoder, encoder, texts(), progress=True)
    assert "40/40" in capfd.readouterr().err


@pytest.mark.parametrize("one_encoder", [False, True])
def test_reading_and_encoding_ahead_gives_the_same_chunks(one_encoder):
    source, target = encoders()
    pairs = as_pairs(([*texts()[0], ""], [*texts()[1], "last"]))
    sides = Side("source", source), Side("target", source if one_encoder else target)
    found = {}
    for ahead in (False, True):
        loop = EncodingLoop(pairs, sides, "test", chunk_size=7, on_bad_row="skip", ahead=ahead)
        found[ahead] = list(loop.run())
        assert {"reading", "source encode", "target encode"} <= loop.seconds.keys()
    for in_turn, ahead in zip(found[False], found[True], strict=True):
        assert in_turn.chunk.number == ahead.chunk.number
        assert in_turn.bad_rows == ahead.bad_rows
        for a, b in zip(in_turn.latents, ahead.latents, strict=True):
            torch.testing.assert_close(a, b)


def test_an_error_ahead_names_its_pairs_and_callables_stay_in_their_thread():
    here = threading.current_thread()

    def target(items):
        assert threading.current_thread() is here
        return vectors(3)(items)

    items = np.ones((len(NUMBERS), 4), dtype=np.float32)
    items[33, 2] = np.nan
    loop = EncodingLoop(
        as_pairs((items, NUMBERS)),
        (Side("source", None), Side("target", target)),
        "test",
        chunk_size=8,
        ahead=True,
    )
    with pytest.raises(InvalidPairsError, match="row 33 of the source column holds NaN"):
        list(loop.run())
