"""Other libraries' fits of the same maps; None where the library is not installed."""

import importlib.util
import warnings

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.selection import ALPHAS
from speed.contest import Work

Named = tuple[str, Work] | None


def torch_ortho(x: Tensor, y: Tensor) -> Tensor:
    """Procrustes on centred latents in a few lines of torch, as one would write it."""
    u, _, vh = torch.linalg.svd((x - x.mean(0)).mT @ (y - y.mean(0)), full_matrices=False)
    rotation: Tensor = u @ vh
    return rotation


def latentis_linear(x: Tensor, y: Tensor) -> Named:
    """Least squares of latentis, on standardised latents."""
    if not importlib.util.find_spec("latentis"):
        return None
    from latentis.transform.base import StandardScaling
    from latentis.transform.translate.aligner import MatrixAligner, Translator
    from latentis.transform.translate.functional import lstsq_align_state

    def fit() -> None:
        aligner = MatrixAligner("lstsq", lstsq_align_state)
        scalings = {"x_transform": StandardScaling(), "y_transform": StandardScaling()}
        Translator(aligner, **scalings).fit(x, y)

    return "latentis", fit


def latentis_ortho(x: Tensor, y: Tensor, *, scaled: bool) -> Named:
    """Procrustes of latentis, with its standard scaling or without."""
    if not importlib.util.find_spec("latentis"):
        return None
    from latentis.transform.dim_matcher import ZeroPadding
    from latentis.transform.translate.aligner import MatrixAligner, Procrustes, Translator
    from latentis.transform.translate.functional import svd_align_state

    def fit() -> None:
        plain = MatrixAligner("svd", svd_align_state)
        kind = Procrustes() if scaled else Translator(plain, dim_matcher=ZeroPadding())
        kind.fit(x, y)

    return "latentis, scaled" if scaled else "latentis, not scaled", fit


def sklearn_linear(x: Tensor, y: Tensor) -> Named:
    """Least squares of scikit-learn."""
    if not importlib.util.find_spec("sklearn"):
        return None
    from sklearn.linear_model import LinearRegression

    return "scikit-learn", lambda: LinearRegression().fit(x.numpy(), y.numpy())


def sklearn_ridge_cv(x: Tensor, y: Tensor) -> Named:
    """RidgeCV of scikit-learn over the same penalties, by leaving one out, its fastest way."""
    if not importlib.util.find_spec("sklearn"):
        return None
    from sklearn.linear_model import RidgeCV

    alphas = np.array(ALPHAS) * len(x)
    return "RidgeCV, leaving one out", lambda: RidgeCV(alphas).fit(x.numpy(), y.numpy())


def sklearn_ridge_folds(x: Tensor, y: Tensor) -> Named:
    """RidgeCV of scikit-learn over the same penalties and as many folds as here."""
    if not importlib.util.find_spec("sklearn"):
        return None
    from sklearn.linear_model import RidgeCV

    alphas = np.array(ALPHAS) * len(x)
    return "RidgeCV, 5 folds", lambda: RidgeCV(alphas, cv=5).fit(x.numpy(), y.numpy())


def isotrieve_ridge(x: Tensor, y: Tensor) -> Named:
    """Ridge of isotrieve, with the penalty that it chooses."""
    if not importlib.util.find_spec("isotrieve"):
        return None
    from isotrieve import RidgeMapping

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            RidgeMapping().fit(x.numpy(), y.numpy())

    return "isotrieve", fit
