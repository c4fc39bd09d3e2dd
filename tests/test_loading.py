"""Everything that loads takes the keywords of transformers, and they reach every file."""

import os
import sys
import threading
from pathlib import Path

import pytest
import tiny_classifiers
import tiny_images
import torch
import warm
from tiny_models import TEXTS, bert_folder, push_folder, sentence_folder

from hf_latent_bridge import (
    StitchedModel,
    fit_head,
    load_decoder,
    load_encoder,
    load_pairs,
    split_classifier,
    stitch,
)
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.encoders.strict_load import quiet_load
from hf_latent_bridge.errors import EncoderError, HubUnavailableError, RepoNotFoundError

KINDS = {
    "transformers": (bert_folder, {}),
    "sentence-transformers": (sentence_folder, {}),
    "image": (lambda: tiny_images.image_folder("vit"), {}),
    "dual": (tiny_images.clip_folder, {"modality": "image"}),
    "classifier": (tiny_classifiers.text_folder, {"pooling": "classifier"}),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def items(kind):
    return tiny_images.pictures(3) if kind in ("image", "dual") else TEXTS


def latents(kind, where, **keywords):
    options = KINDS[kind][1]
    return load_encoder(where, **options, **keywords).encode(items(kind))


def push(kind, repo_id, api, **where):
    api.create_repo(repo_id, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=KINDS[kind][0](), **where)
    return repo_id


def blobs(cache_dir, repo_id):
    """The downloaded files of a repo, by when they were written."""
    folder = Path(cache_dir) / f"models--{repo_id.replace('/', '--')}" / "blobs"
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@EVERY_KIND
def test_a_subfolder_of_a_repo_or_folder_is_loaded_and_named_by_the_space(kind, repo_id, api):
    folder, options = KINDS[kind]
    expected = latents(kind, folder())
    push(kind, repo_id, api, path_in_repo="models/a")
    encoder = load_encoder(repo_id, subfolder="models/a", **options)
    torch.testing.assert_close(encoder.encode(items(kind)), expected)
    assert (encoder.space.repo_id, encoder.space.subfolder) == (repo_id, "models/a")
    again = load_encoder(encoder.space)
    assert again.space == encoder.space
    torch.testing.assert_close(again.encode(items(kind)), expected)
    local = load_encoder(folder().parent, subfolder=folder().name, **options)
    torch.testing.assert_close(local.encode(items(kind)), expected)
    assert (local.space.repo_id, local.space.subfolder) == (None, None)


def test_two_folders_of_one_repo_are_two_spaces(repo_id, api):
    for subfolder in ("a", "b", None):
        push("transformers", repo_id, api, path_in_repo=subfolder)
    a, b, root = (load_encoder(repo_id, subfolder=part).space for part in ("a", "b", ""))
    assert a.mismatches(b) == ["subfolder: 'a' and 'b'"]
    assert a.mismatches(root) == ["subfolder: 'a' and ''"]
    assert root.subfolder is None
    with pytest.raises(RepoNotFoundError, match="must stay inside the repo"):
        load_encoder(repo_id, subfolder="../a")
    with pytest.raises(RepoNotFoundError, match="has no folder 'nowhere'"):
        load_encoder(bert_folder(), subfolder="nowhere")
    with pytest.raises(ValueError, match=r"a space brings its own .*leave subfolder out"):
        load_encoder(a, subfolder="b")


@pytest.mark.slow
def test_all_files_of_every_kind_go_into_cache_dir_from_where_they_load_without_a_network(
    api, tmp_path
):
    from huggingface_hub.constants import HF_HUB_CACHE

    repos = {kind: push(kind, f"alice/cached-{kind}", api) for kind in KINDS}
    expected = {kind: latents(kind, repo, cache_dir=tmp_path) for kind, repo in repos.items()}
    assert not list(Path(HF_HUB_CACHE).glob("models--alice--cached-*"))
    code = f"""
import sys, torch
sys.path[:0] = {sys.path!r}
import test_loading
offline = dict(cache_dir={str(tmp_path)!r}, local_files_only=True)
found = {{kind: test_loading.latents(kind, repo, **offline) for kind, repo in {repos!r}.items()}}
torch.save(found, {str(tmp_path / "found.pt")!r})
"""
    closed = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    warm.finished("-c", code, env=closed, loaded=warm.BASE)
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), expected)


@EVERY_KIND
def test_local_files_only_refuses_what_is_not_in_the_cache(kind, repo_id, api, tmp_path):
    push(kind, repo_id, api)
    with pytest.raises(HubUnavailableError, match=repo_id):
        latents(kind, repo_id, cache_dir=tmp_path, local_files_only=True)


@EVERY_KIND
def test_force_download_fetches_every_file_again(kind, repo_id, api, tmp_path):
    push(kind, repo_id, api)
    expected = latents(kind, repo_id, cache_dir=tmp_path)
    before = blobs(tmp_path, repo_id)
    found = latents(kind, repo_id, cache_dir=tmp_path, force_download=True)
    torch.testing.assert_close(found, expected)
    after = blobs(tmp_path, repo_id)
    assert all(after[name] > written for name, written in before.items())


