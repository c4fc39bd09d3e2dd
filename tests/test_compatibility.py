"""Everything that version 0.1.0 wrote loads and gives the same answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    AutoTranslator,
    ConvEncoder,
    OrthoTranslator,
    StitchedModel,
    load_decoder,
    load_moments,
)

OLD = Path(__file__).parent / "data" / "v0_1_0"
CONFIGS = {path.parent.name: json.loads(path.read_text()) for path in OLD.glob("*/config.json")}
TRANSLATORS = sorted(name for name in CONFIGS if "translator_type" in CONFIGS[name])
ANSWERS = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
DECODERS = sorted(ANSWERS.keys() - {"stitched"})


@pytest.fixture(scope="module")
def expected():
    with np.load(OLD / "expected.npz") as arrays:
        return dict(arrays)


def flat(answers):
    """The scores of ranked answers, and the rest without them."""
    entries = [entry for row in answers for entry in row]
    scores = [entry["score"] for entry in entries]
    return scores, [{k: v for k, v in entry.items() if k != "score"} for entry in entries]


def check_answers(found, name):
    """Same order, same labels or items, same scores up to rounding."""
    scores, rest = flat(found)
    old_scores, old_rest = flat(ANSWERS[name])
    assert rest == old_rest
    np.testing.assert_allclose(scores, old_scores, rtol=1e-5, atol=1e-6)


def test_the_folder_holds_each_kind_of_repo():
    kinds = {value for config in CONFIGS.values() for k, value in config.items() if "_type" in k}
    assert kinds >= {"affine", "linear", "l_ortho", "ortho", "head", "index", "labels", "conv"}
    assert kinds >= {"stitched"}
    assert {config["library_version"] for config in CONFIGS.values()} == {"0.1.0"}


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_translator_gives_the_same_latents(name, expected):
    translator = AutoTranslator.from_pretrained(OLD / name)
    if name in expected:
        found = translator.transform(expected["source"])
        np.testing.assert_allclose(found, expected[name], rtol=1e-6, atol=1e-6)
    if f"{name}_inverse" in expected:
        found = translator.inverse_transform(expected["target"])
        np.testing.assert_allclose(found, expected[f"{name}_inverse"], rtol=1e-5, atol=1e-5)
    config = CONFIGS[name]
    assert translator.source_.to_dict() == config["source"]
    assert translator.target_.to_dict() == config["target"]
    assert translator.n_pairs_ == config["n_pairs"]
    assert translator.metrics_ == config["metrics"]
    assert translator.dataset_ == config["dataset"]
    renamed = {"normalize": "unit_norm", "seed": "random_state"}
    stated = {renamed.get(k, k): v for k, v in config["params"].items()}
    assert translator.get_params().items() >= stated.items()  # and what came later, at its default


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_translator_saved_again_still_gives_the_same_latents(name, tmp_path, expected):
    AutoTranslator.from_pretrained(OLD / name).save_pretrained(tmp_path / "again")
    loaded = AutoTranslator.from_pretrained(tmp_path / "again")
    before = AutoTranslator.from_pretrained(OLD / name).transform(expected["source"])
    np.testing.assert_array_equal(loaded.transform(expected["source"]), before)


def test_text_that_people_wrote_into_an_old_card_stays_when_it_is_saved_again(tmp_path):
    AutoTranslator.from_pretrained(OLD / "evaluated").save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "Written by hand: trained for the shop's product titles." in card
    assert card.count("<!-- begin") == card.count("<!-- end") == 1


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gives_the_same_answers(name, expected):
    decoder = load_decoder(OLD / name)
    check_answers(decoder(expected["target"], top_k=1 if name == "head_regression" else 2), name)


def test_the_halves_of_an_autoencoder_give_the_same_latents_and_pictures(expected):
    encoder = ConvEncoder.from_pretrained(OLD / "conv_encoder")
    latents = encoder.encode(expected["images"])
    torch.testing.assert_close(latents, torch.from_numpy(expected["conv_encoder"]))
    pictures = load_decoder(OLD / "conv_decoder")(expected["source"])
    torch.testing.assert_close(pictures, torch.from_numpy(expected["conv_decoder"]))


def test_a_stitched_model_loads_its_parts_and_gives_the_same_answers(api, expected, tmp_path):
    config = CONFIGS["stitched"]
    pointers = {
        "stitched_head": config["decoder"],
        "conv_encoder": config["encoder"],
        "stitched_translator_1": config["translators"][0],
        "stitched_translator_2": config["translators"][1],
    }
    for name, pointer in pointers.items():
        repo_id = f"alice/old-{name}"
        api.create_repo(repo_id)
        commit = api.upload_folder(repo_id=repo_id, folder_path=OLD / name)
        pointer |= {"repo_id": repo_id, "revision": commit.oid}
    # the encoder's own repo has moved, and the first translator names it where it was
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = StitchedModel.from_pretrained(tmp_path, allow_mismatch=True)
    check_answers(model(expected["images"], top_k=2), "stitched")


@pytest.mark.parametrize("name", ["moments", "moments_full"])
def test_saved_moments_give_the_same_translator(name, expected):
    moments = load_moments(OLD / f"{name}.safetensors")
    assert moments.has_full_syy == (name == "moments_full")
    found = OrthoTranslator().fit_moments(moments).transform(expected["source"])
    np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-9)
