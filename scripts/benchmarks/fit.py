"""Times a fit's moments and a translation, as ratios to the bare matrix products.

A fit is one pass and two matrix products per block; a translation is one `addmm`. A ratio of 1 is
the speed of the bare product on this machine.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from common import positive, seconds

ROWS = 65_536
BLOCK = 4096
WIDTHS = ((384, 768), (768, 1024))
DTYPES = (torch.float32, torch.float64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--rows", type=positive, default=ROWS, help=f"pairs (default {ROWS:,})")


def run(options: argparse.Namespace) -> int:
    """Prints a table for each device; returns the exit code."""
    rows = options.rows
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        print(f"{device}, {torch.get_num_threads()} threads, {rows:,} pairs")
        print(f"  {'':28}{'moments':>12}{'of products':>13}{'transform':>12}{'of addmm':>10}")
        for d_x, d_y in WIDTHS:
            for dtype in DTYPES:
                print_row(torch.device(device), dtype, rows, d_x, d_y)
    return 0


def print_row(device: torch.device, dtype: torch.dtype, rows: int, d_x: int, d_y: int) -> None:
    """Rows per second of moments and translations, and the share of the bare products' speed."""
    from hf_latent_bridge import OrthoTranslator, PairedMoments

    generator = torch.Generator().manual_seed(0)
    both = torch.randn(rows, max(d_x, d_y), dtype=dtype, generator=generator).to(device)
    x, y = both[:, :d_x].contiguous(), both[:, :d_y].contiguous()
    translator = OrthoTranslator().fit(x[:8192], y[:8192])
    weight, bias = translator.map_.state_dict().values()
    moments = median_seconds(lambda: PairedMoments.from_batch(x, y))
    products = median_seconds(lambda: bare_products(x, y))
    transform = median_seconds(lambda: translator.transform(x))
    addmm = median_seconds(lambda: torch.addmm(bias, x, weight))
    name = f"{d_x} to {d_y}, {str(dtype).removeprefix('torch.')}"
    print(
        f"  {name:28}{rows / moments:10,.0f}/s{products / moments:13.2f}"
        f"{rows / transform:10,.0f}/s{addmm / transform:10.2f}"
    )


def bare_products(x: torch.Tensor, y: torch.Tensor) -> None:
    """The two products per block that moments need."""
    for a, b in zip(torch.split(x, BLOCK), torch.split(y, BLOCK), strict=True):
        torch.mm(a.mT, a)
        torch.mm(a.mT, b)


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of one call, after a warm-up."""

    def finished() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    finished()
    return float(np.median([seconds(finished) for _ in range(repeats)]))