def test_a_classifiers_halves_and_its_head_take_the_same_keywords(repo_id, api, tmp_path):
    folder = tiny_classifiers.text_folder()
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=folder, path_in_repo="a")
    where = {"subfolder": "a", "cache_dir": tmp_path, "device": "cpu"}
    encoder, head = split_classifier(repo_id, **where)
    offline = load_decoder(repo_id, local_files_only=True, **where)
    assert offline(encoder.encode(TEXTS)) == head(encoder.encode(TEXTS))
    with pytest.raises(HubUnavailableError):
        load_decoder(repo_id, local_files_only=True, subfolder="a", cache_dir=tmp_path / "empty")


def test_a_stitched_model_hands_them_to_all_its_parts(repo_id, api, tmp_path):
    where = {"cache_dir": tmp_path, "device": "cpu"}
    encoder = load_encoder(push_folder(bert_folder(), f"{repo_id}-encoder"), device="cpu")
    head = fit_head(encoder.encode(TEXTS), ["a", "b", "a", "b", "a", "b", "a"], space=encoder.space)
    head.push_to_hub(f"{repo_id}-head", token="hf_alice")
    model = stitch(encoder, None, head)
    model.push_to_hub(repo_id, token="hf_alice")
    loaded = StitchedModel.from_pretrained(repo_id, **where)
    names = {path.name.rpartition("--")[2] for path in tmp_path.glob("models--*")}
    name = repo_id.partition("/")[2]
    assert names == {name, f"{name}-encoder", f"{name}-head"}
    assert loaded(list(TEXTS)) == model(list(TEXTS))
    offline = StitchedModel.from_pretrained(repo_id, local_files_only=True, **where)
    assert offline(list(TEXTS)) == model(list(TEXTS))


def test_all_loaders_put_what_they_load_on_one_device(repo_id):
    encoder = load_encoder(push_folder(bert_folder(), f"{repo_id}-encoder"))
    head = fit_head(encoder.encode(TEXTS), [0, 1, 0, 1, 0, 1, 0], space=encoder.space)
    head.push_to_hub(f"{repo_id}-head", token="hf_alice")
    loaded = load_decoder(f"{repo_id}-head")
    stitch(encoder, None, head).push_to_hub(repo_id, token="hf_alice")
    model = StitchedModel.from_pretrained(repo_id)
    devices = {encoder.device, model.encoder.device}
    devices |= {part.layers[0].weight.device for part in (loaded, model.decoder)}
    assert {device.type for device in devices} == {default_device().type}
    there = {"device": "cpu"}
    assert load_encoder(bert_folder(), **there).device.type == "cpu"
    assert load_decoder(f"{repo_id}-head", **there).layers[0].weight.device.type == "cpu"


def push_dataset(repo_id):
    from datasets import Dataset

    Dataset.from_dict({"text": TEXTS}).push_to_hub(repo_id, split="train", token="hf_alice")


@pytest.mark.slow
def test_a_dataset_goes_into_cache_dir_from_where_it_is_read_without_a_network(repo_id, tmp_path):
    push_dataset(repo_id)
    where = {"split": "train", "source": "text", "cache_dir": tmp_path}
    pairs = load_pairs(repo_id, **where)
    assert any(path.suffix == ".arrow" for path in tmp_path.rglob("*"))
    code = f"""
from hf_latent_bridge import load_pairs
pairs = load_pairs({repo_id!r}, split="train", source="text", cache_dir={str(tmp_path)!r},
                   local_files_only=True)
print(pairs.fingerprint(), *pairs.source)
"""
    closed = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    found = warm.finished("-c", code, env=closed, loaded=warm.BASE).stdout.strip()
    assert found == " ".join([pairs.fingerprint(), *TEXTS]).strip()


def test_a_dataset_that_is_not_cached_is_refused_with_local_files_only(repo_id, tmp_path):
    push_dataset(repo_id)
    with pytest.raises(HubUnavailableError, match=repo_id):
        load_pairs(repo_id, split="train", source="text", local_files_only=True)


def test_force_download_prepares_a_dataset_again(repo_id, tmp_path):
    push_dataset(repo_id)
    where = {"split": "train", "source": "text", "cache_dir": tmp_path}
    load_pairs(repo_id, **where)
    (prepared,) = tmp_path.rglob("*.arrow")
    before = prepared.stat().st_mtime_ns
    load_pairs(repo_id, **where)
    assert prepared.stat().st_mtime_ns == before
    load_pairs(repo_id, force_download=True, **where)
    assert prepared.stat().st_mtime_ns > before


def test_weights_that_another_thread_finds_missing_are_not_those_of_this_load():
    from transformers.utils import logging as reports

    def report():
        reports.get_logger("transformers.modeling_utils").warning("encoder.weight | MISSING |")

    with quiet_load("me/sound"):
        other = threading.Thread(target=report)
        other.start()
        other.join(60)
    lacks = r"'me/broken' lacks .*: encoder\.weight and 0 more"
    with pytest.raises(EncoderError, match=lacks), quiet_load("me/broken"):
        report()
