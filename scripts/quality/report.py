"""Tables and plots of the comparison, from the cells that are kept.

Scores are means over ordered pairs of encoders and draws of anchors. The best is bold, and so is
every method that trails it by at most one standard error of the paired difference.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter, methodcaller
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common import ROOT, Table
from experiments.results_page import Section

from quality.cells import FEW, FULL, NATIVE, SHARES, mixed_score
from quality.methods import AUTO_WIDTH, HUBS, MOVE_BOTH, PAPER, SHARED

SCORES = ("R@1", "MRR", "P@10", "overlap@10", "accuracy", "cosine")
PLOTTED = ("ortho", "affine, alpha=0.1", "isotrieve, ridge", "Drift-Adapter, MLP", SHARED)
RIVALS = ("latentis", "isotrieve", "Drift-Adapter")
IMAGES = ROOT / "docs" / "images"

CHOSEN_FOR = {  # the objective behind each column, by what a user would ask for
    "R@1": "auto, counterpart",
    "MRR": "auto, counterpart",
    "P@10": "auto, classification",
    "overlap@10": "auto, ranking",
    "accuracy": "auto, classification",
    "cosine": "auto, reconstruction",
}

STANDINGS = AHEAD, LEVEL, BEHIND = "ahead", "level", "behind"

CellFile = Mapping[str, Any]
Key = tuple[Any, ...]
Values = dict[str, dict[Key, float]]


def add_tables(section: Section, title: str, query: str, cells: Sequence[CellFile]) -> None:
    """Adds all tables of one data set.

    Args:
        section: Of the page.
        title: Of the data set.
        query: What its queries are called; "" if it has none.
        cells: What `Store.read` gave.
    """
    by_kind = {kind: [cell for cell in cells if cell["kind"] == kind] for kind in _kinds(cells)}
    joint = at_full(first_encoders(by_kind.get("joint", [])))
    if joint:
        section.add(*summary_table(title, joint))
    for count in sorted({len(cell["encoders"]) for cell in joint}):
        chosen = [cell for cell in joint if len(cell["encoders"]) == count]
        section.add(*joint_table(title, chosen))
    pairs = complete_draws(by_kind.get("pair", []))
    for size in sorted({cell["anchors"] for cell in pairs}, reverse=True):
        section.add(*score_table(title, size, [c for c in pairs if c["anchors"] == size]))
    if pairs:
        section.add(*pair_table(title, pairs))
        section.add(*mixed_table(title, pairs))
    asked = complete_draws(by_kind.get("queries", []), like=pairs)
    if asked:
        draws = {cell["draw"] for cell in asked}
        documents = [cell for cell in pairs if cell["draw"] in draws]
        section.add(*query_table(title, query, [*documents, *asked]))


def complete_draws(
    cells: Sequence[CellFile], *, like: Sequence[CellFile] | None = None
) -> list[CellFile]:
    """Cells of those draws of so many anchors for which every two encoders are there.

    Args:
        cells: Cells of one kind.
        like: Cells that name the pairs that must be there; None for `cells` themselves.
    """

    def drawn(cell: CellFile) -> tuple[int, str, int]:
        return cell["anchors"], cell.get("of", ""), cell["draw"]

    pairs: dict[tuple[int, str, int], set[tuple[str, ...]]] = {}
    for cell in cells:
        pairs.setdefault(drawn(cell), set()).add(tuple(cell["pair"]))
    wanted = {tuple(cell["pair"]) for cell in (cells if like is None else like)}
    return [cell for cell in cells if pairs[drawn(cell)] >= wanted]


def first_encoders(cells: Sequence[CellFile]) -> list[CellFile]:
    """Those of all encoders and of the first few of these."""
    every: list[str] = max((cell["encoders"] for cell in cells), key=len, default=[])
    return [cell for cell in cells if cell["encoders"] == every[: len(cell["encoders"])]]


def at_full(cells: Sequence[CellFile]) -> list[CellFile]:
    """Those with as many anchors as there are where their number does not vary."""
    full = max((cell["anchors"] for cell in cells if cell["anchors"] <= FULL), default=None)
    return [cell for cell in cells if cell["anchors"] == full]


def _kinds(cells: Iterable[CellFile]) -> set[str]:
    return {cell["kind"] for cell in cells}


def joint_table(title: str, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """P@10 of one index for several encoders, whoever asks."""
    names = cells[0]["encoders"]
    alone = {name: fmean(cell["results"][NATIVE][name] for cell in cells) for name in names}
    best = max(alone, key=lambda name: alone[name])
    table = Table([f"P@10, {cells[0]['anchors']:,} anchors", *(f"{n} asks" for n in names), "mean"])
    table.add("each alone, in its own index", [*alone.values(), fmean(alone.values())])
    values = [gather(cells, itemgetter(name)) for name in names]
    values.append(gather(cells, lambda result: fmean(result.values())))
    add_rows(table, values)
    heading = (
        f"{title}: one index for {len(names)} encoders. Each item is in it once, from one encoder. "
        f"Plain maps go into the space of {best}, the best alone"
    )
    return heading, table


def summary_table(title: str, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """What the README cites: one index for a few encoders, in five lines."""
    count = min(max(FEW), max(len(cell["encoders"]) for cell in cells))
    chosen = [cell for cell in cells if len(cell["encoders"]) == count]
    means: dict[str, list[float]] = {
        method: [
            fmean(cell["results"][method][name] for cell in chosen)
            for name in chosen[0]["encoders"]
        ]
        for method in chosen[0]["results"]
    }

    def best(methods: Iterable[str]) -> str:
        return max(methods, key=lambda name: fmean(means[name]))

    others = means.keys() - {NATIVE, SHARED, AUTO_WIDTH}
    rivals = {name for name in others if name.startswith(RIVALS)}
    plain = best(others - rivals - set(PAPER) - {"ridge, GCV"})
    rows = {
        f"{count} indexes, one for each encoder": NATIVE,
        f"one index, best of our maps into one encoder's space ({plain})": plain,
        f"one index, best of the rivals ({best(rivals)})": best(rivals),
        "one index, `SharedSpace(64)`": SHARED,
    }
    table = Table([f"{title}, {count} encoders: P@10", "worst asks", "mean", "best asks"])
    for row, method in rows.items():
        values = means[method]
        table.add(row, [min(values), fmean(values), max(values)])
    return "In short", table


def is_rival(method: str) -> bool:
    """Whether a row is the paper's, ridge by generalised cross-validation, or another library."""
    return method in (*PAPER, "ridge, GCV") or method.startswith(RIVALS)


