"""The cache of latents: finds items again in any batch, is never wrong, and is shared safely."""

import json
import os
from dataclasses import replace

import pytest
import tiny_images as tiny
import torch
from processes import PATIENCE
from tiny_models import EN, TEXTS, bert_repo, sentence_repo, sentences
from warm import Warm

from hf_latent_bridge import CachedEncoder, SpaceSpec, cache_info, clear_cache, load_encoder
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import CacheWarning, EncoderError, InvalidPairsError

CLOSE = {"atol": 1e-4, "rtol": 1e-3}


class Counting:
    """An encoder of a known commit that remembers what it was asked for."""

    def __init__(self, dtype=torch.float32, **space):
        self.space = SpaceSpec(3, **{"repo_id": "me/count", "revision": "a" * 40, **space})
        self.output = dtype
        self.asked = []

    def encode(self, items, *, batch_size=32, progress=False):
        self.asked += items
        return torch.tensor([[len(i), ord(i[0]), 1.5] for i in items], dtype=self.output)


def rows_file(folder):
    (file,) = folder.glob("*/rows.bin")
    return file


def plain(items):
    return Counting().encode(items)


def test_an_item_is_encoded_once_whatever_batch_sample_or_run_it_comes_in(tmp_path):
    first, again = Counting(), Counting()
    cached = CachedEncoder(first, tmp_path)
    assert torch.equal(cached.encode(["a", "bb", "a"]), plain(["a", "bb", "a"]))
    assert torch.equal(cached.encode(["ccc", "a"]), plain(["ccc", "a"]))
    assert sorted(set(first.asked)) == ["a", "bb", "ccc"]
    assert torch.equal(CachedEncoder(again, tmp_path).encode(["bb", "ccc"]), plain(["bb", "ccc"]))
    assert set(again.asked) <= {"bb"}  # a foreign encoder's dtype takes one item to find out


def test_what_another_process_has_encoded_meanwhile_is_not_kept_twice(tmp_path):
    class Slow(Counting):
        dtype = torch.float32

        def encode(self, items, **options):
            CachedEncoder(Counting(), tmp_path).encode(["a", "bb"])
            return super().encode(items, **options)

    items = ["a", "bb", "ccc"]
    assert torch.equal(CachedEncoder(Slow(), tmp_path).encode(items), plain(items))
    assert rows_file(tmp_path).stat().st_size == 3 * 3 * 4


def test_a_real_encoder_is_not_asked_at_all_for_what_is_known(tmp_path):
    for repo in (bert_repo, sentence_repo):
        encoder = load_encoder(repo())
        expected = CachedEncoder(encoder, tmp_path).encode(TEXTS)
        torch.testing.assert_close(expected, encoder.encode(TEXTS), **CLOSE)
        encoder.encode = None
        assert torch.equal(CachedEncoder(encoder, tmp_path).encode(TEXTS[::-1]), expected.flip(0))
        assert CachedEncoder(encoder, tmp_path).encode([]).shape == (0, 16)


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": torch.float16},
        {"dtype": torch.bfloat16},
        {"revision": "b" * 40},
        {"repo_id": "me/other"},
        {"pooling": "cls"},
        {"normalize": True},
        {"max_length": 9},
        {"modality": "text"},
    ],
)
def test_nothing_is_shared_between_encoders_that_differ(other, tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a", "bb"])
    encoder = Counting(**other)
    latents = CachedEncoder(encoder, tmp_path).encode(["a", "bb"])
    assert latents.dtype == other.get("dtype", torch.float32)
    assert latents.tolist() == plain(["a", "bb"]).tolist()
    assert set(encoder.asked) == {"a", "bb"}


def test_an_encoder_that_changes_later_is_not_given_what_was_kept_before(tmp_path):
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode(["a"])
    encoder.space = replace(encoder.space, revision="c" * 40)
    encoder.asked.clear()
    assert cached.encode(["a"]).tolist() == plain(["a"]).tolist()
    assert encoder.asked == ["a"]
    with pytest.raises(AttributeError, match="encoder"):
        cached.encoder = Counting()


def test_autocast_latents_are_kept_apart(tmp_path):
    full = load_encoder(bert_repo())
    half = load_encoder(bert_repo(), autocast=torch.bfloat16)
    kept = CachedEncoder(full, tmp_path).encode(TEXTS)
    assert not torch.equal(CachedEncoder(half, tmp_path).encode(TEXTS), kept)
    assert len(cache_info(tmp_path)) == 2


def test_images_are_known_by_their_pixels_and_not_by_how_they_come(tmp_path):
    encoder = load_encoder(tiny.image_repo("vit"))
    images = tiny.pictures(3)
    expected = CachedEncoder(encoder, tmp_path).encode(images)
    torch.testing.assert_close(expected, encoder.encode(images), **CLOSE)
    encoder.encode = None
    files = [{"bytes": tiny.png(image), "path": None} for image in images]
    assert torch.equal(CachedEncoder(encoder, tmp_path).encode(files), expected)
    turned = [image.transpose(2) for image in images]  # same pixels in another size
    with pytest.raises(EncoderError):
        CachedEncoder(encoder, tmp_path).encode(turned)


def test_bad_items_are_refused_with_their_row(tmp_path):
    with pytest.raises(InvalidPairsError, match="item 1 must be a text"):
        CachedEncoder(Counting(), tmp_path).encode(["a", 3])
    encoder = CachedEncoder(load_encoder(tiny.image_repo("vit")), tmp_path)
    with pytest.raises(InvalidPairsError, match="item 2 cannot be used as an image"):
        encoder.encode([*tiny.pictures(2), b"broken"])


def test_an_encoder_that_gives_another_width_than_it_says_is_refused(tmp_path):
    encoder = Counting()
    encoder.space = SpaceSpec(4, repo_id="me/count", revision="a" * 40)
    with pytest.raises(EncoderError, match=r"\(n, 4\) of torch.float32, got \(n, 3\)"):
        CachedEncoder(encoder, tmp_path).encode(["a"])


def test_an_encoder_without_a_commit_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="known commit"):
        CachedEncoder(Counting(revision=None), tmp_path)


