"""A fit that is killed goes on where it was, and ends as if nothing had happened."""

import contextlib
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import killed_fit
import numpy as np
import pytest
import torch
import warm
from datasets import Dataset, IterableDataset
from huggingface_hub import snapshot_download
from processes import ON_CPUS
from tiny_models import sentence_repo

from hf_latent_bridge import (
    KernelTranslator,
    LinearTranslator,
    OrthoTranslator,
    fit_translator,
    load_encoder,
    load_pairs,
)
from hf_latent_bridge.errors import (
    CheckpointError,
    InUseError,
    InvalidLatentsError,
    InvalidPairsError,
)
from hf_latent_bridge.files import seal, unseal
from hf_latent_bridge.fitting.checkpoints import side_identity
from hf_latent_bridge.fitting.encoding import Side

SCRIPT = Path(killed_fit.__file__)


def vectors(n=100, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 3)), draw.normal(size=(n, 4))


@contextlib.contextmanager
def fitting(folder, mode, count):
    """One process that fits, or several that fit together."""
    words = SCRIPT, folder, mode
    runs = warm.group(count, *words) if count > 1 else [warm.Warm(*words, env=ON_CPUS)]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(run) for run in runs]


def fit_whole(folder, count):
    with fitting(folder, "run", count) as runs:
        assert [run.wait(120) for run in runs] == [0] * count


