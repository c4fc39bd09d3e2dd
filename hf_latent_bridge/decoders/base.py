"""What a decoder is, and how any estimator or callable of the user's becomes one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.items import plain_labels
from hf_latent_bridge.errors import DecoderError, InvalidLatentsError
from hf_latent_bridge.extras import require
from hf_latent_bridge.latents import Latents, as_tensor, check_finite
from hf_latent_bridge.spaces import SpaceSpec, check_space

Answer = TypeVar("Answer")


@runtime_checkable
class Decoder(Protocol):
    """Anything that reads latents of a space that it names."""

    @property
    def space(self) -> SpaceSpec | None:
        """The space of the latents it reads; None where nothing is known."""

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> Sequence[Any]:
        """One result for each row of the latents (n, d).

        With `top_k`, where the decoder ranks its answers, a result is the list of the best;
        without, it is the best alone.
        """


class EstimatorDecoder:
    """A scikit-learn estimator as a decoder.

    Attributes:
        estimator: The fitted estimator; read-only.
        space: The space it was fitted in.
    """

    def __init__(self, estimator: Any, space: SpaceSpec | None = None) -> None:
        """Wraps a fitted estimator.

        Raises:
            MissingExtraError: scikit-learn is not installed.
            DecoderError: It is not fitted, or a classifier of several outputs, or `space` has
                another width.
        """
        require("encoders", "sklearn", purpose=f"a decoder of {type(estimator).__name__}")
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        try:
            check_is_fitted(estimator)
        except NotFittedError as error:
            raise DecoderError(f"{estimator!r} is not fitted: call its fit first") from error
        if isinstance(getattr(estimator, "classes_", None), list):
            raise DecoderError(f"{estimator!r} has several outputs: pass a callable that ranks one")
        self._estimator = estimator
        width = getattr(estimator, "n_features_in_", None)
        if space is not None and width not in (None, space.dim):
            raise DecoderError(f"{estimator!r} was fitted on {width} features, not on {space}")
        self.space = space or (None if width is None else SpaceSpec(int(width)))

    @property
    def estimator(self) -> Any:
        """The fitted estimator."""
        return self._estimator

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> Sequence[Any]:
        """Labels with scores from a classifier, predictions from any other estimator.

        Scores are probabilities where the estimator gives them, else its decision values.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k` of an estimator that does not score its answers.
        """
        tensor = check_latents(latents, self.space).detach().cpu()
        x = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        if len(x) == 0:
            return []
        scorer, classes = self._scorer(), getattr(self.estimator, "classes_", None)
        if classes is None or scorer is None:
            _refuse_top_k(top_k, self.estimator)
            found = np.asarray(self.estimator.predict(x))
            return list(found) if found.ndim > 1 else list(found.tolist())
        scores = torch.from_numpy(getattr(self.estimator, scorer)(x))
        if scores.ndim == 1:  # the decision values of two classes
            scores = torch.stack([-scores, scores], dim=1)
        return rank_labels(scores, plain_labels(classes), top_k)

    def _scorer(self) -> str | None:
        """The method that scores each class; None where votes are between pairs of classes."""
        if hasattr(self.estimator, "predict_proba"):
            return "predict_proba"
        params = self.estimator.get_params()
        if any(k.endswith("decision_function_shape") and v == "ovo" for k, v in params.items()):
            return None
        return "decision_function" if hasattr(self.estimator, "decision_function") else None

    def __repr__(self) -> str:
        return f"EstimatorDecoder({self.estimator!r})"


class CallableDecoder:
    """Any callable from latents (n, d) to one result per row as a decoder.

    Attributes:
        function: The callable.
        space: The space it reads; None where nothing is known.
    """

    def __init__(self, function: Callable[[Tensor], Any], space: SpaceSpec | None = None) -> None:
        self.function = function
        self.space = space

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> Any:
        """What the callable gives for the latents, as a tensor, without gradients.

        A `torch.nn.Module` gets them in the dtype and on the device of its first parameter.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k`, or what came back is not one result per row.
        """
        _refuse_top_k(top_k, self.function)
        own = self.function.parameters() if isinstance(self.function, torch.nn.Module) else ()
        x = check_latents(latents, self.space, like=next(iter(own), None))
        with torch.no_grad():
            results = self.function(x)
        if _count(results) != len(x):
            raise DecoderError(
                f"a decoder must give one result per row, {len(x)} here, "
                f"got {type(results).__name__} {results!r:.60} from {self.function!r}"
            )
        return results

    def __repr__(self) -> str:
        return f"CallableDecoder({self.function!r})"


def as_decoder(obj: Any, space: SpaceSpec | None = None) -> Decoder:
    """Makes a decoder of a scikit-learn estimator or a callable; a decoder stays as it is.

    Args:
        obj: A decoder, a fitted estimator, a `torch.nn.Module` or any callable from latents (n, d)
            to one result per row.
        space: The space of the latents that it reads; None if unknown.

    Raises:
        DecoderError: None of these, not fitted, or `space` beside a decoder that has its own.
    """
    check_space(space)
    if isinstance(obj, Decoder):
        if space is not None:
            raise DecoderError(f"{obj!r} states its own space: leave space out")
        return obj
    if hasattr(obj, "predict") and hasattr(obj, "get_params"):
        return EstimatorDecoder(obj, space)
    if callable(obj):
        return CallableDecoder(obj, space)
    raise DecoderError(
        "a decoder comes from load_decoder, or is a fitted estimator or a callable from latents "
        f"to results; got {type(obj).__name__} {obj!r:.60}"
    )


def check_latents(latents: Latents, space: SpaceSpec | None, like: Tensor | None = None) -> Tensor:
    """Latents (n, d) as a tensor, if they are finite rows of the space's width.

    Args:
        latents: The latents.
        space: The space that they must be of; None for any width.
        like: Give them in the dtype and on the device of this tensor; None for their own.

    Raises:
        InvalidLatentsError: Another shape or width, NaN or infinity (in that dtype).
    """
    check_space(space)
    x = as_tensor(latents)
    if x.ndim != 2 or x.shape[1] != (space.dim if space else max(1, x.shape[1])):
        width = space.dim if space else "d"
        raise InvalidLatentsError(
            f"a decoder of {space or 'an unknown space'} reads latents of shape (n, {width}), "
            f"got {tuple(x.shape)}"
        )
    x = x if like is None else x.to(like)
    if x.numel():
        check_finite(x)
    return x


def rank_labels(scores: Tensor, labels: Sequence[Any], top_k: int | None) -> list[Any]:
    """The best label of each row, or with `top_k` the list of the best, as pipelines give them.

    Args:
        scores: (n, len(labels)), higher is better; among equals the earlier label wins.
        labels: The labels.
        top_k: How many to give; None for the best alone.

    Raises:
        DecoderError: `top_k` is less than 1, or a score is NaN.
    """
    k = check_top_k(top_k)
    if bool((wrong := scores.isnan().any(1)).any()):
        raise DecoderError(
            f"the scores of row {int(wrong.nonzero()[0])} are NaN: its latents are too large for "
            "the decoder, or its weights are damaged"
        )
    values, order = scores.detach().sort(dim=1, descending=True, stable=True)
    rows = [
        [{"label": labels[c], "score": v} for c, v in zip(columns, row, strict=True)]
        for columns, row in zip(order[:, :k].tolist(), values[:, :k].tolist(), strict=True)
    ]
    return best_of(rows, top_k)


def best_of(rows: list[list[Answer]], top_k: int | None) -> list[Any]:
    """Ranked lists as they are, or without `top_k` the best of each."""
    return [row[0] for row in rows] if top_k is None else rows


def check_top_k(top_k: int | None) -> int:
    """`top_k`, or 1 where it is None.

    Raises:
        DecoderError: It is not a positive integer.
    """
    if top_k is None:
        return 1
    return check_count("top_k", top_k, also=" or None", error=DecoderError)


def _count(results: Any) -> int | None:
    """How many results there are; None for what is one."""
    if isinstance(results, str | bytes | Mapping):
        return None
    try:
        return len(results)
    except TypeError:
        return None


def _refuse_top_k(top_k: int | None, obj: Any) -> None:
    if top_k is not None:
        raise DecoderError(f"{obj!r} does not rank its answers: leave top_k out, got {top_k!r}")
