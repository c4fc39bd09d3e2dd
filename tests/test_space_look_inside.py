"""The tab "Look inside": its numbers are those of the repo and of trusted references."""

import numpy as np
import pytest
import torch
from gradio_client.exceptions import AppError
from limits import Refusal, answering
from tabs.look_inside import inspection
from tabs.look_inside import tab as look_inside
from tabs.look_inside.inspection import inspect_repo

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    KernelTranslator,
    LinearTranslator,
    OrthoTranslator,
    SpaceSpec,
    compose,
    evaluate_latents,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(repos):
    return repos.settings.repo_id("minilm-to-mpnet")


@pytest.fixture(scope="module")
def numbers(repos, own):
    return inspect_repo(repos, own)


@pytest.fixture(scope="module")
def latents(repos):
    return repos.latents("demo-news", "test")


def random_translator(n=200, *, width=6, related=True, metrics=None):
    """A translator between made-up spaces, and the report on held-out pairs or other metrics."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2 * n, width, generator=draw)
    y = torch.randn(2 * n, width, generator=draw) + 5 * related * x.flip(1)
    translator = OrthoTranslator().fit(
        x[:n], y[:n], source=SpaceSpec(width, "me/x"), target=SpaceSpec(width, "me/y")
    )
    report = evaluate_latents(translator, x[n:], y[n:], n_bootstrap=20, n_permutations=50)
    return translator, report if metrics is None else metrics


def push_random(repo_id, *, private=None, **options):
    translator, metrics = random_translator(**options)
    translator.push_to_hub(repo_id, private=private, metrics=metrics)


def test_the_record_is_the_repos_own(own, numbers):
    translator = AutoTranslator.from_pretrained(own)
    assert (numbers["repo_id"], numbers["commit"]) == (own, translator.commit)
    assert numbers["method"] == translator.translator_type
    assert numbers["params"] == translator.get_params()
    assert SpaceSpec(**numbers["source"]) == translator.source_
    assert SpaceSpec(**numbers["target"]) == translator.target_
    assert numbers["n_pairs"] == translator.n_pairs_
    for score in numbers["scores"]:
        name, metrics = score["score"], translator.metrics_
        assert score["translated"] == metrics["translated"][name]
        assert score["interval"] == metrics["intervals"][name]
        assert score["untranslated"] == metrics["untranslated"][name]
        assert score["chance"] == metrics["shuffled"][name]
        assert score["p_value"] == metrics["chance"][name]["p_value"]


def test_the_spectrum_is_numpys(own, numbers):
    weight = AutoTranslator.from_pretrained(own).map_.weight.numpy()
    expected = np.linalg.svd(weight, compute_uv=False)
    np.testing.assert_allclose(numbers["singular_values"], expected, rtol=1e-4, atol=1e-5)


def test_cosines_are_those_of_the_report_and_of_every_other_pairing(own, numbers, latents):
    translator = AutoTranslator.from_pretrained(own)
    report = evaluate_latents(
        translator, latents.source, latents.target, n_bootstrap=1, n_permutations=2000
    )
    assert numbers["n_items"] == len(latents)
    assert numbers["mean_cosine"]["own"] == pytest.approx(report.translated.cosine, abs=1e-5)
    assert numbers["mean_cosine"]["others"] == pytest.approx(report.shuffled.cosine, abs=0.02)
    for pair in ("own", "others"):
        assert sum(row[pair] for row in numbers["cosines"]) == pytest.approx(100)
        mean = sum(row["cosine"] * row[pair] for row in numbers["cosines"]) / 100
        assert mean == pytest.approx(numbers["mean_cosine"][pair], abs=1 / inspection.BINS)


def test_the_projection_is_numpys_principal_plane_of_the_targets(numbers, latents):
    centred = latents.target - latents.target.mean(0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    points = [p for p in numbers["points"] if p["latents"] == "target"]
    expected = centred[: inspection.SHOWN] @ axes[:2].T
    np.testing.assert_allclose(
        np.abs([[p["x"], p["y"]] for p in points]), np.abs(expected), 1e-2, 1e-4
    )
    assert numbers["explained"] == pytest.approx((s[:2] ** 2).sum() / (s**2).sum(), rel=1e-4)
    assert [p["item"] for p in points] == latents.rows["title"][: inspection.SHOWN]


def test_a_translator_the_other_way_round_is_compared_on_the_same_items(repos):
    back = inspect_repo(repos, repos.settings.repo_id("picture-to-title"))
    assert back["n_items"] == len(repos.latents("demo-pictures", "test"))


def test_anothers_translator_of_the_same_spaces_is_compared_too(repos, own, latents, repo_id):
    known = AutoTranslator.from_pretrained(own)
    train = repos.latents("demo-news", "train")
    other = AffineTranslator(alpha=1.0)
    other.fit(train.source, train.target, source=known.source_, target=known.target_)
    other.push_to_hub(repo_id)
    numbers = inspect_repo(repos, repo_id)
    assert numbers["n_items"] == len(latents)
    assert "states no scores" in " ".join(numbers["warnings"])


def test_how_a_map_was_chosen_is_shown_with_its_curve(repos, repo_id):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(100, 8))
    y = x @ draw.normal(size=(8, 6)) + draw.normal(size=(100, 6))
    fitted = AffineTranslator(alpha="auto").fit(x, y)
    fitted.push_to_hub(repo_id)
    shown = inspect_repo(repos, repo_id)["selection"]
    assert shown == {"summary": str(fitted.selection_), "curve": fitted.selection_.plot()}


def test_where_no_latents_are_published_there_is_no_picture(repos, repo_id):
    push_random(repo_id)
    numbers = inspect_repo(repos, repo_id)
    assert numbers["points"] == numbers["cosines"] == []
    assert numbers["warnings"] == []
    assert len(numbers["singular_values"]) == 6


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"n": 20, "width": 40}, "20 pairs, fewer than the 40 dimensions"),
        ({"n": 50}, "Scored on 50 pairs only"),
        ({"related": False}, "Perhaps no better than chance"),
        ({"metrics": {}}, "states no scores"),
        (
            {"metrics": {"n_pairs": 500, "translated": {"mrr": 0.1}, "untranslated": {"mrr": 0.2}}},
            "No better than no translation in MRR",
        ),
    ],
    ids=["pairs", "test pairs", "chance", "no scores", "untranslated"],
)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
def test_a_weak_fit_is_warned_of(repos, repo_id, options, warning):
    push_random(repo_id, **options)
    assert warning in " ".join(inspect_repo(repos, repo_id)["warnings"])


@pytest.mark.parametrize(
    "metrics",
    [
        {"translated": "great", "n_pairs": "many"},
        {"translated": {"cosine": "<b>1</b>", "mrr": True}, "chance": [1]},
        {"translated": [1, 2]},
        {"translated": {"x" * 1000: 1}},
    ],
)
def test_scores_that_are_no_numbers_count_as_none(repos, repo_id, metrics):
    push_random(repo_id, metrics=metrics)
    assert inspect_repo(repos, repo_id)["scores"] == []


@pytest.mark.parametrize(
    "name",
    [None, "", "minilm", "/etc/passwd", "../tests", "a/../b", "a/b/c", "me/x y", "x" * 10_000_000],
    ids=["none", "empty", "bare", "path", "up", "dots", "deep", "space", "long"],
)
def test_what_is_no_repo_id_is_refused(repos, name):
    with pytest.raises(Refusal, match="Please type the id of a translator's repo"):
        inspect_repo(repos, name)


def test_an_unknown_repo_is_said_to_be_none(repos):
    with pytest.raises(Refusal, match="There is no public repo nobody/nothing on this Hub"):
        inspect_repo(repos, "nobody/nothing")


def test_a_private_repo_is_not_shown(repos, repo_id):
    push_random(repo_id, private=True)
    with pytest.raises(Refusal, match="There is no public repo"):
        inspect_repo(repos, repo_id)


def test_a_map_that_is_not_affine_has_no_spectrum_to_show(repos, repo_id):
    draw = np.random.default_rng(0)
    x, matrix = draw.normal(size=(50, 4)), draw.normal(size=(4, 5))
    KernelTranslator().fit(x, x @ matrix).push_to_hub(repo_id)
    with pytest.raises(Refusal, match="not an affine map"):
        inspect_repo(repos, repo_id)


def test_a_folder_of_the_space_is_not_taken_for_a_repo(repos, repo_id, tmp_path, monkeypatch):
    push_random(repo_id)
    random_translator()[0].save_pretrained(tmp_path / repo_id)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="try another repo"):
        inspect_repo(repos, repo_id)


@pytest.mark.parametrize("limit", ["MAX_CONFIG", "MAX_WEIGHTS"])
def test_a_large_repo_is_refused_before_it_is_downloaded(repos, repo_id, monkeypatch, limit):
    push_random(repo_id)
    monkeypatch.setattr(inspection, limit, 100)
    monkeypatch.setattr(inspection, "AutoTranslator", None)
    with pytest.raises(Refusal, match="bytes; up to 100 can be looked at"):
        inspect_repo(repos, repo_id)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
def test_narrow_maps_in_a_row_are_not_multiplied_to_a_huge_one(repos, repo_id, monkeypatch):
    x = np.random.default_rng(0).normal(size=(200, 100))
    narrow, wide = LinearTranslator().fit(x, x[:, :1]), LinearTranslator().fit(x[:, :1], x)
    compose(narrow, wide).push_to_hub(repo_id)
    monkeypatch.setattr(inspection, "MAX_WEIGHTS", 20_000)
    with pytest.raises(Refusal, match="100 times 100 numbers; up to 5,000 can be looked at"):
        inspect_repo(repos, repo_id)


def test_a_repo_that_holds_no_translator_is_refused_in_one_sentence(repos):
    inspect = answering(lambda name: inspect_repo(repos, name))
    with pytest.raises(Refusal, match="not a translator's, for it states decoder_type 'head'"):
        inspect(repos.settings.repo_id("news-head"))


def test_the_endpoint_gives_the_same_numbers(space, own, numbers):
    given = space.predict(own, api_name="/inspect_translator")
    for name in set(numbers) - {"seconds", "points"}:
        assert given[name] == numbers[name], name


def test_the_endpoint_refuses_an_unknown_repo(space):
    with pytest.raises(AppError, match="There is no public repo nobody/nothing"):
        space.predict("nobody/nothing", api_name="/inspect_translator")


def test_the_code_that_is_shown_runs(own, capsys):
    exec(look_inside.CODE.format(repo_id=own), {})
    assert str(AutoTranslator.from_pretrained(own).source_) in capsys.readouterr().out
