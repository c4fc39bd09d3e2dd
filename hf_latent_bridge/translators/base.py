"""What every translator does: fit on pairs, translate, save, push, load."""

import abc
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from huggingface_hub import CommitInfo
from torch import Tensor

from hf_latent_bridge import hub
from hf_latent_bridge.errors import (
    ConfigError,
    InvalidLatentsError,
    NotFittedError,
    RankWarning,
    UnknownTranslatorError,
)
from hf_latent_bridge.latents import Array, Latents, as_tensor, check_finite, like
from hf_latent_bridge.metrics import r2_score
from hf_latent_bridge.model_card import merge_card, render_card
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import SCALINGS, AffineMap, Scaling, Solution
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.config import TranslatorConfig
from hf_latent_bridge.translators.module import TranslatorModule, translate

Normalize = Literal["none", "source", "target", "both"]
_NORMALIZE: tuple[Normalize, ...] = ("none", "source", "target", "both")

TRANSLATORS: dict[str, type["Translator"]] = {}


class Translator(abc.ABC):
    """A map from one latent space to another; the base of all translator types.

    A subclass names its type (`class MyTranslator(Translator, translator_type="mine")`), stores
    its parameters in `__init__` and says in `_solve` how moments become an affine map.

    Attributes:
        translator_type: The name in `config.json` and in the registry.
        source_: Whose latents are translated.
        target_: Whose space they are carried into.
        dataset_: Which pairs the fit saw; JSON values, printed on the card.
        metrics_: Results of an evaluation; JSON values, printed on the card.
        repo_id: The Hub repo that the translator came from or was pushed to, else None.
        commit: The commit there, else None.
    """

    translator_type: ClassVar[str]
    source_: SpaceSpec
    target_: SpaceSpec
    dataset_: dict[str, Any]
    metrics_: dict[str, Any]
    repo_id: str | None = None
    commit: str | None = None

    def __init_subclass__(cls, *, translator_type: str | None = None, **kwargs: Any) -> None:
        """Enters the class into the registry under its type."""
        super().__init_subclass__(**kwargs)
        if translator_type is None:
            return
        known = TRANSLATORS.get(translator_type)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"translator_type {translator_type!r} is taken by {known.__name__}")
        cls.translator_type = translator_type
        TRANSLATORS[translator_type] = cls

    def __init__(self, *, scaling: Scaling = "standard", normalize: Normalize = "none") -> None:
        self.scaling = scaling
        self.normalize = normalize

    @abc.abstractmethod
    def _solve(self, moments: PairedMoments) -> Solution:
        """The map for these moments; raises ValueError on parameters out of range."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of `__init__`, as scikit-learn names them."""
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters of `__init__`; takes effect at the next fit.

        Raises:
            ValueError: An unknown parameter.
        """
        unknown = sorted(params.keys() - self.get_params().keys())
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameters {unknown}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: Latents,
        Y: Latents,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Self:
        """Estimates the map from pairs, forgetting earlier ones.

        Args:
            X: Source latents, (n, d_source).
            Y: Target latents, (n, d_target); row i is the counterpart of row i of `X`.
            source: The space of `X`, recorded in the config.
            target: The space of `Y`, recorded in the config.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.

        Warns:
            RankWarning: The pairs do not determine the map; the minimum-norm one is taken.
        """
        return self.fit_moments(self.pair_moments(X, Y), source=source, target=target)

    def partial_fit(self, X: Latents, Y: Latents) -> Self:
        """Adds pairs to those already seen; the map is solved when it is next needed.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
            NotFittedError: The translator was loaded, so its earlier pairs are not known.
        """
        moments = self.pair_moments(X, Y)
        if self._is_fitted():
            if self.moments_ is None:
                raise NotFittedError(
                    "a loaded translator does not hold the moments of its pairs: "
                    "fit a new one, or add the new pairs to saved PairedMoments"
                )
            moments = self.moments_ + moments
            return self._learn(moments, self.source_, self.target_)
        return self._learn(moments, None, None)

    def fit_moments(
        self,
        moments: PairedMoments,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Self:
        """Estimates the map from moments of the pairs, which `pair_moments` sums.

        Args:
            moments: Moments of all pairs.
            source: The source space, recorded in the config.
            target: The target space, recorded in the config.
        """
        self._learn(moments, source, target)
        self._solve_now()
        return self

    def pair_moments(self, X: Latents, Y: Latents, *, full_syy: bool = False) -> PairedMoments:
        """Moments of a batch of pairs, as this translator needs them (after `normalize`)."""
        self._check_params()
        if Y is None:
            raise InvalidLatentsError("requires y to be passed, but the target y is None")
        x, y = as_tensor(X), as_tensor(Y)
        if x.ndim == 1:
            raise InvalidLatentsError(
                f"Expected 2D array, got 1D array instead: latents of shape {tuple(x.shape)}. "
                "Reshape your data to (n, d), one row per item"
            )
        y = y[:, None] if y.ndim == 1 else y
        if self.normalize in ("source", "both"):
            x = torch.nn.functional.normalize(x, dim=-1)
        if self.normalize in ("target", "both"):
            y = torch.nn.functional.normalize(y, dim=-1)
        return PairedMoments.from_batch(x, y, full_syy=full_syy)

    def transform(self, X: Latents) -> Latents:
        """Translates source latents into the target space.

        Args:
            X: (n, d_source) or one latent (d_source,). float16 and bfloat16 are computed in
                float32. Gradients flow through.

        Returns:
            (n, d_target) or (d_target,): a tensor for a tensor, on its device and in its dtype,
            else a NumPy array.

        Raises:
            InvalidLatentsError: Another width than the source's, NaN or infinity.
        """
        x = self._check_input(X, self.source_width, "source_")
        return like(translate(x, self._map_for(x), *self._norms()), X)

    __call__ = transform

    def inverse_transform(self, Y: Latents) -> Latents:
        """Carries target latents back into the source space.

        Exact where the map is square and of full rank (so always for `ortho` between equal
        widths); otherwise the least-squares solution of least norm. Norms that `normalize` took
        away do not come back.

        Args:
            Y: (n, d_target) or one latent (d_target,).

        Returns:
            (n, d_source) or (d_source,), in the form that `Y` has.
        """
        y = self._check_input(Y, self.target_width, "target_")
        before, after = self._norms()
        return like(translate(y, self._map_for(y, inverse=True), after, before), Y)

    def score(self, X: Latents, Y: Latents) -> float:
        """R² of translated `X` against `Y`, averaged over columns as scikit-learn does."""
        y = as_tensor(Y)
        predicted = as_tensor(self.transform(X))
        return r2_score(predicted.double(), (y[:, None] if y.ndim == 1 else y).double())

    @property
    def map_(self) -> AffineMap:
        """The learned map y = x @ weight + bias, everything folded in but `normalize`."""
        self._require_fit()
        self._solve_now()
        return self._maps["fitted"]

    @property
    def n_pairs_(self) -> int:
        """Number of pairs that the fit saw."""
        self._require_fit()
        return self._n_pairs

    @property
    def n_features_in_(self) -> int:
        """Width of the source latents, under scikit-learn's name."""
        return self.source_width

    @property
    def source_width(self) -> int:
        """Width of the source latents."""
        self._require_fit()
        return self.source_.dim

    @property
    def target_width(self) -> int:
        """Width of the target latents."""
        self._require_fit()
        return self.target_.dim

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Moves the learned map to a device or floating dtype, which is also what is saved.

        `transform` follows its input wherever the map is; this only saves the first copy.
        """
        self._maps = {"fitted": self.map_.to(device, dtype)}
        return self

    def as_module(self) -> TranslatorModule:
        """A frozen `torch.nn.Module` that translates (..., d_source) to (..., d_target)."""
        return TranslatorModule(self.map_, *self._norms())

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes `config.json`, `model.safetensors` and a card into a folder.

        Text of your own in an existing README.md is kept.
        """
        folder = Path(save_directory)
        card = folder / hub.CARD_NAME
        existing = card.read_text(encoding="utf-8") if card.is_file() else None
        hub.save_files(folder, self._files(repo_id=None, tags=(), existing_card=existing))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        tags: Sequence[str] = (),
    ) -> CommitInfo:
        """Publishes the translator as a model repo, in one commit; none if nothing changed.

        Args:
            repo_id: Such as "me/minilm-to-mpnet"; created if it is not there.
            private: Visibility of a new repo; None for the account's default.
            revision: Branch to commit to, created if it is not there.
            commit_message: Title of the commit.
            create_pr: Open a pull request instead of committing.
            token: Hub token; None for the one that is logged in.
            tags: Further tags for the card.

        Raises:
            RepoAccessError: The token may not write there.
            HubUnavailableError: The Hub cannot be reached.
        """
        self._require_fit()
        repo_id = hub.prepare_repo(repo_id, private=private, revision=revision, token=token)
        existing = hub.read_card(repo_id, revision=revision, token=token)
        commit = hub.commit_files(
            repo_id,
            self._files(repo_id=repo_id, tags=tags, existing_card=existing),
            commit_message=commit_message or f"Upload {self.translator_type} translator",
            revision=revision,
            create_pr=create_pr,
            token=token,
        )
        self.repo_id, self.commit = repo_id, commit.oid
        return commit

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Loads a translator from a Hub repo or a folder.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            revision: Branch, tag, PR (`refs/pr/1`) or commit; resolved to a commit once.
            subfolder: Folder inside the repo.
            token: Hub token; None for the one that is logged in, False for none.
            cache_dir: Where downloads are kept.
            force_download: Download even if cached.
            local_files_only: Use the cache alone.
            device: Where to put the map.
            dtype: Floating dtype of the map; None for the saved one.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file.
            RepoAccessError: The repo is gated.
            HubUnavailableError: The Hub cannot be reached and nothing is cached.
            ConfigError: The config does not parse, is of a newer format or of an unknown type.
            WeightsError: The weights are not exactly what the config describes.
        """
        files = hub.fetch(
            pretrained_model_name_or_path,
            revision=revision,
            subfolder=subfolder,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        config = TranslatorConfig.from_dict(files.config)
        translator = cls._from_config(config)
        shapes = {"weight": (config.source.dim, config.target.dim), "bias": (config.target.dim,)}
        tensors = hub.read_tensors(files.weights, shapes, config.weights_sha256)
        translator._restore(config, AffineMap(**tensors).to(device, dtype))
        if files.commit is not None:
            translator.repo_id, translator.commit = str(pretrained_model_name_or_path), files.commit
        return translator

    @classmethod
    def _from_config(cls, config: TranslatorConfig) -> Self:
        kind = TRANSLATORS.get(config.translator_type)
        if kind is None:
            raise UnknownTranslatorError(
                f"unknown translator_type {config.translator_type!r}: this library knows "
                f"{sorted(TRANSLATORS)}; import the package that defines it first"
            )
        if not issubclass(kind, cls):
            raise ConfigError(
                f"the repo holds a {kind.__name__}, not a {cls.__name__}: "
                "load it with AutoTranslator.from_pretrained"
            )
        try:
            translator = kind(**config.params)
            translator._check_params()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config.json: params of {config.translator_type}: {error}") from error
        return translator

    def _restore(self, config: TranslatorConfig, fitted: AffineMap) -> None:
        self.moments_: PairedMoments | None = None
        self.source_, self.target_ = config.source, config.target
        self.dataset_, self.metrics_ = config.dataset, config.metrics
        self._n_pairs = config.n_pairs
        self._maps = {"fitted": fitted}

    def _learn(
        self, moments: PairedMoments, source: SpaceSpec | None, target: SpaceSpec | None
    ) -> Self:
        self._check_params()
        d_source, d_target = moments.sxy.shape
        source, target = source or SpaceSpec(d_source), target or SpaceSpec(d_target)
        if (source.dim, target.dim) != (d_source, d_target):
            raise InvalidLatentsError(
                f"the pairs are {d_source} and {d_target} wide, but the spaces are {source} "
                f"and {target}"
            )
        self.moments_ = moments
        self.source_, self.target_ = source, target
        self.dataset_, self.metrics_ = {}, {}
        self._n_pairs = moments.n
        self._maps = {}
        self.repo_id = self.commit = None
        return self

    def _solve_now(self) -> None:
        if "fitted" in self._maps or self.moments_ is None:
            return
        solution = self._solve(self.moments_)
        if solution.rank < solution.full_rank:
            warnings.warn(
                f"{self.moments_.n} pairs determine {solution.rank} of {solution.full_rank} "
                "directions; the minimum-norm map ignores the others. Add pairs, or regularise "
                "with AffineTranslator(alpha=0.1)",
                RankWarning,
                stacklevel=3,
            )
        dtype = torch.float64 if self.moments_.eps < torch.finfo(torch.float32).eps else torch.float32
        self._maps["fitted"] = solution.map.to(dtype=dtype)

    def _map_for(self, x: Tensor, *, inverse: bool = False) -> AffineMap:
        dtype = torch.promote_types(x.dtype, torch.float32)
        key = f"{'inverse' if inverse else 'forward'} {x.device} {dtype}"
        if key not in self._maps:
            fitted = self.map_.inverse() if inverse else self.map_
            self._maps[key] = fitted.to(x.device, dtype)
        return self._maps[key]

    def _norms(self) -> tuple[bool, bool]:
        return self.normalize in ("source", "both"), self.normalize in ("target", "both")

    def _check_params(self) -> None:
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {SCALINGS}, got {self.scaling!r}")
        if self.normalize not in _NORMALIZE:
            raise ValueError(f"normalize must be one of {_NORMALIZE}, got {self.normalize!r}")

    def _check_input(self, latents: Latents, width: int, side: str) -> Tensor:
        x = as_tensor(latents)
        if x.ndim not in (1, 2):
            raise InvalidLatentsError(
                f"latents must be one vector (d,) or a matrix (n, d), got shape {tuple(x.shape)}"
            )
        if x.shape[-1] != width:
            raise InvalidLatentsError(
                f"X has {x.shape[-1]} features, but {type(self).__name__} is expecting {width} "
                f"features as input: latents of {getattr(self, side)}"
            )
        check_finite(x)
        return x

    def _files(
        self, *, repo_id: str | None, tags: Sequence[str], existing_card: str | None
    ) -> dict[str, bytes]:
        config = TranslatorConfig(
            translator_type=self.translator_type,
            params=self.get_params(),
            source=self.source_,
            target=self.target_,
            n_pairs=self.n_pairs_,
            dataset=self.dataset_,
            metrics=self.metrics_,
        ).to_dict()
        tensors = {"weight": self.map_.weight, "bias": self.map_.bias}
        card = merge_card(existing_card, render_card(config, repo_id=repo_id, tags=tags))
        return hub.to_files(config, tensors) | {hub.CARD_NAME: card.encode()}

    def _is_fitted(self) -> bool:
        return hasattr(self, "_maps")

    def _require_fit(self) -> None:
        if not self._is_fitted():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted: call fit(X, Y), partial_fit or "
                "fit_moments first, or load one with AutoTranslator.from_pretrained"
            )

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, multi_output=True),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in inspect.signature(type(self)).parameters.items()}
        params = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items() if v != defaults[k])
        fitted = ""
        if self._is_fitted():
            fitted = f" from {self.source_} to {self.target_}, {self.n_pairs_:,} pairs"
        return f"{type(self).__name__}({params}){fitted}"


__all__ = ["TRANSLATORS", "Array", "Normalize", "Translator"]