def choice_table(cells_by_title: Mapping[str, Sequence[CellFile]]) -> tuple[str, Table]:
    """How far what auto chose for a column is ahead of all rivals, by data set and anchors."""
    table = Table(["auto, less the nearest rival", *CHOSEN_FOR])
    standings: dict[str, Counter[str]] = {score: Counter() for score in CHOSEN_FOR}
    for title, cells in cells_by_title.items():
        pairs = complete_draws([cell for cell in cells if cell["kind"] == "pair"])
        for size in sorted({cell["anchors"] for cell in pairs}):
            row = []
            same = [cell for cell in pairs if cell["anchors"] == size]
            for score, auto in CHOSEN_FOR.items():
                column = scores_of(same, score)
                lead, standing = least_lead(column, auto)
                standings[score][standing] += 1
                row.append({AHEAD: f"**{lead:+.3f}**"}.get(standing, f"{lead:+.3f} {standing}"))
            table.add(f"{title}, {size:,} anchors", row)
    counts = [[found[standing] for standing in STANDINGS] for found in standings.values()]
    table.add("places ahead / level / behind", [" / ".join(map(str, row)) for row in counts])
    heading = "What auto chose for a column, less the rival that comes nearest to it; bold: ahead"
    return heading, table


def least_lead(column: Values, auto: str) -> tuple[float, str]:
    """The lead over the nearest rival, and whether that is ahead of all, level, or behind one.

    A rival is compared on the directions and draws that both have; it is level within one standard
    error of the difference.
    """
    leads = [_lead(column[auto], found) for rival, found in column.items() if is_rival(rival)]
    behind = any(lead < -error for lead, error in leads)
    ahead = all(lead > error for lead, error in leads)
    return min(leads)[0], BEHIND if behind else AHEAD if ahead else LEVEL


