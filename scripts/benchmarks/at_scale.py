"""Checks that a streamed fit by two processes, killed and resumed, equals one in memory.

Fits MiniLM -> MPNet on 20 newsgroups from the embedded Hub; the first time downloads the encoders
and the dataset.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from assets.cache import cache_root
from common import MAX_LENGTH, MINILM, MPNET, embedded_hub, say, timed

if TYPE_CHECKING:
    from hf_latent_bridge import OrthoTranslator

DATASET = "local/20newsgroups"
PAIRS = 601  # which two processes cannot share evenly
PROCESSES = 2
CHUNK = 64
PATIENCE = 1800
SCRIPT = Path(__file__).parents[1] / "benchmark.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder that each process of the fit is given."""
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Kills, resumes and compares; returns 1 if the translators differ."""
    import torch

    if options.folder is not None:
        fit_share(options.folder)
        return 0
    torch.set_num_threads(1)  # as the processes have: an encoder's rounding depends on it
    cache_root().mkdir(parents=True, exist_ok=True)
    hub = embedded_hub(["minilm", "mpnet", "20newsgroups"])
    with hub, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"Fit on {PAIRS} streamed pairs by {PROCESSES} processes, and kill them in the middle")
        with timed("until the kill"):
            kill_at_checkpoint(launch(folder, errors=subprocess.DEVNULL), folder)
        say("Start the same command again")
        with timed("resumed, to the end"):
            if launch(folder).wait(PATIENCE) != 0:
                return 1
        say("Fit by one process in memory")
        with timed("one process"):
            expected = fit(folder, streaming=False)
        return compare(folder, expected)


def launch(folder: Path, errors: int | None = None) -> "subprocess.Popen[bytes]":
    """Starts several processes on CPUs that fit together; `errors` is where stderr goes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", str(PROCESSES), str(SCRIPT), "at-scale", str(folder)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=errors)


def kill_at_checkpoint(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Sends SIGKILL to all processes once each has saved a checkpoint."""
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("checkpoint/fit-*"))) < PROCESSES:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the fit ended before it saved checkpoints")
        time.sleep(0.05)
    workers = [int(path.stem) for path in folder.glob("*.pid")]
    if len(workers) != PROCESSES:
        raise RuntimeError(f"{PROCESSES} processes should fit, {len(workers)} do")
    for pid in workers:  # torchrun gives each a session of its own, so no group has them all
        os.kill(pid, signal.SIGKILL)
    process.wait(PATIENCE)
    if (folder / "moments.safetensors").exists():
        raise RuntimeError("the fit was over before the kill")
    print(f"  killed {workers} with SIGKILL", flush=True)


def fit(folder: Path, *, streaming: bool) -> "OrthoTranslator":
    """The fit, as each process does it."""
    from hf_latent_bridge import OrthoTranslator, fit_translator, load_encoder, load_pairs

    source, target = (load_encoder(name, max_length=MAX_LENGTH) for name in (MINILM, MPNET))
    pairs = load_pairs(DATASET, split="train", source="text", max_pairs=PAIRS, streaming=streaming)
    return fit_translator(
        OrthoTranslator(),
        source,
        target,
        pairs,
        chunk_size=CHUNK,
        on_bad_row="skip",
        checkpoint_dir=folder / "checkpoint" if streaming else None,
        checkpoint_every=CHUNK,
    )


def fit_share(folder: Path) -> None:
    """Fits in each process of the launch; the first saves."""
    import warnings

    from hf_latent_bridge import save_moments
    from hf_latent_bridge.errors import RankWarning
    from hf_latent_bridge.fitting.processes import Processes

    (folder / f"{os.getpid()}.pid").touch()
    warnings.simplefilter("ignore", RankWarning)
    translator = fit(folder, streaming=True)
    if Processes.current().is_first and translator.moments_ is not None:
        save_moments(translator.moments_, folder / "moments.safetensors")
        translator.save_pretrained(folder / "translator")
        print(f"{translator}\n{translator.fit_summary_}", flush=True)


def compare(folder: Path, expected: "OrthoTranslator") -> int:
    """Prints how far the two translators are apart."""
    from hf_latent_bridge import AutoTranslator, load_moments

    resumed = load_moments(folder / "moments.safetensors").to_tensors()
    translator = AutoTranslator.from_pretrained(folder / "translator")
    moments = expected.moments_
    if moments is None:
        return 1
    say("Resumed fit by two processes against the fit in memory, largest relative difference")
    worst = 0.0
    for name, tensor in moments.to_tensors().items():
        difference = float((resumed[name] - tensor).abs().max() / tensor.abs().max())
        worst = max(worst, difference)
        print(f"  {name:10} {difference:.1e}")
    weights = translator.map_.state_dict()["weight"], expected.map_.state_dict()["weight"]
    apart = float((weights[0] - weights[1]).abs().max() / weights[1].abs().max())
    same_record = translator.dataset_ == expected.dataset_
    print(f"  {'weight':10} {apart:.1e}")
    print(f"  {translator.n_pairs_} and {expected.n_pairs_} pairs, same record: {same_record}")
    return 0 if worst <= 1e-10 and apart <= 1e-5 and same_record else 1
