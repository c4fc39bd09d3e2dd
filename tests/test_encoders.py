"""Text encoders: pooled as a single unpadded text would be, pinned to a commit, strict."""

import functools
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from comparing import close
from tiny_models import (
    TEXTS,
    bert_folder,
    bert_repo,
    commit_of,
    gpt2_folder,
    gpt2_repo,
    push_folder,
    sentence_folder,
    sentence_repo,
    word_tokenizer,
)

from hf_latent_bridge import OrthoTranslator, SpaceSpec, load_encoder
from hf_latent_bridge.encoders.base import Encoder, encode, space_of
from hf_latent_bridge.encoders.text import pool
from hf_latent_bridge.errors import (
    EncoderError,
    InvalidLatentsError,
    InvalidPairsError,
    RepoAccessError,
    RepoNotFoundError,
    SpaceMismatchError,
)

CLOSE = {"atol": 1e-4, "rtol": 1e-3}


@functools.cache
def reference(folder):
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def alone(folder, text, pooling, *, max_length=32):
    """The latent of one text that no other text pads, pooled by hand."""
    model, tokenizer = reference(folder)
    tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state[0]
    return {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]


loaded = functools.cache(load_encoder)


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def run(code, **environment):
    """Runs code in a process of its own; returns what it prints."""
    code = f"import warnings; warnings.simplefilter('ignore')\n{code}"
    environment = os.environ | environment
    done = warm.finished("-c", code, env=environment, check=False, loaded=warm.BASE)
    return done.stdout + done.stderr


# Pooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [bert_folder, gpt2_folder])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_each_text_gets_the_latent_it_would_get_alone(folder, pooling, batch_size):
    encoder = loaded(folder(), pooling=pooling)
    expected = torch.stack([alone(folder(), text, pooling) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS, batch_size=batch_size), expected, **CLOSE)


def test_a_tokenizer_that_pads_on_the_left_does_not_shift_absolute_positions(tmp_path):
    folder = copy_of(gpt2_folder(), tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    expected = torch.stack([alone(gpt2_folder(), text, "last") for text in TEXTS])
    torch.testing.assert_close(
        load_encoder(folder, pooling="last").encode(TEXTS), expected, **CLOSE
    )


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [[2.5], [4.0]]), ("cls", [[2.0], [4.0]]), ("last", [[3.0], [4.0]])],
)
def test_pooling_finds_the_real_tokens_on_either_side(pooling, expected):
    left = pool(
        torch.tensor([[[9.0], [2], [3]], [[9.0], [9], [4]]]),
        torch.tensor([[0, 1, 1], [0, 0, 1]]),
        pooling,
    )
    right = pool(
        torch.tensor([[[2.0], [3], [9]], [[4.0], [9], [9]]]),
        torch.tensor([[1, 1, 0], [1, 0, 0]]),
        pooling,
    )
    assert left.tolist() == right.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mean_pooling_of_many_half_precision_tokens_neither_overflows_nor_drifts(dtype):
    states = torch.full((1, 513, 2), 200.0, dtype=dtype)
    assert pool(states, torch.ones(1, 513, dtype=torch.long), "mean").tolist() == [[200.0, 200.0]]


def test_order_of_texts_is_kept_whatever_their_length():
    encoder = loaded(bert_folder())
    there, back = encoder.encode(TEXTS, batch_size=2), encoder.encode(TEXTS[::-1], batch_size=2)
    torch.testing.assert_close(there, back.flip(0), **CLOSE)


@pytest.mark.parametrize("folder", [bert_folder, gpt2_folder, sentence_folder])
def test_a_long_text_is_cut_at_max_length(folder):
    encoder = load_encoder(folder(), max_length=5)
    assert encoder.space.max_length == 5
    expected = alone(folder(), TEXTS[5], "mean", max_length=5)
    torch.testing.assert_close(encoder.encode([TEXTS[5]])[0], expected, **CLOSE)
    assert not torch.allclose(expected, alone(folder(), TEXTS[5], "mean"), atol=1e-2)


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("max_length", [0, -1, 2, 65, 5.0, "5"])
def test_a_max_length_that_the_model_cannot_take_is_refused_with_the_range(folder, max_length):
    with pytest.raises(EncoderError, match=rf"integer from 3 to 64 .*, got {max_length!r}"):
        load_encoder(folder(), max_length=max_length)