def score_table(title: str, size: int, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """All scores for one number of anchors."""
    table = Table([f"{size:,} anchors", *SCORES])
    natives = [result for cell in cells for result in cell["results"][NATIVE].values()]
    own = {name: fmean(result[name] for result in natives) for name in ("P@10", "accuracy")}
    table.add("native", [own.get(score, "") for score in SCORES])
    values = {score: scores_of(cells, score) for score in SCORES}
    add_rows(table, list(values.values()))
    return f"{title}: means over {_extent(cells)}", table


def pair_table(title: str, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """R@1 of each ordered pair of encoders: where ours are ahead, and where they are not."""
    chosen = at_full(cells)
    directions = sorted({key for cell in chosen for key in cell["results"][NATIVE]})
    values = scores_of(chosen, "R@1")
    rest = [name for name in values if not name.startswith(MOVE_BOTH)]
    size = chosen[0]["anchors"]
    shared = (SHARED, AUTO_WIDTH, HUBS)
    table = Table([f"R@1, {size:,} anchors", "best plain map or rival", "", *shared])
    for direction in directions:
        means = {
            name: fmean(value for key, value in found.items() if key[0] == direction)
            for name, found in values.items()
        }
        best = max(rest, key=lambda name: means[name])
        row = [means[name] for name in (best, *shared)]
        marked = [f"**{value:.3f}**" if value == max(row) else value for value in row]
        table.add(direction.replace(">", " → "), [best, *marked])
    for encoder, found in in_two_languages(chosen).items():
        table.add(
            f"{encoder} → itself, on the others' texts", ["no map", found, *[""] * len(shared)]
        )
    return f"{title}: each pair of encoders", table


def in_two_languages(cells: Sequence[CellFile]) -> dict[str, float]:
    """R@1 of encoders that read both languages of the data, from one to the other with no map."""
    return {
        key.rpartition(">")[2]: result["R@1"]
        for cell in cells
        for key, result in cell["results"][NATIVE].items()
        if "R@1" in result
    }


def query_table(title: str, query: str, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """R@1 of queries that are not documents, by number and kind of the anchors."""
    names = {"documents": "documents", "queries": query, "both": "both"}
    there = {(cell["anchors"], cell.get("of", "documents")) for cell in cells}
    sizes = sorted({size for size, _ in there if size <= FULL})
    columns = [(size, kind) for size in sizes for kind in names if (size, kind) in there]
    table = Table(["R@1", *(f"{size:,} {names[kind]}" for size, kind in columns)])
    by_column = [
        [cell for cell in cells if (cell["anchors"], cell.get("of", "documents")) == column]
        for column in columns
    ]
    score = {"documents": "query R@1"}
    natives = [
        fmean(
            result[score.get(kind, "R@1")]
            for cell in some
            for result in cell["results"][NATIVE].values()
        )
        for some, (_, kind) in zip(by_column, columns, strict=True)
    ]
    table.add("native", natives)
    add_rows(
        table,
        [
            scores_of(some, score.get(kind, "R@1"))
            for some, (_, kind) in zip(by_column, columns, strict=True)
        ],
    )
    heading = f"{title}: {query} look for their document; columns say what the anchors are"
    return f"{heading}. Means over {_extent(by_column[-1])}", table


def mixed_table(title: str, cells: Sequence[CellFile]) -> tuple[str, Table]:
    """P@10 while an index is re-encoded, by the share that is done."""
    chosen = at_full(cells)
    columns = [(share, "new") for share in SHARES] + [(0.5, "old")]
    header = [f"{share:.0%}, {asking} asks" for share, asking in columns]
    table = Table(["P@10, share re-encoded", *header])
    natives = [result["P@10"] for cell in chosen for result in cell["results"][NATIVE].values()]
    table.add("native", [fmean(natives)] * len(columns))
    names = [mixed_score(*column) for column in columns]
    add_rows(table, [gather(chosen, methodcaller("get", name), each=True) for name in names])
    heading = f"{title}: one index while its items are re-encoded, {chosen[0]['anchors']:,} anchors"
    return f"{heading}; means over {_extent(chosen)}", table


def scores_of(cells: Sequence[CellFile], score: str) -> Values:
    """A score of each method in each direction of each cell.

    A search is by plain cosine or by cosine about the anchors' mean, whichever is better for the
    method in the mean over all of them.
    """
    centred, plain = (
        gather(cells, methodcaller("get", name), each=True) for name in (score, f"{score}, raw")
    )
    return {
        method: max(found, plain.get(method, found), key=lambda values: fmean(values.values()))
        for method, found in centred.items()
    }


def gather(
    cells: Sequence[CellFile], read: Callable[[Any], float | None], *, each: bool = False
) -> Values:
    """One score of each method in each cell; where `each`, in each direction of the cell.

    Methods that lack some of the pairs are left out: their means would be of other pairs.
    """
    values: Values = {}
    for cell in cells:
        where = (*cell.get("pair", cell.get("encoders")), cell["anchors"], cell["draw"])
        for method, result in cell["results"].items():
            if method == NATIVE:
                continue
            for key, found in result.items() if each else [("", result)]:
                value = read(found)
                if value is not None:
                    values.setdefault(method, {})[key, *where] = value
    everywhere = {method: {key[:-1] for key in found} for method, found in values.items()}
    most = max((len(keys) for keys in everywhere.values()), default=0)
    return {method: found for method, found in values.items() if len(everywhere[method]) == most}


def add_rows(table: Table, columns: Sequence[Values], *, suffix: str = "") -> None:
    """Adds a row for each method, the best of each column in bold."""
    methods = list(dict.fromkeys(name for column in columns for name in column))
    winners = [best_of(column) for column in columns]
    for method in sorted(methods, key=_order):
        cells = []
        for column, winning in zip(columns, winners, strict=True):
            if method not in column:
                cells.append("-")
                continue
            shown = f"{fmean(column[method].values()):.3f}"
            cells.append(f"**{shown}**" if method in winning else shown)
        table.add(method + suffix, cells)


def best_of(column: Values) -> set[str]:
    """The method with the best mean, and those within one standard error of it."""
    if not column:
        return set()
    best = max(column, key=lambda name: fmean(column[name].values()))
    return {name for name, found in column.items() if _close(found, column[best])}


def _close(found: Mapping[Key, float], best: Mapping[Key, float]) -> bool:
    if not best.keys() & found.keys():
        return False
    lead, error = _lead(best, found)
    return lead <= error


def _lead(first: Mapping[Key, float], second: Mapping[Key, float]) -> tuple[float, float]:
    """Mean difference where both are there, and its standard error."""
    gaps = [first[key] - second[key] for key in first.keys() & second.keys()]
    return fmean(gaps), stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0


def _order(method: str) -> tuple[int, str]:
    groups = ("affine", "linear", "l_ortho", "ortho", "affine, alpha=0.1", "ridge, GCV")
    if method in groups:
        return groups.index(method), method
    if method.startswith(RIVALS):
        return len(groups), method
    return len(groups) + (2 if method in (SHARED, AUTO_WIDTH, HUBS) else 1), method


def _extent(cells: Sequence[CellFile]) -> str:
    pairs = {frozenset(cell["pair"]) for cell in cells}
    draws = {cell["draw"] for cell in cells}
    plural = "s" if len(draws) > 1 else ""
    return f"{2 * len(pairs)} ordered pairs of encoders and {len(draws)} draw{plural} of anchors"


def plot(cells_by_title: Mapping[str, Sequence[CellFile]], folder: Path = IMAGES) -> list[Path]:
    """Draws R@1 by the number of anchors, and P@10 by the share re-encoded.

    Returns:
        The files; none if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is not installed (pip install 'hf-latent-bridge[benchmark]')")
        return []
    mpl.use("Agg")
    return [
        _draw(cells_by_title, "pair", folder / "quality-anchors.png"),
        _draw(cells_by_title, "mixed", folder / "quality-mixed.png"),
    ]


def _draw(cells_by_title: Mapping[str, Sequence[CellFile]], kind: str, path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(cells_by_title), figsize=(4.2 * len(cells_by_title), 3.4), squeeze=False
    )
    for axis, (title, cells) in zip(axes[0], cells_by_title.items(), strict=True):
        pairs = complete_draws([cell for cell in cells if cell["kind"] == "pair"])
        for method in PLOTTED:
            points = _anchor_line(pairs, method) if kind == "pair" else _share_line(pairs, method)
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=method)
        if kind == "pair":
            axis.set_xscale("log")
            axis.set(title=title, xlabel="anchors", ylabel="R@1")
        else:
            axis.set(title=title, xlabel="share re-encoded", ylabel="P@10, new encoder asks")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def _anchor_line(cells: Sequence[CellFile], method: str) -> list[tuple[float, float]]:
    found: dict[float, list[float]] = {}
    for cell in cells:
        for result in cell["results"].get(method, {}).values():
            found.setdefault(cell["anchors"], []).append(result["R@1"])
    return [(size, fmean(values)) for size, values in sorted(found.items())]


def _share_line(cells: Sequence[CellFile], method: str) -> list[tuple[float, float]]:
    chosen = [cell for cell in at_full(cells) if method in cell["results"]]
    results = [result for cell in chosen for result in cell["results"][method].values()]
    if not results:
        return []
    return [(share, fmean(r[mixed_score(share, "new")] for r in results)) for share in SHARES]