# Damage -------------------------------------------------------------------------------------


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_in_a_row(file):
    os.truncate(file, file.stat().st_size - 5)


def lose_a_byte(file):
    content = file.read_bytes()
    file.write_bytes(content[:7] + content[8:])


def add_half_a_row(file):
    with file.open("ab") as stream:
        stream.write(b"12345")


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("name", ["rows.bin", "index.bin"])
@pytest.mark.parametrize(
    "damage", [flip, cut_in_a_row, lose_a_byte, add_half_a_row, zero, os.remove]
)
def test_damaged_files_are_never_believed_and_heal(name, damage, tmp_path):
    texts = [chr(97 + n) * (n + 1) for n in range(20)]
    CachedEncoder(Counting(), tmp_path).encode(texts)
    damage(rows_file(tmp_path).with_name(name))
    assert torch.equal(CachedEncoder(Counting(), tmp_path).encode(texts), plain(texts))
    healed = Counting()
    assert torch.equal(CachedEncoder(healed, tmp_path).encode(texts), plain(texts))
    assert len(healed.asked) == 1


def test_a_cache_that_is_cleared_under_an_encoder_is_filled_again(tmp_path):
    cached = CachedEncoder(Counting(), tmp_path)
    cached.encode(["a", "bb"])
    clear_cache(tmp_path)
    assert torch.equal(cached.encode(["bb", "a"]), plain(["bb", "a"]))
    assert [entry.items for entry in cache_info(tmp_path)] == [2]


@pytest.mark.slow
def test_two_processes_that_write_at_once_lose_and_mix_nothing(tmp_path):
    code = f"""
import sys
from test_cache import CachedEncoder, Counting, plain, torch
for start in range(0, 300, 5):
    texts = [chr(97 + n % 26) * (n + 1) for n in range(start, start + 40)]
    texts += [sys.argv[1] * n for n in range(1, 9)]
    latents = CachedEncoder(Counting(), {str(tmp_path)!r}).encode(texts)
    assert torch.equal(latents, plain(texts))
"""
    with Warm("-c", code, "x") as one, Warm("-c", code, "y") as other:
        assert [one.wait(PATIENCE), other.wait(PATIENCE)] == [0, 0]
    (entry,) = cache_info(tmp_path)
    texts = {chr(97 + n % 26) * (n + 1) for n in range(335)}
    texts |= {name * n for n in range(1, 9) for name in "xy"}
    assert entry.items == len(texts)
    again = Counting()
    everything = sorted(texts)
    assert torch.equal(CachedEncoder(again, tmp_path).encode(everything), plain(everything))
    assert len(again.asked) == 1


