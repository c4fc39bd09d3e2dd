"""The table of speeds for docs/results.md, and the plot of cost against the number of pairs."""

from collections.abc import Sequence
from pathlib import Path

from common import ROOT, Table

from speed.contest import Measured

PLOT = ROOT / "docs" / "images" / "speed.png"


def table(results: Sequence[Measured]) -> Table:
    """A line for each work of each contest."""
    shown = Table(["row", "case", "work", "median", "its time / ours", "wanted", "memory"])
    for one in results:
        goals = {of: ratio for ratio, of in one.wanted}
        for work in one.seconds:
            peak = one.peak_mib.get(work)
            ours = work == one.ours
            cells = [
                one.case,
                work,
                duration(one.median(work)),
                "" if ours else spread(one.ratios(work)),
                goal(one, work, goals.get(work)),
                "" if peak is None else f"{peak:,.0f} MiB",
            ]
            shown.add(one.row if ours else "", cells)
    return shown


def spread(ratios: Sequence[float]) -> str:
    """The median of some ratios in ascending order, and the two at its sides."""
    middle = len(ratios) // 2
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    median = (ratios[middle] + ratios[-1 - middle]) / 2
    return f"{short(median)} ({short(low)} to {short(high)})" if len(ratios) > 1 else short(median)


def goal(one: Measured, work: str, ratio: float | None) -> str:
    """The goal for a work, with a word if it is missed."""
    if ratio is None:
        return ""
    ratios = one.ratios(work)
    middle = len(ratios) // 2
    missed = (ratios[middle] + ratios[-1 - middle]) / 2 < ratio
    return f"{short(ratio)}, missed" if missed else short(ratio)


def short(value: float) -> str:
    """Three figures at most."""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def plot(results: Sequence[Measured], path: Path) -> Path | None:
    """Draws seconds against the number of pairs, for every row with several sizes.

    Returns:
        The file; None if matplotlib is not installed, or nothing was measured at several sizes.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'hf-latent-bridge[benchmark]')")
        return None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = _lines(results)
    if not lines:
        return None
    figure, axes = plt.subplots(1, len(lines), figsize=(4.6 * len(lines), 3.8), squeeze=False)
    for axis, (name, works) in zip(axes[0], lines.items(), strict=True):
        for work, points in works.items():
            axis.loglog(*zip(*sorted(points), strict=True), marker="o", label=work)
        axis.set(title=name, xlabel="pairs", ylabel="seconds")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def _lines(results: Sequence[Measured]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Row -> work -> points, of the rows with several sizes."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for one in results:
        if one.size is None:
            continue
        works = found.setdefault(one.row, {})
        for work in one.seconds:
            works.setdefault(work, []).append((one.size, one.median(work)))
    return {
        name: works
        for name, works in found.items()
        if any(len(points) > 1 for points in works.values())
    }
