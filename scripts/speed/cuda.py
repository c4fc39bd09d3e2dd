"""The rows that are measured on a GPU."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from assets import prepare
from torch import Tensor

from speed.contest import Contest, Scale, Wanted, Work, row
from speed.rivals import torch_ortho

if TYPE_CHECKING:
    from hf_latent_bridge.encoders.base import BatchSize

WIDTHS = ((384, 768), (768, 1024), (1024, 4096))
SHORT, N_SHORT, N_ARTICLES = 60, 4_096, 1_024  # letters of a short text; texts
DTYPES = (torch.float32, torch.bfloat16)
# our batch size, that of SentenceTransformer, and the goal; "auto" is 256 on a GPU
OWN_AND_THEIRS: tuple[tuple["BatchSize", int, float], ...] = ((32, 32, 1.0), ("auto", 256, 1.5))
MODELS = {"minilm": "MiniLM", "mpnet": "MPNet"}


def pairs(n: int, d_x: int, d_y: int) -> tuple[Tensor, Tensor]:
    """Related latents with a mean and a falling spectrum, float32, made on the GPU."""
    draw = torch.Generator("cuda").manual_seed(0)
    options: Any = {"generator": draw, "device": "cuda"}
    spread = torch.arange(1, d_x + 1, device="cuda").float().pow(-0.25)
    x = torch.randn(n, d_x, **options) * spread + 0.1
    turn = torch.linalg.qr(torch.randn(max(d_x, d_y), d_x, **options))[0].mT[:, :d_y]
    return x, x @ turn + 0.1 * torch.randn(n, d_y, **options)


@row("GPU: moments, share of the bare products", "cuda")
def moments(scale: Scale) -> Iterator[Contest]:
    """Sxx, Sxy and the diagonal of Syy in memory, against each product in one call."""
    from hf_latent_bridge import PairedMoments

    for d_x, d_y in WIDTHS:
        x, y = pairs(2_000 if scale.quick else 131_072, d_x, d_y)
        works: dict[str, Work] = {
            "PairedMoments": lambda: PairedMoments.from_batch(x, y),  # noqa: B023
            "bare products": lambda: (x.mT @ x, x.mT @ y),  # noqa: B023
        }
        yield Contest(f"{d_x} to {d_y}", works, [Wanted(0.85, "bare products")])


@row("GPU: one product of float32 latents", "cuda")
def products(scale: Scale) -> Iterator[Contest]:
    """In float32, float64 and split into parts for tensor cores; names tell the relative error."""
    for d_x, d_y in WIDTHS:
        x, y = pairs(8_192 if scale.quick else 131_072, d_x, d_y)
        exact = x.double().mT @ y.double()
        ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "float32": _plain_product,
            "float64": lambda x, y: x.double().mT @ y.double(),
            "3 of TF32 parts": _of_tf32_parts,
            "6 of bfloat16 parts": _of_bfloat16_parts,
        }
        works: dict[str, Work] = {}
        for name, way in ways.items():
            error = float((way(x, y).double() - exact).norm() / exact.norm())
            works[f"{name}, error {error:.0e}"] = partial(way, x, y)
        yield Contest(f"{d_x} to {d_y}", works)


_SLICE = 4_096  # rows whose product is taken in float32


def _plain_product(x: Tensor, y: Tensor) -> Tensor:
    return x.mT @ y


def _of_tf32_parts(x: Tensor, y: Tensor) -> Tensor:
    (x_high, x_low), (y_high, y_low) = (
        _tf32_parts(side.view(-1, _SLICE, side.shape[1])) for side in (x, y)
    )
    torch.backends.cuda.matmul.allow_tf32 = True
    found = torch.bmm(x_low.mT, y_high)
    found.baddbmm_(x_high.mT, y_low).baddbmm_(x_high.mT, y_high)
    torch.backends.cuda.matmul.allow_tf32 = False
    return found.sum(0, dtype=torch.float64)


def _tf32_parts(side: Tensor) -> tuple[Tensor, Tensor]:
    """The number rounded to the 11 bits of TF32, and the rest."""
    high = ((side.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
    return high, side - high


def _of_bfloat16_parts(x: Tensor, y: Tensor) -> Tensor:
    xs, ys = (_bfloat16_parts(side.view(-1, _SLICE, side.shape[1])) for side in (x, y))
    cuda: Any = torch  # baddbmm with another dtype of the result has no types yet
    found = cuda.bmm(xs[1].mT, ys[1], out_dtype=torch.float32)
    for i, k in ((0, 2), (2, 0), (0, 1), (1, 0), (0, 0)):
        found = cuda.baddbmm(found, xs[i].mT, ys[k], out_dtype=torch.float32)
    total: Tensor = found.sum(0, dtype=torch.float64)
    return total


def _bfloat16_parts(side: Tensor) -> list[Tensor]:
    parts: list[Tensor] = []
    for _ in range(3):
        parts.append(side.bfloat16())
        side = side - parts[-1].float()
    return parts


@row("GPU: fit, ortho, in memory, 768 to 1024", "cuda")
def fit_ortho(scale: Scale) -> Iterator[Contest]:
    """Against Procrustes in a few lines of torch."""
    from hf_latent_bridge import OrthoTranslator

    for n in scale.pick((300_000, 1_000_000), (2_000,)):
        x, y = pairs(n, 768, 1024)
        works: dict[str, Work] = {
            "OrthoTranslator": lambda: OrthoTranslator().fit(x, y),  # noqa: B023
            "plain torch": lambda: torch_ortho(x, y),  # noqa: B023
        }
        memory = [] if scale.quick or n > 300_000 else list(works)
        yield Contest(f"{n:,} pairs", works, [Wanted(1.0, "plain torch")], memory=memory)


@row("GPU: solve, ortho", "cuda")
def solve(scale: Scale) -> Iterator[Contest]:
    """From moments, against the SVD of the cross moment."""
    from hf_latent_bridge import PairedMoments
    from hf_latent_bridge.solvers import Problem, solve_ortho

    for d_x, d_y in ((64, 300),) if scale.quick else ((768, 1024), (4096, 4096)):
        found = PairedMoments.from_batch(*pairs(4 * max(d_x, d_y), d_x, d_y))
        problem = Problem.from_moments(found, "standard")
        works: dict[str, Work] = {
            "solve_ortho": lambda: solve_ortho(problem),  # noqa: B023
            "SVD": lambda: torch.linalg.svd(problem.k, full_matrices=False),  # noqa: B023
        }
        yield Contest(f"{d_x} to {d_y}", works, [Wanted(5, "SVD")], most=3)


@row("GPU: transform, 768 to 1024", "cuda")
def transform(scale: Scale) -> Iterator[Contest]:
    """One vector and batches, against `addmm`."""
    from hf_latent_bridge import OrthoTranslator

    x, y = pairs(4_000 if scale.quick else 300_000, 768, 1024)
    translator = OrthoTranslator().fit(x[:4_000], y[:4_000])
    weight, bias = translator.map_.state_dict().values()
    for n, ratio in ((1, 1 / 1.3), (32, 1 / 1.3), (len(x), 0.97)):
        some = x[:n].clone()
        works: dict[str, Work] = {
            "transform": lambda: translator.transform(some),  # noqa: B023
            "addmm": lambda: torch.addmm(bias, some, weight),  # noqa: B023
        }
        yield Contest(f"{n:,} vectors", works, [Wanted(ratio, "addmm")])


@row("GPU: fit from files, 768 to 1024", "cuda")
def fit_from_files(scale: Scale) -> Iterator[Contest]:
    """Two `.npy` files in the page cache, against reading them."""
    from hf_latent_bridge import OrthoTranslator, fit_translator, load_pairs

    n = 2_000 if scale.quick else 500_000
    with tempfile.TemporaryDirectory() as name:
        paths = Path(name, "source.npy"), Path(name, "target.npy")
        for path, side in zip(paths, pairs(n, 768, 1024), strict=True):
            np.save(path, side.cpu().numpy())

        def fit(dtype: torch.dtype) -> None:
            found = load_pairs(paths)
            fit_translator(OrthoTranslator(), None, None, found, gemm_dtype=dtype)

        def read() -> None:
            for _ in load_pairs(paths).chunks(16_384):
                pass

        works: dict[str, Work] = {
            "fit_translator": partial(fit, torch.float64),
            "with products in float32": partial(fit, torch.float32),
            "only reading": read,
        }
        yield Contest(f"{n:,} pairs", works)


@row("GPU: encode", "cuda")
def encode(scale: Scale) -> Iterator[Contest]:
    """Against `SentenceTransformer.encode`; ours / theirs are the two batch sizes."""
    from sentence_transformers import SentenceTransformer

    from hf_latent_bridge import load_encoder

    for model, title in MODELS.items():
        for dtype in DTYPES:
            folder = encoder_folder(model)
            theirs = SentenceTransformer(
                folder, device="cuda", model_kwargs={"dtype": dtype}, local_files_only=True
            )
            ours = load_encoder(folder, dtype=dtype, device="cuda")
            for kind in ("short texts", "articles"):
                texts = some_texts(kind, 64 if scale.quick else None)
                case = f"{title}, {str(dtype).removeprefix('torch.')}, {kind}"
                for size, rival, ratio in OWN_AND_THEIRS:
                    works: dict[str, Work] = {
                        "load_encoder": partial(ours.encode, texts, batch_size=size),
                        "SentenceTransformer": partial(theirs.encode, texts, batch_size=rival),
                    }
                    goals = [Wanted(ratio, "SentenceTransformer")]
                    yield Contest(f"{case}, {size} / {rival}", works, goals, most=3)


@row("GPU: fit from texts, MiniLM to MPNet, bfloat16, 128 tokens", "cuda")
def fit_from_texts(scale: Scale) -> Iterator[Contest]:
    """Against both encoders alone, one after the other, with inputs that are ready."""
    from hf_latent_bridge import OrthoTranslator, fit_translator, load_encoder

    articles = some_texts("articles", None)
    n = 64 if scale.quick else 16_384
    texts = [articles[i % len(articles)][: 900 + 37 * i % 600] for i in range(n)]
    source, target = [
        load_encoder(encoder_folder(name), dtype=torch.bfloat16, device="cuda", max_length=128)
        for name in MODELS
    ]

    def fit() -> None:
        fit_translator(OrthoTranslator(), source, target, (texts, texts))

    ready: list[tuple[Any, list[Any]]] = []
    for encoder in (source, target):
        model: Any = encoder
        batches = model.preparer.batches(texts, 256, model.device)
        ready.append((model, [inputs for _, inputs in map(model._ready, batches)]))

    def alone() -> None:
        for model, batches in ready:
            for inputs in batches:
                model._run(inputs)

    works: dict[str, Work] = {"fit_translator": fit, "both encoders alone": alone}
    yield Contest(f"{n:,} pairs", works, [Wanted(0.85, "both encoders alone")], most=3)


@cache
def encoder_folder(name: str) -> str:
    """An encoder of the assets; with random weights, which take as long, where it has none."""
    repo = prepare(name)
    if (repo / "model.safetensors").exists():
        return str(repo)
    from transformers import AutoConfig, AutoModel

    folder = Path(tempfile.mkdtemp(prefix="encoder-"), name)
    shutil.copytree(repo, folder)
    torch.manual_seed(0)
    auto: Any = AutoModel
    with torch.device("cuda"):
        auto.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return str(folder)


@cache
def _articles() -> list[str]:
    import pyarrow.parquet

    files = sorted((prepare("bbc-news") / "data").glob("*.parquet"))
    return [text for file in files for text in pyarrow.parquet.read_table(file)["text"].to_pylist()]


def some_texts(kind: str, most: int | None) -> list[str]:
    """BBC articles, or pieces of them of 60 letters."""
    articles = _articles()
    if kind == "articles":
        return articles[: most or N_ARTICLES]
    pieces = [text[i : i + SHORT] for i in (0, 200, 400) for text in articles]
    return [piece for piece in pieces if len(piece) == SHORT][: most or N_SHORT]