def test_many_items_take_few_files_and_are_found_after_the_index_was_sorted(tmp_path):
    texts = [f"{n} text" for n in range(10_000)]
    cached = CachedEncoder(Counting(), tmp_path)
    for start in range(0, len(texts), 1000):
        cached.encode(texts[start : start + 1000])
    asked = len(cached.encoder.asked)
    assert torch.equal(cached.encode(texts[::-1]), plain(texts[::-1]))
    assert len(cached.encoder.asked) == asked
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 4


# Reports and commands -----------------------------------------------------------------------


def test_the_report_counts_items_and_bytes_and_one_encoder_can_be_cleared(tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a", "bb"])
    CachedEncoder(Counting(torch.float16, repo_id="me/other"), tmp_path).encode(["a"])
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "about.json").write_text("[]")
    entries = {entry.repo_id: entry for entry in cache_info(tmp_path)}
    assert entries.keys() == {"me/count", "me/other"}
    assert (entries["me/count"].items, entries["me/other"].items) == (2, 1)
    assert entries["me/other"].dtype == "float16"
    files = rows_file_of(entries["me/count"])
    assert entries["me/count"].bytes == sum(file.stat().st_size for file in files)
    assert [e.repo_id for e in clear_cache(tmp_path, "me/count")] == ["me/count"]
    assert [e.repo_id for e in cache_info(tmp_path)] == ["me/other"]


def rows_file_of(entry):
    from pathlib import Path

    return list(Path(entry.folder).iterdir())


def test_without_a_folder_latents_go_to_the_cache_of_hugging_face():
    CachedEncoder(Counting(repo_id="me/home")).encode(["a"])
    (entry,) = cache_info(encoder="me/home")
    assert entry.folder.startswith(os.path.join(os.environ["HF_HOME"], "latent-bridge"))
    clear_cache(encoder="me/home")
    assert cache_info(encoder="me/home") == []


@pytest.mark.filterwarnings("ignore:50 pairs determine")
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
def test_the_command_line_fills_reports_and_clears_the_cache(tmp_path, capsys, monkeypatch):
    from tiny_models import text_dataset_repo

    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))

    cache = str(tmp_path / "cache")
    fit = ["fit", "--source", bert_repo(), "--target", bert_repo(seed=1), "--quiet"]
    fit += ["--dataset", text_dataset_repo(), "--split", "train", "--source-column", "text"]
    fit += ["--max-pairs", "50", "--output", str(tmp_path / "out")]
    assert main([*fit, "--no-cache"]) == 0
    assert cache_info() == []
    assert main([*fit, "--cache-dir", cache]) == 0
    capsys.readouterr()
    assert main(["cache", "info", "--cache-dir", cache, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {e["repo_id"] for e in facts["entries"]} == {bert_repo(), bert_repo(seed=1)}
    assert main(["cache", "clear", "--cache-dir", cache, "--encoder", bert_repo()]) == 0
    assert "MB deleted" in capsys.readouterr().out
    assert [e.repo_id for e in cache_info(cache)] == [bert_repo(seed=1)]


def test_a_half_precision_encoder_of_texts_comes_back_bit_by_bit(tmp_path):
    encoder = load_encoder(bert_repo(), dtype=torch.bfloat16)
    texts = sentences(30, EN)
    first = CachedEncoder(encoder, tmp_path).encode(texts)
    again = CachedEncoder(encoder, tmp_path).encode(texts)
    assert first.dtype == again.dtype == torch.bfloat16
    assert torch.equal(first.view(torch.int16), again.view(torch.int16))


def test_a_cache_that_cannot_be_used_is_told_once_and_all_is_encoded(tmp_path):
    (tmp_path / "file").touch()
    cached = CachedEncoder(Counting(), tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="Not a directory"):
        assert torch.equal(cached.encode(["a", "bb"]), plain(["a", "bb"]))
    assert torch.equal(cached.encode(["a", "ccc"]), plain(["a", "ccc"]))  # without a warning


def test_a_damaged_description_is_not_believed_and_mended_by_the_next_write(tmp_path):
    cached = CachedEncoder(Counting(), tmp_path)
    cached.encode(["a"])
    (about,) = tmp_path.glob("*/about.json")
    about.write_bytes(about.read_bytes().replace(b"me/count", b"me/coumt"))
    assert cache_info(tmp_path) == []
    cached.encode(["bb"])
    assert [entry.repo_id for entry in cache_info(tmp_path)] == ["me/count"]
