"""A translator whose two sides both move, against the shared space that it is taken from."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from hf_latent_bridge import (
    AutoTranslator,
    LatentIndex,
    OrthoTranslator,
    Pairs,
    SharedSpace,
    SharedTranslator,
    SpaceSpec,
    TranslatorChoice,
    compose,
    evaluate,
    evaluate_latents,
    fit_translator,
    gate_latents,
    select_translator,
    translate_file,
)
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import ConfigError, InvalidLatentsError, WeightsError

DRAW = np.random.default_rng(0)
MEANING = DRAW.normal(size=(700, 12))
X, Y = (
    np.concatenate([MEANING, DRAW.normal(size=(700, own))], axis=1)
    @ DRAW.normal(size=(12 + own, d))
    for own, d in ((20, 32), (30, 40))
)
TRAIN, TEST = slice(0, 400), slice(400, 700)
OLD, NEW = (
    SpaceSpec(dim, repo_id=f"me/{name}", revision=name[0] * 40, modality="text")
    for name, dim in (("old", 32), ("new", 40))
)


@pytest.fixture(scope="module")
def fitted():
    return SharedTranslator(dim=12, alpha=1.0).fit(X[TRAIN], Y[TRAIN], source=OLD, target=NEW)


@pytest.fixture(scope="module")
def space():
    views = {"source": X[TRAIN], "target": Y[TRAIN]}
    return SharedSpace(12, alpha=1.0).fit(views, spaces={"source": OLD, "target": NEW})


def found(queries, items):
    return float((queries @ items.T).argmax(1).__eq__(np.arange(len(items))).mean())


def test_both_sides_are_those_of_the_shared_space(fitted, space):
    source, target = space.translator("source"), space.translator("target")
    np.testing.assert_allclose(fitted.transform(X), source.transform(X), atol=1e-9)
    np.testing.assert_allclose(fitted.transform_target(Y), target.transform(Y), atol=1e-9)
    back = fitted.target_translator_.inverse_transform(fitted.transform(X))
    np.testing.assert_allclose(back, target.inverse_transform(source.transform(X)), atol=1e-7)
    assert fitted.target_ == space.space_
    assert fitted.target_translator_.source_ == NEW
    assert fitted.pair_spaces_ == (OLD, NEW)


@pytest.mark.parametrize("width", [12, 40])  # of the target: as the shared space, or wider
def test_the_score_is_that_of_both_sides_in_the_shared_space(width):
    y = Y[:, :width]
    fitted = SharedTranslator(dim=12, alpha=1.0).fit(X[TRAIN], y[TRAIN])
    predicted, target = fitted.transform(X[TEST]), fitted.transform_target(y[TEST])
    expected = r2_score(target, predicted, multioutput="variance_weighted")
    assert fitted.score(X[TEST], y[TEST]) == pytest.approx(expected)


def test_it_finds_more_counterparts_than_a_rotation(fitted):
    ortho = OrthoTranslator(scaling="center").fit(X[TRAIN], Y[TRAIN])
    plain = ortho.transform(X[TEST])
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (plain, Y[TEST])]
    shared = fitted.transform(X[TEST]), fitted.transform_target(Y[TEST])
    assert found(*shared) > found(*unit) + 0.1
    assert ortho.transform_target(Y) is Y
    composed = compose(OrthoTranslator().fit(X[TRAIN], X[TRAIN]), fitted)
    with pytest.raises(InvalidLatentsError, match="by their own view of the shared space"):
        composed.transform_target(Y)
    assert ortho.target_translator_ is None


def test_one_repo_holds_both_sides(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert isinstance(loaded, SharedTranslator)
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(loaded.transform_target(Y), fitted.transform_target(Y))
    assert loaded.pair_spaces_ == (OLD, NEW)
    assert loaded.target_translator_.params_ == fitted.target_translator_.params_
    card = (tmp_path / "README.md").read_text()
    assert "# old → new" in card
    assert "transform_target" in card


def test_a_repo_without_the_space_of_its_items_is_refused(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["items"]
    config.pop("config_sha256", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ConfigError, WeightsError), match="items"):
        AutoTranslator.from_pretrained(tmp_path)


def test_batches_and_float32_give_the_same(fitted):
    parts = SharedTranslator(dim=12, alpha=1.0).partial_fit(X[:100], Y[:100])
    parts.partial_fit(X[100:400], Y[100:400])
    np.testing.assert_allclose(parts.transform(X), fitted.transform(X), atol=1e-8)
    narrow = SharedTranslator(dim=12, alpha=1.0).fit(
        torch.tensor(X[TRAIN]).float(), torch.tensor(Y[TRAIN]).float()
    )
    assert narrow.map_.dtype == torch.float32
    assert narrow.target_translator_.map_.dtype == torch.float32
    np.testing.assert_allclose(np.abs(narrow.transform(X)), np.abs(fitted.transform(X)), atol=1e-2)


def test_small_batches_are_summed_and_solved_once_at_the_end():
    batches = SharedTranslator()
    for start in range(0, 60, 3):
        batches.partial_fit(X[start : start + 3], Y[start : start + 3])
    assert "60 pairs, to be solved when it is needed" in repr(batches)
    whole = SharedTranslator().fit(X[:60], Y[:60])
    np.testing.assert_allclose(batches.transform(X), whole.transform(X), atol=1e-9)
    assert batches.target_.dim == whole.target_.dim == batches.params_["dim"]
    assert repr(batches).startswith("SharedTranslator() from")


def test_penalty_and_width_are_those_of_the_most_information(space):
    views = {"source": X[TRAIN], "target": Y[TRAIN]}
    chosen, expected = SharedTranslator().fit(X[TRAIN], Y[TRAIN]), SharedSpace("auto").fit(views)
    assert chosen.params_ == {"dim": expected.space_.dim, "alpha": expected.alpha_, "shrink": 0.9}
    assert chosen.get_params()["alpha"] == "auto"
    assert chosen.information_ == expected.information_
    assert SharedTranslator(dim=4, alpha=1.0).fit(X[TRAIN], Y[TRAIN]).information_ is None
    assert chosen.set_params(dim=4, alpha=1.0).fit(X[TRAIN], Y[TRAIN]).information_ is None


def test_how_much_both_sides_share_is_saved_and_on_the_card(tmp_path):
    batches = SharedTranslator().partial_fit(X[:100], Y[:100]).partial_fit(X[100:300], Y[100:300])
    information = SharedTranslator().fit(X[:300], Y[:300]).information_
    np.testing.assert_allclose(batches.information_.bits, information.bits)
    batches.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert loaded.information_ == batches.information_
    card = (tmp_path / "README.md").read_text()
    assert f"the encoders tell {max(information.bits):.1f} bits about each other" in card
    loaded.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == card


def test_a_config_with_information_that_does_not_add_up_is_refused(tmp_path):
    SharedTranslator().fit(X[TRAIN], Y[TRAIN]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["config_sha256"]
    config["information"]["bits"] = []
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="information: alphas and bits must be as many"):
        AutoTranslator.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "params",
    [
        {"dim": 0},
        {"dim": True},
        {"dim": 2.5},
        {"alpha": 0},
        {"alpha": float("inf")},
        {"shrink": 1.5},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        SharedTranslator(**params).fit(X, Y)


def test_other_widths_than_the_pairs_had_are_refused(fitted):
    with pytest.raises(InvalidLatentsError, match=r"widths \(32, 40\)"):
        fitted.record_spaces(OLD, OLD)


def test_evaluation_and_the_gate_move_the_targets_too(fitted):
    report = evaluate_latents(fitted, X[TEST], Y[TEST])
    assert report.translated.recall_at_1 == pytest.approx(
        found(fitted.transform(X[TEST]), fitted.transform_target(Y[TEST])), abs=1e-3
    )
    encoded = evaluate(fitted, OLD, NEW, (X[TEST], Y[TEST]))
    assert encoded.translated.recall_at_1 == report.translated.recall_at_1
    for translates in ("corpus", "queries"):
        report = gate_latents(
            fitted,
            queries=(X[400:500], Y[400:500]),
            corpus=(X[500:], Y[500:]),
            translates=translates,
        )
        ortho = gate_latents(
            OrthoTranslator().fit(X[TRAIN], Y[TRAIN]),
            queries=(X[400:500], Y[400:500]),
            corpus=(X[500:], Y[500:]),
            translates=translates,
        )
        assert report.systems["translated"] != ortho.systems["translated"]
        assert report.retention["overlap@10"].mean > 0.1  # by chance 0.05


def test_an_index_of_moved_items_answers_moved_queries(fitted):
    index = LatentIndex(fitted.transform_target(Y[TEST]), list(range(300)), fitted.target_)
    answers = index(fitted.transform(X[TEST]))
    right = np.mean([answer["item"] == row for row, answer in enumerate(answers)])
    assert right == found(fitted.transform(X[TEST]), fitted.transform_target(Y[TEST]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_a_choice_by_counterparts_takes_it_and_may_be_told_not_to():
    chosen = select_translator(X[TRAIN], Y[TRAIN], objective="counterpart")
    assert isinstance(chosen, SharedTranslator)
    kinds = {trial.translator_type for trial in chosen.selection_.trials}
    assert {"ortho", "affine", "spectral", "kernel", "linear", "l_ortho", "shared"} <= kinds
    assert chosen.information_ == SharedTranslator().fit(X[TRAIN], Y[TRAIN]).information_
    plain = select_translator(X[TRAIN], Y[TRAIN], objective="counterpart", shared=False)
    assert not plain.moves_target
    assert plain.selection_.choice.score < chosen.selection_.choice.score
    for objective in ("reconstruction", "ranking"):
        assert not select_translator(X[TRAIN], Y[TRAIN], objective=objective).moves_target


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_a_choice_over_chunks_is_that_on_arrays():
    choice = TranslatorChoice("counterpart")
    arrays = choice.fit(X[TRAIN].astype(np.float32), Y[TRAIN].astype(np.float32))
    pairs = Pairs(X[TRAIN].astype(np.float32), Y[TRAIN].astype(np.float32))
    chunks = fit_translator(choice, OLD, NEW, pairs, chunk_size=64)
    plain = [
        [t.score for t in one.selection_.trials if t.translator_type != "kernel"]
        for one in (arrays, chunks)
    ]
    np.testing.assert_allclose(*plain, atol=2e-3)
    assert chunks.translator_type == arrays.translator_type == "shared"
    assert chunks.pair_spaces_ == (OLD, NEW)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_the_command_line_fits_translates_and_evaluates_it(tmp_path, capsys):
    for name, rows in (("old", X), ("new", Y)):
        np.save(tmp_path / f"{name}.npy", rows[TRAIN].astype(np.float32))
        np.save(tmp_path / f"{name}-test.npy", rows[TEST].astype(np.float32))

    def run(*arguments):
        assert main([str(a) for a in arguments]) == 0

    def vectors(kind):
        sides = (("--source-vectors", "old"), ("--target-vectors", "new"))
        return [part for flag, name in sides for part in (flag, tmp_path / f"{name}{kind}.npy")]

    choice = ("--type", "auto", "--objective", "counterpart", "--output", tmp_path / "chosen")
    run("fit", *vectors(""), "--source", "me/old", "--target", "me/new", *choice)
    loaded = AutoTranslator.from_pretrained(tmp_path / "chosen")
    assert loaded.moves_target
    assert [space.repo_id for space in loaded.pair_spaces_] == ["me/old", "me/new"]
    assert f"the views tell {max(loaded.information_.bits):.1f} bits" in capsys.readouterr().out
    run("info", tmp_path / "chosen", "--json")
    assert json.loads(capsys.readouterr().out)["bits"] == max(loaded.information_.bits)
    run("evaluate", tmp_path / "chosen", *vectors("-test"), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["translated"]["recall@1"] > 0.8
    for side, name in (("source", "old"), ("target", "new")):
        moved = tmp_path / f"{side}.npy"
        run("translate", tmp_path / "chosen", tmp_path / f"{name}-test.npy", moved, "--side", side)
    assert found(np.load(tmp_path / "source.npy"), np.load(tmp_path / "target.npy")) > 0.8


def test_a_plain_translator_has_no_target_side_to_translate(tmp_path, capsys):
    OrthoTranslator().fit(X, Y).save_pretrained(tmp_path / "plain")
    np.save(tmp_path / "new.npy", Y)
    arguments = ["translate", tmp_path / "plain", tmp_path / "new.npy", tmp_path / "out.npy"]
    assert main([*map(str, arguments), "--side", "target"]) != 0
    assert "--side target is for translators of type shared" in capsys.readouterr().err


def test_files_of_items_are_translated_by_the_target_side(fitted, tmp_path):
    np.save(tmp_path / "items.npy", Y[TEST])
    translate_file(fitted.target_translator_, tmp_path / "items.npy", tmp_path / "moved.npy")
    np.testing.assert_allclose(
        np.load(tmp_path / "moved.npy"), fitted.transform_target(Y[TEST]), atol=1e-9
    )
