"""The rows that are measured on the CPU."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speed.contest import Contest, Scale, Wanted, Work, row
from speed.rivals import latentis_linear, latentis_ortho, sklearn_linear, torch_ortho

COUNTS, FEW = (5_000, 20_000, 100_000, 300_000, 1_000_000), (500, 1_000)
MOST_FOR_RIVALS = 300_000  # they need several times the memory of the pairs
MEMORY_AT = 300_000
WIDTHS = (384, 768)


def pairs(n: int, d_x: int, d_y: int, *, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Related latents with a mean and a falling spectrum, float32; from 50,000 on they repeat."""
    draw = torch.Generator().manual_seed(0)
    spread = torch.arange(1, d_x + 1).float().pow(-0.25)
    few = min(n, 50_000)
    x = torch.randn(few, d_x, generator=draw) * spread + 0.1
    y = x @ torch.randn(d_x, d_y, generator=draw) / d_x**0.5
    y += noise * torch.randn(few, d_y, generator=draw)
    copies = -(-n // few)
    return x.repeat(copies, 1)[:n], y.repeat(copies, 1)[:n]


def product(*sides: tuple[Tensor, Tensor]) -> Work:
    """The bare products xᵀy, each in one call."""

    def multiply() -> None:
        for x, y in sides:
            torch.mm(x.mT, y)

    return multiply


@row("fit, linear, 384 to 768")
def fit_linear(scale: Scale) -> Iterator[Contest]:
    """Against the two products that it needs, and against other libraries."""
    from hf_latent_bridge import LinearTranslator

    for n in scale.pick(COUNTS, FEW):
        x, y = pairs(n, *WIDTHS)
        works: dict[str, Work] = {
            "LinearTranslator": lambda: LinearTranslator().fit(x, y),  # noqa: B023
            "bare products": product((x, x), (x, y)),
        }
        if n <= MOST_FOR_RIVALS:
            works["torch lstsq"] = lambda: torch.linalg.lstsq(x, y)  # noqa: B023
            works |= _found(latentis_linear(x, y), sklearn_linear(x, y))
        wanted = [Wanted(0.9, "bare products")] if n >= MEMORY_AT else []
        yield _by_size(n, works, wanted)


@row("fit, ortho, 384 to 768")
def fit_ortho(scale: Scale) -> Iterator[Contest]:
    """Against the one product that it needs, and against other libraries."""
    from hf_latent_bridge import OrthoTranslator

    for n in scale.pick(COUNTS, FEW):
        x, y = pairs(n, *WIDTHS)
        works: dict[str, Work] = {
            "OrthoTranslator": lambda: OrthoTranslator().fit(x, y),  # noqa: B023
            "bare product": product((x, y)),
        }
        if n <= MOST_FOR_RIVALS:
            works["plain torch"] = lambda: torch_ortho(x, y)  # noqa: B023
            works |= _found(latentis_ortho(x, y, scaled=False), latentis_ortho(x, y, scaled=True))
        wanted = [Wanted(0.85, "bare product")] if n >= MEMORY_AT else []
        yield _by_size(n, works, wanted)


def _by_size(n: int, works: Mapping[str, Work], wanted: Sequence[Wanted]) -> Contest:
    """A contest of a row with several sizes; the more pairs, the fewer turns."""
    memory = list(works)[::2] if n == MEMORY_AT else []
    once = list(works)[2:] if n >= 100_000 else []
    most = {300_000: 3, 1_000_000: 1}.get(n)
    return Contest(f"{n:,} pairs", works, wanted, n, memory, most, once)


def _found(*named: tuple[str, Work] | None) -> dict[str, Work]:
    """The works of the libraries that are installed."""
    return dict(one for one in named if one is not None)


@row("moments, share of the bare products")
def moments(scale: Scale) -> Iterator[Contest]:
    """Sxx, Sxy and the diagonal of Syy, in memory, for several widths."""
    from hf_latent_bridge import PairedMoments

    for d_x, d_y, n in ((64, 48, 400_000), (384, 768, 100_000), (768, 1024, 65_536)):
        x, y = pairs(2_000 if scale.quick else n, d_x, d_y)
        works: dict[str, Work] = {
            "PairedMoments": lambda: PairedMoments.from_batch(x, y),  # noqa: B023
            "bare products": product((x, x), (x, y)),
        }
        yield Contest(f"{d_x} to {d_y}", works, [Wanted(0.9, "bare products")])


@row("fit from files, 64 to 48, threads")
def threads(scale: Scale) -> Iterator[Contest]:
    """Two threads beside one, where products are small."""
    from hf_latent_bridge import LinearTranslator, fit_translator, load_pairs

    n = 4_000 if scale.quick else 400_000
    with tempfile.TemporaryDirectory() as name:
        paths = Path(name, "source.npy"), Path(name, "target.npy")
        for path, side in zip(paths, pairs(n, 64, 48), strict=True):
            np.save(path, side.numpy())

        def fit() -> None:
            fit_translator(LinearTranslator(), None, None, load_pairs(paths))

        works = {f"{k} thread{'s' * (k > 1)}": _with_threads(k, fit) for k in (2, 1)}
        yield Contest(f"{n:,} pairs", works, [Wanted(1.0, "1 thread")], wall=True)


def _with_threads(count: int, work: Work) -> Work:
    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            work()
        finally:
            torch.set_num_threads(before)

    return run


@row("transform, 384 to 768")
def transform(scale: Scale) -> Iterator[Contest]:
    """One vector and batches, as tensors and as NumPy arrays, against `addmm`."""
    from hf_latent_bridge import OrthoTranslator

    x, y = pairs(20_000, *WIDTHS)
    translator = OrthoTranslator().fit(x[:4_000], y[:4_000])
    weight, bias = translator.map_.state_dict().values()
    for n, ratio in ((1, 1 / 1.3), (32, 0.97), (20_000, 0.97)):
        for kind in ("tensor", "NumPy"):
            some = x[:n].clone()
            given: Any = some if kind == "tensor" else some.numpy()
            works: dict[str, Work] = {
                "transform": lambda: translator.transform(given),  # noqa: B023
                "addmm": lambda: torch.addmm(bias, some, weight),  # noqa: B023
            }
            yield Contest(f"{n:,} x {kind}", works, [Wanted(ratio, "addmm")])


@row("ridge, 60 penalties, 5 folds, 384 to 768")
def ridge(scale: Scale) -> Iterator[Contest]:
    """The penalty by cross-validation, against scikit-learn and isotrieve."""
    from hf_latent_bridge import AffineTranslator
    from speed.rivals import isotrieve_ridge, sklearn_ridge_cv, sklearn_ridge_folds

    n = 1_000 if scale.quick else 20_000
    x, y = pairs(n, *((16, 24) if scale.quick else WIDTHS))
    ours: dict[str, Work] = {"AffineTranslator": lambda: AffineTranslator(alpha="auto").fit(x, y)}
    rivals = _found(sklearn_ridge_cv(x, y), isotrieve_ridge(x, y))
    wanted = [Wanted(30, name) for name in rivals]
    yield Contest(f"{n:,} pairs", ours | rivals, wanted, most=3)
    rivals = _found(sklearn_ridge_folds(x, y))
    wanted = [Wanted(30, name) for name in rivals]
    yield Contest(
        f"{n:,} pairs, RidgeCV in folds", ours | rivals, wanted, most=3, once=list(rivals)
    )


@row("100,000 stored vectors, MiniLM to MPNet")
def stored(scale: Scale) -> Iterator[Contest]:
    """A file of vectors translated, against encoding the texts again with the new encoder.

    Encoding is timed on a sample of BBC News and multiplied.
    """
    from hf_latent_bridge import OrthoTranslator, translate_file

    n, sample = (1_000, 0) if scale.quick else (100_000, 32)
    x, y = pairs(n, *WIDTHS)
    translator = OrthoTranslator().fit(x[:5_000], y[:5_000])
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name, "old.npy"), x.numpy())

        def translate() -> None:
            Path(name, "new.npy").unlink(missing_ok=True)
            translate_file(translator, Path(name, "old.npy"), Path(name, "new.npy"))

        works: dict[str, Work] = {"translate_file": translate}
        if sample:
            works |= {
                "encode articles with MPNet": _encode(sample, None),
                "encode their first 60 letters": _encode(sample, 60),
            }
        names = list(works)[1:]
        times = dict.fromkeys(names, n / max(1, sample))
        yield Contest(f"{n:,} rows", works, most=3, once=names, times=times)