def wait_until_it_hangs(process, folder, count):
    deadline = time.monotonic() + 120
    checkpoints = folder / "checkpoint"
    while not (folder / "hanging").exists() or len(list(checkpoints.glob("fit-*"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_when_it_hangs(folder, count):
    with fitting(folder, "hang", count) as runs:
        wait_until_it_hangs(runs[0], folder, count)
        for run in runs:
            run.kill()
        assert all(run.wait(60) != 0 for run in runs)
    assert not list(folder.glob("result-*"))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_fit_goes_on_and_ends_as_an_uninterrupted_one(count, tmp_path):
    kill_when_it_hangs(tmp_path, count)
    assert len(list((tmp_path / "checkpoint").glob("fit-*"))) == count
    fit_whole(tmp_path, count)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    fit_whole(undisturbed, count)
    for rank in range(count):
        resumed, expected = (
            json.loads((folder / f"result-{rank}.json").read_text())
            for folder in (tmp_path, undisturbed)
        )
        assert resumed["moments"] == expected["moments"]
        assert resumed["selection"] == expected["selection"]
        assert resumed["resumed"] > 0 == expected["resumed"]
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_a_process_whose_partner_is_killed_says_so_where_no_launcher_ends_it(tmp_path):
    with fitting(tmp_path, "hang", 2) as (first, second):
        wait_until_it_hangs(first, tmp_path, 2)
        first.kill()
        _, error = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "ProcessError: another of 2 processes was lost: start all of them again" in error


def stopped(folder):
    """Leaves a checkpoint behind, as a fit does that a bad row stops."""
    x, y = vectors()
    x[55] = np.nan
    with pytest.raises(InvalidPairsError, match="row 55"):
        fit_translator(
            LinearTranslator(),
            None,
            None,
            (x, y),
            chunk_size=10,
            checkpoint_dir=folder,
            checkpoint_every=20,
        )


CHANGES = {
    "pairs was": {"pairs": vectors(seed=1)},
    "source was": {"source": np.stack},
    "translator was": {"translator": OrthoTranslator()},
    'batch_size was "auto", is 8': {"batch_size": 8},
    'on_bad_row was "stop", is "skip"': {"on_bad_row": "skip"},
    "gemm_dtype was": {"gemm_dtype": torch.float32},
    "chunk_size was 10, is 20": {"chunk_size": 20},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_fit_does_not_go_on_and_says_what_changed(what, tmp_path):
    stopped(tmp_path)
    arguments = {
        "translator": LinearTranslator(),
        "source": None,
        "target": None,
        "pairs": vectors(),
        "chunk_size": 10,
        **CHANGES[what],
    }
    with pytest.raises(CheckpointError, match=what):
        fit_translator(**arguments, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("change", ["weights", "autocast"])
def test_an_encoder_of_a_folder_is_known_by_its_weights_and_precision(change, tmp_path):
    def identity():
        return side_identity(Side("source", encoder))

    folder = snapshot_download(sentence_repo(normalize=True))
    encoder = load_encoder(folder, device="cpu")
    before = identity()
    assert before == identity()
    if change == "weights":
        next(encoder.model.parameters()).data[0, 0] += 1
    else:
        encoder.autocast = torch.bfloat16
    assert [name for name in before if before[name] != identity()[name]] == [change]


class Killed(BaseException):
    """Stands for a signal in the middle of a fit."""


class KilledFit:
    """A fit on a .npy file that is killed after 60 of its 100 pairs, and goes on.

    Attributes:
        path: The file with the source latents.
        summary: What the last fit says of itself.
    """

    def __init__(self, folder, kind=LinearTranslator):
        self.path, self._folder, self._kind = folder / "x.npy", folder, kind
        x, noise = vectors()
        self._y = list(x @ np.ones((3, 4)) + 0.1 * noise)
        np.save(self.path, x)
        self._left = 6
        with pytest.raises(Killed):
            self.go_on()
        self._left = 1000

    def encode(self, items):
        self._left -= 1
        if self._left < 0:
            raise Killed
        return np.stack(items)

    def fit(self, **options):
        pairs = load_pairs((str(self.path), self._y))
        fitted = fit_translator(self._kind(), None, self.encode, pairs, chunk_size=10, **options)
        self.summary = fitted.fit_summary_
        return fitted.map_.weight

    def go_on(self):
        return self.fit(checkpoint_dir=self._folder / "checkpoint", checkpoint_every=20)

    def change(self, row):
        """Adds 1 to a row in place, and puts the time of the file back."""
        before = self.path.stat()
        array = np.load(self.path, mmap_mode="r+")
        array[row] += 1
        array.flush()
        del array
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))


class KilledFitOfSaved(KilledFit):
    """The same on a dataset in a folder that `save_to_disk` wrote."""

    def fit(self, **options):
        self.path = self._folder / "saved" / "data-00000-of-00001.arrow"
        if not self.path.exists():
            columns = {"a": vectors()[0], "b": np.stack(self._y)}
            Dataset.from_dict(columns).save_to_disk(self.path.parent)
        pairs = load_pairs(str(self.path.parent), source="a", target="b")
        fitted = fit_translator(self._kind(), None, self.encode, pairs, chunk_size=10, **options)
        self.summary = fitted.fit_summary_
        return fitted.map_.weight

    def change(self, row):
        """Changes a byte of a vector of the source in place."""
        before, content = self.path.stat(), bytearray(self.path.read_bytes())
        place = content.index(vectors()[0][row].tobytes())
        content[place] ^= 1
        with self.path.open("r+b") as file:
            file.write(content)
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))


FITS = [KilledFit, KilledFitOfSaved]


@pytest.mark.parametrize("kind", FITS)
def test_a_file_that_is_changed_while_a_fit_reads_it_is_refused(kind, tmp_path):
    fit = kind(tmp_path)
    encode = fit.encode

    def change(items):
        fit.change(99)
        return encode(items)

    fit.encode = change
    with pytest.raises(InvalidLatentsError, match=f"{fit.path.name} was changed while it was read"):
        fit.fit()


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("row", [0, 59])
def test_a_file_whose_summed_rows_were_changed_in_secret_is_refused(row, kind, tmp_path):
    fit = kind(tmp_path)
    fit.change(row)
    with pytest.raises(CheckpointError, match=r"the first 60 pairs are not those .* changed since"):
        fit.go_on()


@pytest.mark.parametrize("kind", FITS)
def test_a_change_of_rows_that_were_not_read_yet_mixes_nothing(kind, tmp_path):
    fit = kind(tmp_path)
    fit.change(60)
    found = fit.go_on()
    assert (fit.summary.n_read, fit.summary.n_resumed) == (40, 60)
    assert torch.equal(found, fit.fit())


def test_a_file_that_was_copied_elsewhere_and_back_is_gone_on_with(tmp_path):
    fit = KilledFit(tmp_path)
    shutil.copy2(fit.path, tmp_path / "copy.npy")
    os.replace(tmp_path / "copy.npy", fit.path)
    found = fit.go_on()
    assert (fit.summary.n_read, fit.summary.n_resumed) == (40, 60)
    assert torch.equal(found, fit.fit())


def test_what_a_map_was_shown_before_the_sums_must_be_there_too(tmp_path):
    fit = KilledFit(tmp_path, partial(KernelTranslator, n_landmarks=20))
    fit.change(99)  # which is not in the sums, but in the sample that landmarks are chosen from
    with pytest.raises(CheckpointError, match="changed since"):
        fit.go_on()


def test_a_stream_that_gives_other_rows_than_before_is_refused(tmp_path):
    x, noise = vectors()

    def stream(shift, bad):
        for row, (a, b) in enumerate(zip(x + shift, x @ np.ones((3, 4)) + noise, strict=True)):
            yield {"a": a.tolist(), "b": (b * np.nan if row == bad else b).tolist()}

    def fit(shift, bad=None):
        data = IterableDataset.from_generator(stream, gen_kwargs={"shift": shift, "bad": bad})
        pairs = load_pairs(data, source="a", target="b")
        options = {"chunk_size": 10, "checkpoint_dir": tmp_path, "checkpoint_every": 20}
        return fit_translator(LinearTranslator(), None, None, pairs, **options)

    with pytest.raises(InvalidPairsError, match="row 55"):
        fit(0.0, bad=55)
    with pytest.raises(CheckpointError, match="changed since"):
        fit(1.0)
    assert fit(0.0).fit_summary_.n_resumed == 40


def test_another_number_of_processes_is_refused(tmp_path):
    stopped(tmp_path)
    (tmp_path / "fit-0-of-1.safetensors").rename(tmp_path / "fit-0-of-2.safetensors")
    path = tmp_path / "fit-0-of-2.safetensors"
    tensors = unseal(path.read_bytes(), "")
    state = tensors["state"].numpy().tobytes().replace(b'"processes": 1', b'"processes": 2')
    tensors["state"] = torch.frombuffer(bytearray(state), dtype=torch.uint8)
    path.write_bytes(seal(tensors))
    with pytest.raises(CheckpointError, match="processes was 2, is 1"):
        fit_translator(
            LinearTranslator(), None, None, vectors(), chunk_size=10, checkpoint_dir=tmp_path
        )


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path):
    (tmp_path / "fit-0-of-1.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"fit-0-of-1\.safetensors is not a checkpoint"):
        fit_translator(LinearTranslator(), None, None, vectors(), checkpoint_dir=tmp_path)


def fit_to_the_end(folder):
    x, noise = vectors()
    return fit_translator(
        LinearTranslator(),
        None,
        None,
        (x, x @ np.ones((3, 4)) + 0.1 * noise),
        chunk_size=10,
        checkpoint_dir=folder,
        checkpoint_every=20,
    )


def test_a_checkpoint_stays_until_the_translator_is_saved(tmp_path):
    folder, output = tmp_path / "checkpoint", tmp_path / "map"
    fit_to_the_end(folder)
    again = fit_to_the_end(folder)
    assert (again.fit_summary_.n_read, again.fit_summary_.n_resumed) == (0, 100)
    output.write_text("a file where the folder should be")
    with pytest.raises(NotADirectoryError):
        again.save_pretrained(output)
    assert [path.name for path in folder.iterdir()] == ["fit-0-of-1.safetensors"]
    output.unlink()
    again.save_pretrained(output)
    assert not folder.exists()
    assert torch.equal(again.map_.weight, fit_to_the_end(folder).map_.weight)


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(tmp_path):
    fit_to_the_end(tmp_path)
    path = tmp_path / "fit-0-of-1.safetensors"
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    expected = fit_to_the_end(tmp_path).map_.weight
    refused = []
    for position in draw.integers(0, 8 * len(whole), 1000):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert torch.equal(fit_to_the_end(tmp_path).map_.weight, expected)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 900
    assert all("delete it" in message for message in refused)


@pytest.mark.parametrize(
    "lost",
    [
        "identity",
        "after",
        "rows",
        "bad_rows",
        "moments",
        "samples",
        "checksum",
        "stamps",
        "a tensor",
        "all",
        "n",
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused_though_its_hash_is_right(lost, tmp_path):
    fit_to_the_end(tmp_path)
    path = tmp_path / "fit-0-of-1.safetensors"
    tensors = unseal(path.read_bytes(), str(path))
    facts = json.loads(tensors.pop("state").numpy().tobytes())
    if lost == "a tensor":
        del tensors[next(iter(tensors))]
    elif lost == "all":
        facts = [facts]
    elif lost == "n":
        facts["moments"] = {name: numbers[1:] for name, numbers in facts["moments"].items()}
    else:
        del facts[lost]
    state = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)
    path.write_bytes(seal({**tensors, "state": state}))
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of a fit.*: delete it"):
        fit_to_the_end(tmp_path)


def test_a_second_fit_on_the_same_checkpoint_is_refused_at_once(tmp_path):
    def encode(items):
        with pytest.raises(InUseError, match="another process is writing"):
            fit_to_the_end(tmp_path)
        return np.stack(items)

    x, y = vectors(20)
    fit_translator(LinearTranslator(), encode, None, (list(x), y), checkpoint_dir=tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_encoded(tmp_path):
    (tmp_path / "file").touch()
    for option, path in (("checkpoint_dir", tmp_path / "file"), ("bad_rows_file", "/proc/x")):
        with pytest.raises(OSError, match="cannot write"):
            fit_translator(LinearTranslator(), pytest.fail, None, vectors(), **{option: path})
