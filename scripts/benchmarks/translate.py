"""Times `translate_file` beside a bare product of the same blocks and a copy of the same bytes.

Each line is rows per second. A translation is at best as fast as the slower of the two.
"""

import argparse
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from common import positive, seconds

if TYPE_CHECKING:
    from hf_latent_bridge import OrthoTranslator

WIDTHS = (384, 768)
ROWS = 200_000
BLOCK = 8192  # rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--rows", type=positive, default=ROWS, help=f"rows (default {ROWS:,})")
    parser.add_argument("--folder", help="where to put the files (default: the system's)")


def run(options: argparse.Namespace) -> int:
    """Prints rows per second of translation, product and copy; returns the exit code."""
    rows = options.rows
    print(f"{rows:,} rows, {WIDTHS[0]} to {WIDTHS[1]}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), rows)
    return 0


def measure(folder: Path, rows: int) -> None:
    """Writes an input, then times everything on it."""
    from hf_latent_bridge import OrthoTranslator, translate_file

    generator = np.random.default_rng(0)
    both = generator.standard_normal((2000, max(WIDTHS)), dtype=np.float32)
    x, y = (both[:, :width].copy() for width in WIDTHS)
    translator = OrthoTranslator().fit(x, y)
    write_input(folder / "in.npy", rows)
    before = peak_mib()
    times = {
        "copy of the bytes": seconds(lambda: copy(folder / "in.npy", folder / "copy", rows)),
        "translate to float32": seconds(
            lambda: translate_file(translator, folder / "in.npy", folder / "out.npy")
        ),
    }
    grown = peak_mib() - before
    times["bare addmm"] = seconds(lambda: products(translator, rows))
    times["translate to float16"] = seconds(
        lambda: translate_file(translator, folder / "in.npy", folder / "half.npy", dtype="float16")
    )
    for name, took in times.items():
        print(f"  {name:24}{rows / took:14,.0f} rows/s{took:9.2f} s")
    bound = max(times["bare addmm"], times["copy of the bytes"])
    print(f"  of the slower of addmm and copy: {bound / times['translate to float32']:.2f}")
    print(f"  peak memory grew by {grown:.0f} MiB")


def write_input(path: Path, rows: int) -> None:
    """A `.npy` file of random rows, written block by block."""
    block = np.random.default_rng(1).standard_normal((BLOCK, WIDTHS[0]), dtype=np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTHS[0])}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, rows, len(block)):
            block[: rows - start].tofile(stream)
        os.fsync(stream.fileno())


def copy(original: Path, copied: Path, rows: int) -> None:
    """Reads the input and writes as many bytes as the output has, synced as a translation is."""
    left = rows * WIDTHS[1] * 4
    with original.open("rb", buffering=0) as read, copied.open("wb", buffering=0) as write:
        while left > 0:
            content = read.read(2**24)
            for piece in (content, content):
                write.write(piece[:left])
                left -= len(piece[:left])
        os.fsync(write.fileno())
    copied.unlink()


def products(translator: "OrthoTranslator", rows: int) -> None:
    """The products of all blocks, on one block in memory."""
    block = torch.randn(BLOCK, WIDTHS[0])
    weight, bias = translator.map_.state_dict().values()
    for start in range(0, rows, len(block)):
        torch.addmm(bias, block[: rows - start], weight)


def peak_mib() -> float:
    """Most memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
