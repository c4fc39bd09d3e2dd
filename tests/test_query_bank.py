"""A translator can carry a bank of queries: translated latents that are published with it."""

import json
from functools import partial, reduce

import numpy as np
import pytest
import torch
from comparing import close, same

from hf_latent_bridge import (
    AutoTranslator,
    OrthoTranslator,
    Pairs,
    SharedSpace,
    compose,
    fit_translator,
)
from hf_latent_bridge.data.chunks import EVERYTHING, Share
from hf_latent_bridge.errors import ConfigError, InvalidLatentsError, NotFittedError, WeightsError
from hf_latent_bridge.files import read_config
from hf_latent_bridge.fitting.encoding import EncodingLoop, Side
from hf_latent_bridge.fitting.samples import RowSample

draw = np.random.default_rng(0)
X = draw.normal(size=(300, 12)).astype("float32")
Y = (X @ draw.normal(size=(12, 10)) + 0.1 * draw.normal(size=(300, 10))).astype("float32")
Z = (Y @ draw.normal(size=(10, 6))).astype("float32")


@pytest.fixture
def translator():
    return OrthoTranslator().fit(X, Y)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_bank_holds_translated_rows_of_unit_norm(translator):
    assert translator.query_bank_ is None
    assert translator.keep_bank(X, size=400) is translator
    assert close(translator.query_bank_, unit(translator.transform(X)), atol=1e-6)


def test_a_smaller_bank_is_a_sample_by_its_seed(translator):
    everything = {row.tobytes() for row in unit(translator.transform(X)).round(4) + 0}
    banks = [translator.keep_bank(X, size=50, seed=s).query_bank_.cpu().numpy() for s in (0, 1, 0)]
    assert {len(bank) for bank in banks} == {50}
    assert len({row.tobytes() for row in banks[0].round(4) + 0} & everything) >= 45  # but rounding
    np.testing.assert_array_equal(banks[0], banks[2])
    assert not np.array_equal(banks[0], banks[1])


def test_it_is_saved_with_the_map_and_loaded_again(translator, tmp_path):
    translator.keep_bank(X, size=50).save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert same(loaded.query_bank_, translator.query_bank_)
    assert json.loads((tmp_path / "config.json").read_text())["bank_size"] == 50
    half = AutoTranslator.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.query_bank_.dtype == torch.float16
    assert half.query_bank_.device == half.map_.device


def test_a_repo_on_the_hub_keeps_it_and_its_card_says_what_it_reveals(translator, repo_id):
    translator.push_to_hub(repo_id, token="hf_alice")
    loaded = AutoTranslator.from_pretrained(repo_id)
    assert (loaded.query_bank_, loaded.repo_id) == (None, repo_id)
    loaded.keep_bank(X, size=50)
    assert loaded.repo_id is None  # the repo does not hold the bank
    loaded.push_to_hub(repo_id, token="hf_alice")
    assert same(AutoTranslator.from_pretrained(repo_id).query_bank_, loaded.query_bank_)


def test_the_card_says_what_a_bank_reveals(translator, tmp_path):
    translator.save_pretrained(tmp_path)
    assert "query_bank" not in (tmp_path / "README.md").read_text()
    translator.keep_bank(X, size=50).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "`query_bank` in the weights holds 50 latents of single items" in card


def test_without_a_bank_the_files_are_as_ever(translator, tmp_path):
    translator.save_pretrained(tmp_path / "before")
    translator.keep_bank(X).drop_bank().save_pretrained(tmp_path / "after")
    for name in ("config.json", "model.safetensors", "README.md"):
        before, after = ((tmp_path / when / name).read_bytes() for when in ("before", "after"))
        assert after == before


def test_a_new_fit_forgets_the_bank(translator):
    assert translator.keep_bank(X).partial_fit(X, Y).query_bank_ is None
    assert translator.keep_bank(X).fit(X, Y).query_bank_ is None


def test_a_composition_translates_the_bank_of_its_first_step(translator, tmp_path):
    second = OrthoTranslator().fit(Y, Z)
    assert compose(translator, second).query_bank_ is None
    both = compose(translator.keep_bank(X, size=50), second)
    expected = unit(second.transform(translator.query_bank_.cpu().numpy()))
    assert close(both.query_bank_, expected, atol=1e-5)
    both.save_pretrained(tmp_path)
    assert same(AutoTranslator.from_pretrained(tmp_path).query_bank_, both.query_bank_)