def test_a_model_without_any_length_limit_cuts_nothing(tmp_path):
    from transformers import T5Config, T5Model

    torch.manual_seed(0)
    config = T5Config(vocab_size=100, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert encoder.space.max_length is None
    latents = encoder.encode(["dog " * 400 + "bird", "dog " * 400 + "cat"])
    assert not torch.equal(latents[0], latents[1])


# Input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_texts_give_no_rows_of_the_right_width_and_dtype(folder, dtype):
    latents = load_encoder(folder(), dtype=dtype).encode([])
    assert (latents.shape, latents.dtype) == ((0, 16), dtype)


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_one_bare_text_is_refused(folder):
    with pytest.raises(InvalidPairsError, match="wrap it in a list"):
        loaded(folder()).encode("a dog")


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("item", [None, 3, b"dog", ["dog"]])
def test_an_item_that_is_no_text_is_refused_with_its_index(folder, item):
    with pytest.raises(
        InvalidPairsError, match=f"item 1 must be a text, got {type(item).__name__}"
    ):
        loaded(folder()).encode(["a dog", item])


def test_half_of_a_surrogate_pair_is_refused_with_its_index():
    with pytest.raises(InvalidPairsError, match="item 1 holds half of a surrogate pair"):
        loaded(bert_folder()).encode(["whole \U0001f600", "half \ud83d"])


@pytest.mark.parametrize("texts", [[""], ["a dog", ""]])
def test_a_text_without_tokens_is_refused_instead_of_encoding_padding(texts):
    with pytest.raises(InvalidPairsError, match="'' holds nothing to encode"):
        loaded(gpt2_folder()).encode(texts)


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_nearly_the_same_latents(folder, dtype):
    half = load_encoder(folder(), dtype=dtype).encode(TEXTS)
    assert half.dtype == dtype
    full = loaded(folder()).encode(TEXTS)
    assert torch.nn.functional.cosine_similarity(half.float(), full).min() > 0.99


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_latents_can_take_part_in_autograd(folder):
    latents = loaded(folder()).encode(TEXTS)
    weight = torch.ones(16, requires_grad=True, device=latents.device)
    (latents @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, latents.sum(0))


# Normalisation and sentence-transformers ----------------------------------------------------


@pytest.mark.parametrize("own_norm", [False, True])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_sentence_transformers_repo_encodes_as_sentence_transformers_does(own_norm, batch_size):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(sentence_repo(normalize=own_norm), device="cpu")
    encoder = load_encoder(sentence_repo(normalize=own_norm))
    expected = reference.encode(list(TEXTS), convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(encoder.encode(TEXTS, batch_size=batch_size), expected, **CLOSE)
    space = encoder.space
    assert (space.pooling, space.normalize, space.max_length) == ("mean", own_norm, 24)


@pytest.mark.parametrize("repo", [bert_repo, sentence_repo])
@pytest.mark.parametrize("normalize", [None, False, True])
def test_a_repo_without_a_norm_gives_unit_rows_only_when_asked(repo, normalize):
    encoder = load_encoder(repo(), normalize=normalize)
    norms = encoder.encode(TEXTS).norm(dim=1)
    assert close(norms, torch.ones(7)) == encoder.space.normalize == bool(normalize)


@pytest.mark.parametrize("normalize", [None, True])
def test_a_repo_with_its_own_norm_keeps_it(normalize):
    encoder = load_encoder(sentence_repo(normalize=True), normalize=normalize)
    torch.testing.assert_close(encoder.encode(TEXTS).norm(dim=1), torch.ones(7))
    assert encoder.space.normalize is True


def test_a_repo_with_its_own_norm_cannot_be_told_to_leave_it_out():
    with pytest.raises(EncoderError, match="normalises its latents itself: pass pooling='mean'"):
        load_encoder(sentence_repo(normalize=True), normalize=False)


def test_explicit_pooling_bypasses_the_modules_of_a_sentence_transformers_repo():
    encoder = load_encoder(sentence_repo(normalize=True), pooling="cls")
    expected = torch.stack([alone(bert_folder(), text, "cls") for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS), expected, **CLOSE)
    assert (encoder.space.pooling, encoder.space.normalize) == ("cls", False)


def test_a_space_tells_a_repos_dense_layer_from_its_pooling_alone(repo_id, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(0)
    model = SentenceTransformer(str(sentence_folder()), device="cpu")
    model.append(Dense(16, 16))
    model.save(str(tmp_path))
    push_folder(tmp_path, repo_id)
    own, bypass = load_encoder(repo_id), load_encoder(repo_id, pooling="mean")
    assert own.space.mismatches(bypass.space) == ["pooling: 'mean+dense' and 'mean'"]
    for encoder in (own, bypass):
        again = load_encoder(encoder.space)
        torch.testing.assert_close(again.encode(TEXTS), encoder.encode(TEXTS))


# Revisions and spaces -----------------------------------------------------------------------


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_a_revision_is_pinned_to_its_commit_and_old_commits_give_old_latents(folder, repo_id, api):
    push_folder(folder(), repo_id)
    api.create_tag(repo_id, tag="v1")
    old_commit, old = commit_of(repo_id), load_encoder(repo_id).encode(TEXTS)
    push_folder(folder(seed=1), repo_id)
    new = load_encoder(repo_id)
    assert new.space.revision == commit_of(repo_id) != old_commit
    assert not torch.allclose(new.encode(TEXTS), old, atol=0.1)
    for revision in ("v1", old_commit):
        encoder = load_encoder(repo_id, revision=revision)
        assert encoder.space.revision == old_commit
        torch.testing.assert_close(encoder.encode(TEXTS), old)


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_a_local_folder_encodes_as_its_repo_but_names_none(folder, repo_id):
    encoder = load_encoder(str(folder()))
    assert encoder.space.repo_id is encoder.space.revision is None
    pushed = load_encoder(push_folder(folder(), repo_id))
    torch.testing.assert_close(encoder.encode(TEXTS), pushed.encode(TEXTS))


@pytest.mark.parametrize(
    ("repo", "options"),
    [
        (bert_repo, {}),
        (bert_repo, {"pooling": "cls", "normalize": True, "max_length": 6}),
        (gpt2_repo, {"pooling": "last"}),
        (sentence_repo, {}),
        (sentence_repo, {"normalize": True, "max_length": 6}),
        (sentence_repo, {"pooling": "last"}),
        (lambda: sentence_repo(normalize=True), {}),
        (lambda: sentence_repo(normalize=True), {"pooling": "mean"}),
        (lambda: sentence_repo(normalize=True), {"pooling": "cls", "max_length": 6}),
    ],
)
def test_a_translators_space_loads_the_very_encoder_that_it_was_fitted_on(repo, options):
    encoder = load_encoder(repo(), **options)
    latents = encoder.encode(TEXTS)
    pairs = torch.randn(40, encoder.space.dim, generator=torch.Generator().manual_seed(0))
    translator = OrthoTranslator().fit(pairs, pairs, source=encoder.space)
    again = load_encoder(translator.source_)
    assert again.space == encoder.space
    torch.testing.assert_close(again.encode(TEXTS), latents)


@pytest.mark.parametrize("change", [{"dim": 17}, {"pooling": "max"}, {"pooling": "mean+dense"}])
def test_a_space_that_the_repo_does_not_give_is_refused(change):
    space = replace(load_encoder(bert_repo()).space, **change)
    with pytest.raises(SpaceMismatchError, match=f"does not give .*{next(iter(change))}: "):
        load_encoder(space)


def test_a_space_of_images_cannot_come_from_a_text_model():
    with pytest.raises(EncoderError, match="encodes text; not image"):
        load_encoder(replace(load_encoder(bert_repo()).space, modality="image"))


def test_a_space_without_the_norm_that_the_repo_applies_is_refused():
    space = replace(
        load_encoder(sentence_repo(normalize=True)).space, normalize=False, pooling=None
    )
    with pytest.raises(SpaceMismatchError, match="normalize: False and True"):
        load_encoder(space)


def test_a_space_that_names_no_repo_is_refused():
    with pytest.raises(EncoderError, match="names no repo"):
        load_encoder(SpaceSpec(16))


@pytest.mark.parametrize("option", [{"pooling": "cls"}, {"normalize": True}, {"revision": "main"}])
def test_options_beside_a_space_are_refused_instead_of_ignored(option):
    with pytest.raises(ValueError, match="a space brings its own"):
        load_encoder(load_encoder(bert_repo()).space, **option)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of"):
        load_encoder(bert_repo(), pooling="max")


# Repos that hold no encoder -----------------------------------------------------------------


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_renamed_weights_are_refused_because_the_model_would_be_random(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = copy_of(folder(), tmp_path) / "model.safetensors"
    renamed = {k.replace("layer.1", "block.1"): v for k, v in load_file(weights).items()}
    save_file(renamed, weights, metadata={"format": "pt"})
    with pytest.raises(
        EncoderError, match=r"lacks weights .* random: encoder.layer.1.* and 13 more"
    ):
        load_encoder(tmp_path / "copy")


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_a_checkpoint_without_the_pooler_that_nobody_uses_is_fine(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = copy_of(folder(), tmp_path) / "model.safetensors"
    save_file(
        {k: v for k, v in load_file(weights).items() if "pooler" not in k},
        weights,
        metadata={"format": "pt"},
    )
    latents = load_encoder(tmp_path / "copy").encode(TEXTS)
    torch.testing.assert_close(latents, loaded(folder()).encode(TEXTS))


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_truncated_or_absent_weights_are_refused(folder, damage, tmp_path):
    weights = copy_of(folder(), tmp_path) / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage == "truncate":
        weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match="no encoder could be loaded from"):
        load_encoder(tmp_path / "copy")


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
def test_a_repo_without_a_tokenizer_is_refused_instead_of_reading_every_word_as_unknown(
    folder, tmp_path
):
    copy = copy_of(folder(), tmp_path)
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(EncoderError, match=r"has no vocabulary: .* such as tokenizer.json"):
        load_encoder(copy)


def test_an_image_model_is_refused(repo_id, tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8)
    ViTModel(config).save_pretrained(tmp_path)
    push_folder(tmp_path, repo_id)
    with pytest.raises(EncoderError, match=f"no encoder could be loaded from '{repo_id}'"):
        load_encoder(repo_id)


def test_a_tokenizer_without_any_token_to_pad_with_still_encodes(tmp_path):
    folder = copy_of(gpt2_folder(), tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    latents = load_encoder(folder, pooling="last").encode(TEXTS)
    torch.testing.assert_close(latents, loaded(gpt2_folder(), pooling="last").encode(TEXTS))


def test_an_empty_repo_is_refused(repo_id, api):
    api.create_repo(repo_id)
    with pytest.raises(EncoderError, match=f"no encoder could be loaded from '{repo_id}'"):
        load_encoder(repo_id)


@pytest.mark.parametrize("where", ["alice/nowhere", "./nowhere", "a b c"])
def test_a_missing_repo_or_folder_is_refused_by_name(where):
    with pytest.raises(RepoNotFoundError, match=where):
        load_encoder(where)


def test_a_missing_revision_is_refused_by_name():
    with pytest.raises(RepoNotFoundError, match="no revision 'v9'"):
        load_encoder(bert_repo(), revision="v9")


def test_a_private_repo_loads_for_its_owner_only(repo_id):
    push_folder(bert_folder(), repo_id, private=True)
    for token in ("hf_bob", False):
        with pytest.raises(RepoNotFoundError, match="a private repo needs token="):
            load_encoder(repo_id, token=token)
    assert load_encoder(repo_id, token="hf_alice").encode(TEXTS).shape == (7, 16)


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_a_gated_repo_is_refused_as_gated(pooling, repo_id, api):
    push_folder(bert_folder(), repo_id)
    api.update_repo_settings(repo_id, gated="manual")
    with pytest.raises(RepoAccessError, match="gated: ask for access"):
        load_encoder(repo_id, token="hf_bob", pooling=pooling)


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    with pytest.raises(EncoderError, match="CUDA"):
        load_encoder(bert_folder(), device="cuda")


@pytest.mark.slow
def test_without_a_network_the_cache_serves_and_a_stranger_is_refused(repo_id):
    from huggingface_hub import snapshot_download

    load_encoder(sentence_repo())
    snapshot_download(push_folder(bert_folder(), repo_id), allow_patterns="*.json")
    code = f"""
from hf_latent_bridge import load_encoder
print(tuple(load_encoder({sentence_repo()!r}).encode(["a dog"]).shape))
for repo in ("alice/never-seen", {repo_id!r}):
    try:
        load_encoder(repo)
    except Exception as error:
        print(type(error).__name__, error)
"""
    lines = run(code, HF_HUB_OFFLINE="1").splitlines()
    assert lines[0] == "(1, 16)"
    assert re.match("HubUnavailableError .*'alice/never-seen'", lines[1])
    assert re.match(f"HubUnavailableError .*{repo_id!r}", lines[2])


# Code and noise -----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [bert_folder, sentence_folder])
@pytest.mark.parametrize("local", [True, False])
def test_code_in_a_repo_is_refused_and_not_run(folder, local, repo_id, tmp_path):
    copy, trace = copy_of(folder(), tmp_path), tmp_path / "trace"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = json.loads((copy / "config.json").read_text())
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (copy / "config.json").write_text(
        json.dumps({**config, "model_type": "evil", "auto_map": code})
    )
    with pytest.raises(EncoderError, match="trust_remote_code=True"):
        load_encoder(copy if local else push_folder(copy, repo_id))
    assert not trace.exists()


def test_a_sentence_transformers_module_from_the_repo_is_refused_and_not_run(tmp_path):
    copy, trace = copy_of(sentence_folder(), tmp_path), tmp_path / "trace"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match="trust_remote_code=True"):
        load_encoder(copy)
    assert not trace.exists()


@pytest.mark.slow
def test_loading_and_encoding_print_nothing_unless_a_bar_is_asked_for(tmp_path):
    from safetensors.torch import load_file, save_file

    weights = copy_of(bert_folder(), tmp_path) / "model.safetensors"
    kept = {k: v for k, v in load_file(weights).items() if "pooler" not in k}
    save_file({**kept, "cls.extra": torch.ones(2)}, weights, metadata={"format": "pt"})
    code = f"""
import os, sys
os.environ.pop("HF_HUB_DISABLE_PROGRESS_BARS")
from hf_latent_bridge import load_encoder
for folder in ({str(tmp_path / "copy")!r}, {str(sentence_folder())!r}):
    encoder = load_encoder(folder)
    encoder.encode(["a dog"] * 99)
    print("asked", file=sys.stderr)
    encoder.encode(["a dog"] * 99, progress=True)
    print("done", file=sys.stderr)
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils.logging import is_progress_bar_enabled
if is_progress_bar_enabled() and not are_progress_bars_disabled():
    print("bars are back", file=sys.stderr)
"""
    before, *rest = run(code).split("asked\n")
    first, second = (part.split("done\n") for part in rest)
    assert (before, first[1], second[1]) == ("", "", "bars are back\n")
    assert "99/99" in first[0]
    assert "99/99" in second[0]


def test_loading_leaves_the_verbosity_of_transformers_as_it_was():
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        load_encoder(sentence_folder())
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity_warning()


# Encoders of the user's ---------------------------------------------------------------------


@pytest.mark.parametrize("convert", [torch.tensor, np.array, list])
def test_a_callable_may_return_tensors_arrays_or_lists(convert):
    latents = encode(lambda items: convert([[1.0, 2.0]] * len(items)), ["a", "b"])
    assert latents.tolist() == [[1.0, 2.0], [1.0, 2.0]]


class Counting:
    """An encoder of the user's that returns NumPy."""

    space = SpaceSpec(2, repo_id="me/counting")

    def encode(self, items, *, batch_size=32, progress=False):
        return np.array([[len(item), batch_size] for item in items], dtype=np.float32)


def test_an_encoder_of_the_users_is_asked_with_the_batch_size_and_keeps_its_space():
    assert isinstance(Counting(), Encoder)
    assert encode(Counting(), ["ab", "c"], batch_size=7).tolist() == [[2.0, 7.0], [1.0, 7.0]]
    assert space_of(Counting(), 2) == Counting.space
    assert space_of(len, 3) == SpaceSpec(3)


@pytest.mark.parametrize("shape", [(2,), (1, 4), (3, 4), (2, 4, 1)])
def test_latents_that_are_not_one_row_per_item_are_refused(shape):
    with pytest.raises(EncoderError, match=r"one row per item, \(2, d\), got shape \("):
        encode(lambda items: torch.zeros(shape), ["a", "b"])


def test_integer_tensors_from_a_callable_are_refused():
    with pytest.raises(InvalidLatentsError, match="floating point"):
        encode(lambda items: torch.zeros(1, 2, dtype=torch.long), ["a"])


def test_a_repo_id_or_a_whole_model_in_place_of_an_encoder_is_refused_with_advice():
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(sentence_folder()), device="cpu")
    for wrong in ("me/encoder", model):
        with pytest.raises(EncoderError, match=r"such as model\.encode; got"):
            encode(wrong, ["a dog"])
    assert encode(model.encode, ["a dog"]).shape == (1, 16)


def test_a_folder_by_the_name_of_a_repo_is_not_taken_for_it(tmp_path, monkeypatch):
    space = load_encoder(bert_repo()).space
    shutil.copytree(bert_folder(seed=5), tmp_path / bert_repo())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RepoNotFoundError, match="is a folder here and has no revision"):
        load_encoder(space)
    with pytest.raises(RepoNotFoundError, match="is a folder here and has no revision 'main'"):
        load_encoder(SpaceSpec(16, repo_id=bert_repo()))
    with pytest.raises(RepoNotFoundError, match="is a folder here and has no revision 'v1'"):
        load_encoder(bert_repo(), revision="v1")
    assert load_encoder(bert_repo()).space.repo_id is None
