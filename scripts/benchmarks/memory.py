"""Measures whether the memory of a fit depends on the number of pairs: 50,000 and 1,000,000.

The vectors, 384 and 768 wide in float32, are written to .npy files (4.6 GB, removed afterwards),
and each fit runs in a process of its own.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

COUNTS = (50_000, 1_000_000)
WIDTHS = {"source": 384, "target": 768}
BLOCK = 50_000
SCRIPT = Path(__file__).parents[1] / "benchmark.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder that the process of one fit is given."""
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Prints peak memory and speed for both counts; returns 1 if they are over 10 % apart."""
    if options.folder is not None:
        print(json.dumps(measure(options.folder)))
        return 0
    peaks = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            for side, width in WIDTHS.items():
                write(Path(name) / f"{side}.npy", count, width)
            command = [sys.executable, str(SCRIPT), "memory", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
        result = json.loads(done.stdout)
        peaks.append(result["peak"])
        print(f"{count:>9,} pairs: peak {result['peak']:,.0f} MB, {result['summary']}", flush=True)
    apart = abs(peaks[1] / peaks[0] - 1)
    print(f"peaks are {apart:.1%} apart")
    return 0 if apart <= 0.1 else 1


def write(path: Path, count: int, width: int) -> None:
    """Writes random vectors, block by block."""
    both = np.random.default_rng(0).standard_normal((BLOCK, max(WIDTHS.values())), np.float32)
    block = np.ascontiguousarray(both[:, :width])
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(count // BLOCK):
            stream.write(block.data)


def measure(folder: Path) -> dict[str, object]:
    """Fits on the two files; peak resident memory of this process in MB, and the summary."""
    from hf_latent_bridge import LinearTranslator, fit_translator, load_pairs

    pairs = load_pairs((folder / "source.npy", folder / "target.npy"))
    translator = fit_translator(LinearTranslator(), None, None, pairs)
    status = Path("/proc/self/status").read_text()
    kilobytes = re.search(r"VmHWM:\s+(\d+)", status)
    peak = int(kilobytes[1]) / 1024 if kilobytes else 0.0
    return {"peak": peak, "summary": str(translator.fit_summary_)}
