"""evaluate: numbers as worked by hand and by scikit-learn, chance that is chance, no mix-ups."""

import functools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity
from tiny_models import bert_repo, sentence_repo, text_dataset_repo

from hf_latent_bridge import (
    OrthoTranslator,
    SpaceSpec,
    evaluate,
    evaluate_latents,
    fit_translator,
    load_encoder,
    load_pairs,
)
from hf_latent_bridge.errors import (
    InvalidLatentsError,
    InvalidPairsError,
    NotFittedError,
    SpaceMismatchError,
)
from hf_latent_bridge.evaluation import Chance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fixed(weight, bias=None):
    """A translator that is exactly x @ weight + bias."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    x = normal(200, len(weight), seed=9).double()
    y = x @ weight + (0 if bias is None else bias)
    from hf_latent_bridge import LinearTranslator

    return LinearTranslator(scaling="center").fit(x, y)


def identity(width=2):
    return fixed(torch.eye(width))


def test_chance_is_that_of_the_shuffled_pairings_alone():
    chance = Chance.from_scores(torch.tensor([100.0, *range(1, 100)]))
    assert (chance.mean, chance.p_value) == (50, 0.01)
    assert (chance.p95, chance.p99) == pytest.approx(np.quantile(range(1, 100), [0.95, 0.99]))


def test_a_small_case_scores_as_worked_by_hand():
    predicted = [[1.0, 0], [0, 1], [1, 0.1]]
    target = [[1.0, 0.2], [1, 1], [0, 1]]
    report = evaluate_latents(identity(), np.array(predicted), np.array(target))
    ranks = [1, 2, 3]  # cosines: 1st row .98 .71 0; 2nd .20 .71 1; 3rd .995 .78 .10
    scores = report.translated
    cosines = [1 / 1.04**0.5, 0.5**0.5, 0.1 / 1.01**0.5]
    assert scores.cosine == pytest.approx(np.mean(cosines), abs=1e-5)
    assert scores.recall_at_1 == pytest.approx(1 / 3)
    assert scores.recall_at_10 == 1
    assert scores.mrr == pytest.approx(np.mean([1 / rank for rank in ranks]))
    residual = 0.2**2 + 1 + 1 + 0.9**2
    total = np.square(np.array(target) - np.mean(target, 0)).sum()
    assert scores.r2 == pytest.approx(1 - residual / total, abs=1e-5)


@pytest.mark.parametrize("widths", [(6, 6), (6, 4), (4, 6)])
def test_scores_equal_those_of_scikit_learn(widths):
    x, y = normal(60, widths[0]), normal(60, widths[1], seed=1)
    translator = fixed(normal(*widths, seed=2), 0.3)
    translated = translator.transform(x)
    raw = np.zeros((60, widths[1]), dtype=np.float32)
    raw[:, : min(widths)] = x[:, : min(widths)]
    report = evaluate_latents(translator, x, y)
    for scores, predicted in ((report.translated, translated.numpy()), (report.untranslated, raw)):
        similarity = cosine_similarity(predicted, y.numpy())
        own = np.diag(similarity)
        ranks = 1 + (similarity > own[:, None]).sum(1)
        assert scores.cosine == pytest.approx(own.mean(), abs=1e-5)
        expected = r2_score(y.numpy(), predicted, multioutput="variance_weighted")
        assert scores.r2 == pytest.approx(expected, abs=1e-4)
        assert scores.recall_at_1 == pytest.approx((ranks <= 1).mean())
        assert scores.recall_at_10 == pytest.approx((ranks <= 10).mean())
        assert scores.mrr == pytest.approx((1 / ranks).mean())


def test_a_perfect_translator_finds_every_counterpart():
    weight = normal(5, 7)
    x = normal(300, 5, seed=1)
    report = evaluate_latents(fixed(weight, 1.0), x, x @ weight + 1)
    values = report.translated.to_dict()
    assert values == pytest.approx(dict.fromkeys(values, 1.0), abs=1e-5)


def test_the_shuffled_row_is_near_chance_even_for_a_perfect_translator():
    x = normal(1000, 8)
    shuffled = evaluate_latents(identity(8), x, x).shuffled
    assert abs(shuffled.cosine) < 0.05
    assert shuffled.recall_at_1 < 0.01
    assert shuffled.recall_at_10 == pytest.approx(0.01, abs=0.012)
    assert shuffled.r2 == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("size", [1e-11, 1e15])
def test_scores_do_not_depend_on_the_size_of_the_latents(size):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :5] + 0.3
    reports = [
        evaluate_latents(OrthoTranslator().fit(x * s, y * s), x * s, y * s, n_permutations=9)
        for s in (1.0, size)
    ]
    plain, scaled = (report.to_dict() for report in reports)
    assert scaled["translated"] == pytest.approx(plain["translated"], abs=1e-5)
    for name, interval in plain["intervals"].items():
        assert scaled["intervals"][name] == pytest.approx(interval, abs=1e-5)


def test_equal_targets_do_not_inflate_retrieval():
    report = evaluate_latents(identity(), normal(50, 2), torch.ones(50, 2))
    assert report.translated.recall_at_1 == 0
    assert report.translated.recall_at_10 == 0
    assert report.translated.mrr == pytest.approx(1 / 25.5)


def test_r2_is_left_out_where_targets_do_not_vary_so_that_the_report_is_json():
    report = evaluate_latents(identity(), normal(1, 2), torch.ones(1, 2))
    assert report.n_pairs == 1
    content = report.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert list(content["translated"]) == ["cosine", "recall@1", "recall@10", "mrr"]
    assert "r2" not in str(report)
    equal = evaluate_latents(identity(), normal(50, 2), torch.full((50, 2), 0.1))
    assert "r2" not in equal.to_dict()["translated"]
    assert equal.p_value == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_score_nearly_alike(dtype):
    x, y = normal(40, 4), normal(40, 4, seed=1)
    expected = evaluate_latents(identity(4), x, y).translated.to_dict()
    scores = evaluate_latents(identity(4), x.to(dtype), y.to(dtype)).translated.to_dict()
    assert scores["cosine"] == pytest.approx(expected["cosine"], abs=0.01)
    assert scores["r2"] == pytest.approx(expected["r2"], abs=0.01)


def test_the_seed_decides_shuffles_and_intervals_and_nothing_else():
    x, y = normal(40, 4), normal(40, 4, seed=1)
    one, same, other = (evaluate_latents(identity(4), x, y, seed=seed) for seed in (3, 3, 4))
    assert one == same
    random = ("shuffled", "intervals", "chance", "settings")
    assert all(getattr(one, name) != getattr(other, name) for name in random)
    assert replace(other, **{name: getattr(one, name) for name in random}) == one


def test_each_score_lies_in_its_interval_and_apart_from_chance():
    x, noise = normal(300, 4), normal(300, 4, seed=1)
    report = evaluate_latents(identity(4), x, x + noise / 2)
    shuffled = report.shuffled.to_dict()
    for name, score in report.translated.to_dict().items():
        lower, upper = report.intervals[name]
        assert lower < score < upper
        chance = report.chance[name]
        assert shuffled[name] == chance.mean <= chance.p95 <= chance.p99 < lower
        assert chance.p_value == 1 / 1001


def test_a_translator_that_knows_nothing_is_told_so():
    report = evaluate_latents(identity(4), normal(300, 4), normal(300, 4, seed=1))
    assert all(chance.p_value > 0.01 for chance in report.chance.values())
    assert report.no_better_than_shuffled
    assert f"no better than on shuffled pairs (p = {report.p_value:.2g})" in str(report)


@pytest.mark.parametrize("n_permutations", [10, 1000])
def test_a_translator_that_knows_something_is_not_called_no_better_than_shuffled(n_permutations):
    x, y = normal(300, 4), normal(300, 4) + normal(300, 4, seed=1)
    report = evaluate_latents(identity(4), x, y, n_permutations=n_permutations)
    assert report.p_value == 1 / (n_permutations + 1)
    assert not report.no_better_than_shuffled
    assert "no better" not in str(report)


def test_cka_is_1_where_the_map_turns_and_scales_and_rises_where_it_mends_the_shape():
    x = normal(200, 4) * torch.tensor([5.0, 1, 1, 1])
    stretch = torch.diag(torch.tensor([0.1, 1, 3, 1]))
    turned = evaluate_latents(fixed(2 * torch.eye(4), 1.0), x, 2 * x + 1).cka
    assert turned == pytest.approx(dict.fromkeys(turned, 1.0), abs=1e-4)
    mended = evaluate_latents(fixed(stretch), x, x @ stretch).cka
    assert mended["source"] < 0.5
    assert mended["source_debiased"] < 0.5
    assert mended["translated"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pairs", [None, "me/pairs", [("a", "b")], (normal(3, 2),) * 3, 5])
def test_what_is_not_pairs_is_refused(pairs):
    with pytest.raises(InvalidPairsError, match=r"pairs .* two lists"):
        evaluate(identity(), None, None, pairs)
    with pytest.raises(InvalidPairsError, match=r"pairs .* two lists"):
        fit_translator(OrthoTranslator(), None, None, pairs)


@pytest.mark.parametrize("option", ["n_bootstrap", "n_permutations"])
def test_no_draws_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be an integer of at least 1, got 0"):
        evaluate_latents(identity(), normal(5, 2), normal(5, 2), **{option: 0})


def test_latents_that_track_gradients_are_scored():
    x = normal(10, 2).requires_grad_()
    assert evaluate_latents(identity(), x, x).translated.recall_at_1 == 1


@pytest.mark.parametrize("shape", [(5, 3), (4, 2), (5,), (0, 2)])
def test_targets_of_another_shape_are_refused_with_both(shape):
    with pytest.raises(InvalidLatentsError, match=r"of shape \(5, 2\), .* got shape \("):
        evaluate_latents(identity(), normal(5, 2), torch.zeros(shape))


def test_numbers_that_float32_does_not_hold_are_refused_as_such():
    x = 1e50 * normal(5, 2).double()
    with pytest.raises(InvalidLatentsError, match=r"float32, and they hold values up to .*e\+50"):
        evaluate_latents(identity(), x, x)


def test_no_pairs_are_refused():
    with pytest.raises(InvalidLatentsError, match="at least one row"):
        evaluate_latents(identity(), torch.zeros(0, 2), torch.zeros(0, 2))


def test_sources_of_another_width_are_refused_with_both():
    with pytest.raises(InvalidLatentsError, match=r"3 features, but .* expecting 2"):
        evaluate_latents(identity(), normal(5, 3), normal(5, 2))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused_with_the_row(side, value):
    latents = [normal(5, 2), normal(5, 2)]
    latents[side][3, 1] = value
    with pytest.raises(InvalidLatentsError, match="in 1 of 5 rows, first in row 3"):
        evaluate_latents(identity(), *latents)


def test_a_report_prints_as_a_table_with_one_row_per_comparison():
    report = evaluate_latents(identity(4), normal(1200, 4), normal(1200, 4, seed=1))
    lines = str(report).splitlines()
    assert lines[0].split() == ["1,200", "pairs", "cosine", "r2", "recall@1", "recall@10", "mrr"]
    rows = ["translated", "95 % interval", "untranslated", "shuffled"]
    assert [line[:14].strip() for line in lines[1:5]] == rows
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[1].split()[1] == f"{report.translated.cosine:.3f}"
    assert lines[2].split()[3] == "{:.3f}..{:.3f}".format(*report.intervals["cosine"])


# With encoders ------------------------------------------------------------------------------


@functools.cache
def encoders():
    return load_encoder(bert_repo(), normalize=True), load_encoder(
        sentence_repo(normalize=True, seed=1)
    )


@functools.cache
def fitted():
    pairs = load_pairs(text_dataset_repo(), split="train", source="text", target="de")
    return fit_translator(OrthoTranslator(), *encoders(), pairs)


def test_held_out_pairs_are_scored_as_their_latents_are_and_can_go_on_the_card(tmp_path):
    translator, (source, target) = fitted(), encoders()
    pairs = load_pairs(text_dataset_repo(), split="test", source="text", target="de")
    report = evaluate(translator, source, target, pairs)
    x, y = source.encode(pairs.source[:]), target.encode(pairs.target[:])
    expected = evaluate_latents(translator, x, y, dataset=pairs.dataset)
    assert report == expected
    assert report.dataset["split"] == "test"
    translator.save_pretrained(tmp_path, metrics=report)
    assert json.loads((tmp_path / "config.json").read_text())["metrics"] == report.to_dict()


@pytest.mark.parametrize("side", ["source", "target"])
def test_another_encoder_than_the_fitted_one_is_refused_before_it_encodes(side):
    class Other:
        space = SpaceSpec(16, repo_id="me/other", modality="text")

        def encode(self, items, *, batch_size=32, progress=False):
            raise AssertionError("must not be asked")

    sides = dict(zip(("source", "target"), encoders(), strict=True))
    translator = fitted()
    sides[side] = Other()
    expected = rf"translator's {side} is alice/tiny.* gives me/other \(dim=16\).*repo_id: "
    with pytest.raises(SpaceMismatchError, match=expected):
        evaluate(translator, **sides, pairs=(["a dog"], ["ein hund"]))


@pytest.mark.parametrize("option", [{"pooling": "cls"}, {"normalize": False}])
def test_the_same_repo_used_otherwise_is_refused(option):
    with pytest.raises(SpaceMismatchError, match=next(iter(option))):
        evaluate(
            fitted(), load_encoder(bert_repo(), **option), encoders()[1], (["a dog"], ["ein hund"])
        )


def test_callables_are_scored_and_held_to_the_width():
    texts = [str(i) for i in range(20)]
    table = normal(20, 2)
    report = evaluate(identity(), lambda items: table, lambda items: table, (texts, texts))
    assert report.translated.recall_at_1 == 1
    assert report.to_dict()["dataset"] == {}
    with pytest.raises(InvalidLatentsError, match=r"3 features, but .* expecting 2"):
        evaluate(identity(), lambda items: normal(20, 3), lambda items: table, (texts, texts))


def test_a_translator_that_was_not_fitted_is_refused():
    with pytest.raises(NotFittedError, match="not fitted"):
        evaluate(OrthoTranslator(), *encoders(), (["a dog"], ["ein hund"]))
    with pytest.raises(NotFittedError, match="not fitted"):
        evaluate_latents(OrthoTranslator(), normal(5, 2), normal(5, 2))
    with pytest.raises(TypeError, match=r"a translator comes from .* got str 'ortho'"):
        evaluate_latents("ortho", normal(5, 2), normal(5, 2))


def test_missing_items_are_refused_before_anything_is_encoded():
    with pytest.raises(InvalidPairsError, match="row 1 of the source column is missing"):
        evaluate(identity(), pytest.fail, pytest.fail, (["a", None], ["b", "c"]))


def test_a_stream_is_scored_as_the_same_pairs_in_memory():
    """Row by row of unequal chunks; their sums round otherwise, so the scores may too."""
    options = {"split": "test", "source": "text", "target": "de"}
    reports = [
        evaluate(
            fitted(),
            *encoders(),
            load_pairs(text_dataset_repo(), **options, streaming=streaming),
            chunk_size=7,
        )
        for streaming in (False, True)
    ]
    assert reports[0] == reports[1]
    assert reports[1].n_pairs == 60


def test_a_stream_that_memory_should_not_hold_is_refused_with_the_way_out():
    options = {"split": "test", "source": "text", "target": "de", "streaming": True}
    with pytest.raises(InvalidPairsError, match=r"at most those of 59 .* max_pairs"):
        evaluate(fitted(), *encoders(), load_pairs(text_dataset_repo(), **options), max_streamed=59)
    sample = load_pairs(text_dataset_repo(), **options, max_pairs=59)
    assert evaluate(fitted(), *encoders(), sample, max_streamed=59).n_pairs == 59


def test_latents_that_are_given_are_scored_as_they_are_and_held_to_their_space():
    x, y = normal(20, 2), normal(20, 2, seed=1)
    report = evaluate(identity(), None, SpaceSpec(2), (x.numpy(), y.numpy()))
    assert report == evaluate_latents(identity(), x, y)
    with pytest.raises(SpaceMismatchError, match="dim"):
        evaluate(identity(), SpaceSpec(3), None, (x.numpy(), y.numpy()))


def test_bad_rows_are_skipped_and_counted_when_asked_for():
    x, y = normal(30, 2), normal(30, 2, seed=1)
    spoiled = x.clone()
    spoiled[[4, 20]] = float("nan")
    pairs = spoiled.numpy(), y.numpy()
    with pytest.raises(InvalidPairsError, match="row 4 of the source column holds NaN"):
        evaluate(identity(), None, None, pairs)
    report = evaluate(identity(), None, None, pairs, on_bad_row="skip", chunk_size=4)
    good = [row for row in range(30) if row not in (4, 20)]
    dataset = {"bad_rows_skipped": 2}
    assert report == evaluate_latents(identity(), x[good], y[good], dataset=dataset)
    with pytest.raises(InvalidPairsError, match="got none of 2"):
        evaluate(
            identity(), None, None, (spoiled[[4, 20]].numpy(), y[:2].numpy()), on_bad_row="skip"
        )


def test_a_bad_item_of_a_later_chunk_is_named_by_its_row_in_the_dataset():
    texts = [str(row) for row in range(20)]
    source, target = encoders()
    with pytest.raises(InvalidPairsError, match="among pairs 14 to 19: item 3 must be a text"):
        evaluate(fitted(), source, target, ([*texts[:17], 17, *texts[18:]], texts), chunk_size=7)


def test_scores_are_plain_floats():
    report = evaluate_latents(identity(), normal(5, 2), normal(5, 2))
    assert {type(value) for value in asdict(report.translated).values()} == {float}