def _encode(sample: int, letters: int | None) -> Work:
    """Encodes some texts of BBC News, with a limit of 512 tokens or cut."""
    from assets import prepare

    from hf_latent_bridge import load_encoder
    from speed.cuda import some_texts

    texts = [text[:letters] for text in some_texts("articles", sample)]
    encoder = load_encoder(str(prepare("mpnet")), device="cpu")
    return lambda: encoder.encode(texts)


PROCESSES = "fit from files by processes, 384 to 768"


@row(PROCESSES)
def processes(scale: Scale) -> Iterator[Contest]:
    """Two processes with one thread each beside one; start and end of Python included."""
    for n in scale.pick((2_000, 300_000), (2_000,)):
        with tempfile.TemporaryDirectory() as name:
            for side, values in zip(("source", "target"), pairs(n, *WIDTHS), strict=True):
                np.save(Path(name, f"{side}.npy"), values.numpy())
            counts = (1,) if scale.quick else (2, 1)
            works = {f"{k} process{'es' * (k > 1)}": _launch(k, name) for k in counts}
            yield Contest(f"{n:,} pairs", works, size=n, most=2, wall=True)


def _launch(count: int, folder: str) -> Work:
    """Fits on the files in a folder by so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    launcher = launcher if count > 1 else []
    files = [f"--{side}-vectors={folder}/{side}.npy" for side in ("source", "target")]
    fit = ["-m", "hf_latent_bridge", "fit", "--type", "linear", *files, f"--output={folder}/made"]
    run = _python(*launcher, *fit)

    def anew() -> None:
        shutil.rmtree(Path(folder, "made"), ignore_errors=True)
        run()

    return anew


@row("start of the program")
def start(scale: Scale) -> Iterator[Contest]:
    """What `import hf_latent_bridge` and `latent-bridge --help` take beyond Python itself."""
    works: dict[str, Work] = {
        "import hf_latent_bridge": _python("-c", "import hf_latent_bridge"),
        "python": _python("-c", "pass"),
        "latent-bridge --help": _python("-m", "hf_latent_bridge", "--help"),
    }
    if not scale.quick:
        works["import torch"] = _python("-c", "import torch")
        works["import of all names"] = _python("-c", "from hf_latent_bridge import *")
    yield Contest("a process of its own", works)


def _python(*arguments: str) -> Callable[[], None]:
    """Starts Python with some arguments, and waits for its end."""

    def run() -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
        command = [sys.executable, *arguments]
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=1200)

    return run
