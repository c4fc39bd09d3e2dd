"""Other libraries and published methods, run on the same anchors; one that is missing is left out.

latentis 0.0.8 and isotrieve 0.4.0 are run as their packages are (`pip install
"hf-latent-bridge[benchmark]"`). Drift-Adapter (Vejendla 2025, arXiv 2509.23471) has no package: its
three forms are written here after the paper, each with its diagonal scaling. They train until a
tenth of the anchors, held out, no longer improves, which favours them where anchors are few.
"""

import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

Fit = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]

SLOW = ("Drift-Adapter, LA", "Drift-Adapter, MLP")
RANK, HIDDEN = 64, 256
EPOCHS, PATIENCE, BATCH = 300, 10, 256
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2


def found() -> dict[str, Fit]:
    """The rivals that this environment can run, by the name of their row.

    Of latentis its Procrustes: its affine aligner is the run of Adam that `affine` is here.
    """
    fits: dict[str, Fit] = {}
    if importlib.util.find_spec("latentis"):
        fits["latentis, ortho"] = latentis_ortho
    if importlib.util.find_spec("isotrieve"):
        fits["isotrieve, ridge"] = isotrieve_ridge
    fits["Drift-Adapter, OP"] = drift_rotation
    fits["Drift-Adapter, LA"] = lambda x, y: _train(LowRank(x, y), x, y)
    fits["Drift-Adapter, MLP"] = lambda x, y: _train(ResidualMLP(x, y), x, y)
    return fits


def missing() -> list[str]:
    """Names of the rivals' packages that are not installed."""
    return [name for name in ("latentis", "isotrieve") if not importlib.util.find_spec(name)]


def latentis_ortho(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Its Procrustes: standard scaling, zero padding, SVD."""
    from latentis.transform.translate.aligner import Procrustes

    fitted = Procrustes().fit(x, y)
    return lambda latents: fitted.transform(latents)[0]


def isotrieve_ridge(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Its default: ridge with an intercept, the penalty chosen by scikit-learn's RidgeCV.

    Only its scaling of the output to unit norm is off: heads read lengths, cosines do not.
    """
    from isotrieve import RidgeMapping

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = RidgeMapping(normalize_output=False).fit(x.numpy(), y.numpy())
    return lambda latents: torch.from_numpy(fitted.transform(latents.numpy())).to(x.dtype)


def drift_rotation(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Drift-Adapter's orthogonal Procrustes, without centring, and one scale per dimension."""
    rotation = _rotation(x, y)
    turned = x @ rotation
    scale = (turned * y).sum(0) / turned.square().sum(0).clamp(min=1e-8)
    return lambda latents: latents @ rotation * scale


def _rotation(x: Tensor, y: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(x.mT @ y, full_matrices=False)
    rotation: Tensor = u @ vh
    return rotation


class LowRank(nn.Module):
    """Drift-Adapter's low-rank affine map with a diagonal scaling."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        rank = min(RANK, x.shape[1], y.shape[1])
        self.down = nn.Linear(x.shape[1], rank, bias=False)
        self.up = nn.Linear(rank, y.shape[1])
        self.scale = nn.Parameter(torch.ones(y.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Translated latents."""
        translated: Tensor = self.up(self.down(x)) * self.scale
        return translated


class ResidualMLP(nn.Module):
    """Drift-Adapter's residual network with one hidden layer and a diagonal scaling.

    For unequal widths the skip connection is the rotation that fits the anchors best.
    """

    skip: Tensor

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(x.shape[1], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, y.shape[1])
        )
        self.register_buffer("skip", _rotation(x, y))
        self.scale = nn.Parameter(torch.ones(y.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Translated latents."""
        translated: Tensor = (x @ self.skip + self.layers(x)) * self.scale
        return translated


def _train(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Minimises the squared error by AdamW; keeps the weights that held-out anchors like best."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    order = torch.randperm(len(x), generator=draw)
    held, rest = order[: max(1, len(x) // 10)], order[max(1, len(x) // 10) :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best, kept, waited = float("inf"), model.state_dict(), 0
    for _ in range(EPOCHS):
        for rows in torch.split(rest[torch.randperm(len(rest), generator=draw)], BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(model(x[rows]), y[rows]))
            optimizer.step()
        with torch.inference_mode():
            loss = float(nn.functional.mse_loss(model(x[held]), y[held]))
        if loss < best * 0.999:
            best, waited = loss, 0
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        elif (waited := waited + 1) == PATIENCE:
            break
    model.load_state_dict(kept)

    def transform(latents: Tensor) -> Tensor:
        with torch.inference_mode():
            translated: Tensor = model(latents)
        return translated.clone()

    return transform
