"""Times the hot paths as ratios to the product they cannot do without, in one run.

A fit is one pass and two matrix products per block; a translation is one `addmm`. A ratio of 1 is
the speed of the bare product on this machine.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from hf_latent_bridge import OrthoTranslator, PairedMoments

ROWS = 65_536
BLOCK = 4096
WIDTHS = ((384, 768), (768, 1024))
DTYPES = (torch.float32, torch.float64)


def main() -> None:
    """Prints a table for each device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"pairs (default {ROWS:,})")
    rows = parser.parse_args().rows
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        print(f"{device}, {torch.get_num_threads()} threads, {rows:,} pairs")
        print(f"  {'':28}{'moments':>12}{'of products':>13}{'transform':>12}{'of addmm':>10}")
        for d_x, d_y in WIDTHS:
            for dtype in DTYPES:
                print_row(torch.device(device), dtype, rows, d_x, d_y)


def print_row(device: torch.device, dtype: torch.dtype, rows: int, d_x: int, d_y: int) -> None:
    """Rows per second of moments and translations, and the share of the bare products' speed."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(rows, d, dtype=dtype, generator=generator).to(device) for d in (d_x, d_y))
    translator = OrthoTranslator().fit(x[:8192], y[:8192])
    weight, bias = translator.map_.state_dict().values()
    moments = seconds(lambda: PairedMoments.from_batch(x, y))
    products = seconds(lambda: bare_products(x, y))
    transform = seconds(lambda: translator.transform(x))
    addmm = seconds(lambda: torch.addmm(bias, x, weight))
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


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of one call, after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


if __name__ == "__main__":
    main()