def test_a_view_of_a_shared_space_keeps_one_too(tmp_path):
    space = SharedSpace(dim=4).fit({"x": X, "y": Y})
    space.translator("x").keep_bank(X, size=30)
    space.save_pretrained(tmp_path)
    loaded = SharedSpace.from_pretrained(tmp_path)
    assert same(loaded.translator("x").query_bank_, space.translator("x").query_bank_)
    assert loaded.translator("y").query_bank_ is None


def test_the_card_of_a_shared_space_says_which_view_has_a_bank_and_what_it_reveals(tmp_path):
    space = SharedSpace(dim=4).fit({"x": X, "y": Y})
    space.save_pretrained(tmp_path)
    assert "query_bank" not in (tmp_path / "README.md").read_text()
    space.translator("x").keep_bank(X, size=30)
    space.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "`query_bank` in the weights of `x` holds 30 latents of single items" in card
    assert "They reveal about these items what" in card
    assert "of `y` holds" not in card
    SharedSpace.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == card


@pytest.mark.parametrize("size", [0, 49, -1])
def test_a_config_that_states_another_bank_is_refused(translator, tmp_path, size):
    translator.keep_bank(X, size=50).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(read_config(path) | {"bank_size": size}))
    with pytest.raises((ConfigError, WeightsError), match=r"bank_size must be|query_bank must be"):
        AutoTranslator.from_pretrained(tmp_path)


def test_what_cannot_be_a_bank_is_refused(translator):
    with pytest.raises(InvalidLatentsError, match="at least one query"):
        translator.keep_bank(X[:0])
    with pytest.raises(InvalidLatentsError, match="12"):
        translator.keep_bank(Y)
    with pytest.raises(
        ValueError, match=r"size must be an integer .*\(drop_bank removes a bank\), got 0"
    ):
        translator.keep_bank(X, size=0)
    with pytest.raises(NotFittedError):
        OrthoTranslator().keep_bank(X)


# Kept by a fit ------------------------------------------------------------------------------


def fitted(**options):
    return fit_translator(OrthoTranslator(), None, None, (X, Y), **options)


@pytest.mark.parametrize("chunk_size", [7, 64, 1024])
def test_a_fit_keeps_the_same_sample_whatever_the_size_of_its_chunks(chunk_size):
    translator = fitted(bank_size=40, chunk_size=chunk_size)
    bank = translator.query_bank_.cpu().numpy()
    assert bank.shape == (40, 10)
    assert close(bank, fitted(bank_size=40).query_bank_, atol=1e-5)
    distances = np.abs(bank[:, None] - unit(translator.transform(X))[None]).max(2)
    assert distances.min(1).max() < 1e-5
    assert len(set(distances.argmin(1))) == 40


def test_a_fit_keeps_no_bank_unless_asked_and_all_pairs_where_there_are_fewer():
    assert fitted().query_bank_ is None
    assert len(fitted(bank_size=1000).query_bank_) == 300
    with pytest.raises(ValueError, match="bank_size must be an integer of at least 0, got -1"):
        fitted(bank_size=-1)


def test_processes_that_share_the_pairs_keep_the_sample_of_one():
    pairs = Pairs(X, Y)

    def sample(share):
        loop = EncodingLoop(pairs, (Side("source", None),), "test", chunk_size=16)
        return reduce(RowSample.with_chunk, loop.run(share), RowSample(40))

    alone = sample(EVERYTHING)
    together = sample(Share(2, 3)) + sample(Share(0, 3)) + sample(Share(1, 3))
    np.testing.assert_array_equal(together.keys, alone.keys)
    assert same(together.latents, alone.latents)


def test_an_interrupted_fit_goes_on_with_its_sample(tmp_path):
    calls = []

    def encode(items, *, fail_at):
        calls.append(len(items))
        if len(calls) == fail_at:
            raise RuntimeError("out of memory")
        return np.stack(items)

    def fit(fail_at=None):
        calls.clear()
        return fit_translator(
            OrthoTranslator(),
            partial(encode, fail_at=fail_at),
            None,
            (list(X), Y),
            batch_size=32,
            chunk_size=32,
            bank_size=40,
            checkpoint_dir=tmp_path / "checkpoint",
            checkpoint_every=32,
        )

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(fail_at=6)
    resumed = fit()
    assert resumed.fit_summary_.n_resumed == 160
    assert close(resumed.query_bank_, fitted(bank_size=40).query_bank_, atol=1e-5)
