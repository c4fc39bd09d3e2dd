"""Times `translate_file` beside the product and the copy that it cannot do without, in one run.

Each line is rows per second. A translation can go no faster than the slower of a bare `addmm` on
the same blocks, and of reading the input and writing the output to the disk.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hf_latent_bridge import OrthoTranslator, translation
from hf_latent_bridge.translation import translate_file

WIDTHS = (384, 768)
ROWS = 200_000


def main() -> None:
    """Prints rows per second of translation, product and copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows (default {ROWS:,})")
    parser.add_argument("--folder", help="where to put the files (default: the system's)")
    args = parser.parse_args()
    print(f"{args.rows:,} rows, {WIDTHS[0]} to {WIDTHS[1]}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measure(Path(folder), args.rows)


def measure(folder: Path, rows: int) -> None:
    """Writes an input, then times everything on it."""
    generator = np.random.default_rng(0)
    x, y = (generator.standard_normal((2000, width), dtype=np.float32) for width in WIDTHS)
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
    block = np.random.default_rng(1).standard_normal((8192, WIDTHS[0]), dtype=np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTHS[0])}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, rows, len(block)):
            block[: rows - start].tofile(stream)
        os.fsync(stream.fileno())


def copy(source: Path, target: Path, rows: int) -> None:
    """Reads the input and writes as many bytes as the output has, synced as a translation is."""
    left = rows * WIDTHS[1] * 4
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        while left > 0:
            content = read.read(2**24)
            for part in (content, content):
                write.write(part[:left])
                left -= len(part[:left])
        os.fsync(write.fileno())
    target.unlink()


def products(translator: OrthoTranslator, rows: int) -> None:
    """The products of all blocks, on one block in memory."""
    block = torch.randn(translation._ROWS, WIDTHS[0])
    weight, bias = translator.map_.state_dict().values()
    for start in range(0, rows, len(block)):
        torch.addmm(bias, block[: rows - start], weight)


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib() -> float:
    """Most memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
