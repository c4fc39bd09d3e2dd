"""A shared space: where two or more encoders meet, each by a translator of its own."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, Unpack

import torch
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.canonical import (
    CanonicalProblem,
    CanonicalView,
    Information,
    ViewMoments,
    add_views,
    check_views,
    held_out_information,
)
from hf_latent_bridge.errors import (
    ConfigError,
    InUseError,
    InvalidLatentsError,
    NotFittedError,
    UnrelatedPairsWarning,
    WeightsError,
)
from hf_latent_bridge.files import (
    CONFIG_NAME,
    FORMAT_VERSION,
    WEIGHTS_NAME,
    check_fields,
    check_kind,
    to_json,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.published import Published
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.metrics import look_shuffled
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Solution
from hf_latent_bridge.spaces import SHARED, SpaceSpec
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.latent_map import LatentMap, Map

_TRIES = 10
_NAME = re.compile(r"\w[\w.-]*")
_VIEW_FIELDS = {"view": str, "views": list, "alpha": float, "shrink": float, "correlations": list}
_FIELDS = {"space": dict, "params": dict, "views": dict, "n_pairs": int, "information": dict}
_PARAMS = {"dim": int, "alpha": float, "shrink": float, "n_folds": int}


class SharedViewTranslator(Translator, translator_type="shared_view"):
    """One encoder's map into a shared space; `SharedSpace.translator` makes it.

    It does what any fitted translator does, except to be fitted alone.

    Attributes:
        params_: The `view` and all `views` of the space, `alpha` and `shrink` of the fit, and for
            each axis its `correlations` with the other views.
    """

    learns: ClassVar[bool] = False

    def __init__(self) -> None:
        """Makes an empty one; use `SharedSpace.translator`."""

    def _check_params(self) -> None:
        _refuse_fit()

    def _solve(self, moments: PairedMoments) -> Solution:
        _refuse_fit()

    @classmethod
    def _from_saved(cls, params: Mapping[str, Any]) -> Self:
        check_fields(params, _VIEW_FIELDS, "params")
        if params["view"] not in params["views"]:
            raise ConfigError(f"params: view {params['view']!r} is not among {params['views']}")
        translator = cls()
        translator.params_ = dict(params)
        return translator

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        return LatentMap(tensors["weight"], tensors["bias"], unit_norm="target")

    def _restore(self, config: Any, fitted: Map) -> None:
        params = self.params_
        super()._restore(config, fitted)
        self.params_ = params

    def _learn_from(
        self, params: dict[str, Any], spaces: tuple[SpaceSpec, SpaceSpec], n_pairs: int, map_: Map
    ) -> Self:
        self.params_, self.moments_ = params, None
        self.source_, self.target_ = spaces
        self.dataset_, self.metrics_ = {}, {}
        self._n_pairs, self._maps = n_pairs, {"fitted": map_}
        return self

    def __repr__(self) -> str:
        if not self._is_fitted():
            return "SharedViewTranslator()"
        return (
            f"SharedViewTranslator({self.params_['view']!r}) from {self.source_} to "
            f"{self.target_}, {self.n_pairs_:,} pairs"
        )


class SharedSpace(Published):
    """A space that two or more encoders share, in closed form, for one index of all of them.

    Regularised canonical correlation: each view is centred, divided by the root of its mean
    variance, and whitened with (C + alpha I)^(-1/2). The singular vectors of the whitened
    cross-moment are the axes; with more than two views, the eigenvectors of the whitened block
    moment. An axis with correlation r is weighted by sr / (1 - (sr)²), so that the cosine in the
    space compares what the views agree on. Sources: Hotelling (1936); Bach & Jordan (2005), "A
    probabilistic interpretation of canonical correlation analysis"; the weights as in Artetxe et
    al. (2018).

    It is for search: for a head or an index that can only read the target's own latents, a plain
    translator into that space is the choice.

    Args:
        dim: Number of axes; fewer where a view varies in fewer directions.
        alpha: Penalty relative to a mean variance of 1, or "auto" for the one with the most
            held-out mutual information. 1 is good nearly everywhere, 3 with few pairs.
        shrink: s, by which correlations of the sample are taken down.
        n_folds: Into how many folds items are dealt for "auto", one by one.

    Attributes:
        views_: The translators into the space, by the name of their view.
        params_: The parameters that the fit read, with the penalty that was used.
        space_: The shared space; its revision is a digest of all maps.
        alpha_: The penalty that was used.
        information_: Held-out mutual information of each penalty tried, in bits; None for a given
            `alpha`.
        n_pairs_: Number of items that all views saw; of pairs, the smallest number.
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        alpha: float | Literal["auto"] = "auto",
        shrink: float = 0.9,
        n_folds: int = 5,
    ) -> None:
        self.dim = dim
        self.alpha = alpha
        self.shrink = shrink
        self.n_folds = n_folds

    params_: dict[str, Any]
    views_: dict[str, SharedViewTranslator]
    space_: SpaceSpec
    alpha_: float
    information_: Information | None
    n_pairs_: int

    def fit(
        self, views: Mapping[str, Latents], *, spaces: Mapping[str, SpaceSpec] | None = None
    ) -> Self:
        """Estimates the space from items that all views have seen.

        Args:
            views: For each view its latents, (n, d_view); row i is the same item in all.
            spaces: Which encoder's latents they are, by view, for the configs.

        Raises:
            InvalidLatentsError: Fewer than two views, unequal numbers of rows, NaN or infinity, or
                too few items for the folds.
            SolverError: The latents of a view are all equal.
            ValueError: A parameter out of range, or a name that cannot be a folder.

        Warns:
            UnrelatedPairsWarning: Two views agree no more than on shuffled items.
        """
        folds = self.fold_moments(views)
        if None in folds:
            raise InvalidLatentsError(
                f"{self.n_folds} folds need at least as many items, got "
                f"{len(next(iter(views.values())))}: pass a number as alpha"
            )
        return self.fit_moments([fold for fold in folds if fold is not None], spaces=spaces)

    def fold_moments(
        self, views: Mapping[str, Latents], *, start: int = 0
    ) -> "list[dict[tuple[str, str], PairedMoments] | None]":
        """Moments of a batch of items, fold by fold, for data that come in batches.

        Args:
            views: For each view its latents, (n, d_view).
            start: Number of the first row among all batches, which decides its fold.

        Returns:
            For each fold what `fit_moments` takes; None for a fold without a row in this batch.
            With a given `alpha` there is one fold.
        """
        self._check_params()
        tensors = {name: as_tensor(latents) for name, latents in views.items()}
        if len(tensors) < 2:
            raise InvalidLatentsError(f"a shared space needs 2 views or more, got {list(tensors)}")
        lengths = {name: len(x) for name, x in tensors.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidLatentsError(f"views need equal numbers of rows, got {lengths}")
        count = self.n_folds if self.alpha == "auto" else 1
        rows = [slice((fold - start) % count, None, count) for fold in range(count)]
        return [_moments({name: x[part] for name, x in tensors.items()}) for part in rows]

    def fit_moments(
        self,
        folds: Sequence[ViewMoments],
        *,
        spaces: Mapping[str, SpaceSpec] | None = None,
    ) -> Self:
        """Estimates the space from moments alone.

        Args:
            folds: Moments of disjoint sets of items, as `fold_moments` gives them: for every two
                views the moments of their pairs, with all of Syy. They need not be the same items
                for all pairs of views. At least two folds for `alpha="auto"`.
            spaces: Which encoder's latents they are, by view, for the configs.

        Warns:
            UnrelatedPairsWarning: Two views agree no more than on shuffled items.
        """
        self._check_params()
        moments = add_views(folds)
        _check_names(check_views(moments))
        information = held_out_information(folds) if self.alpha == "auto" else None
        alpha = information.best if information else float(self.alpha)
        solved = CanonicalProblem.from_moments(moments).solve(alpha=alpha, dim=self.dim)
        sources = _sources(solved, spaces or {})
        _warn_of_unrelated(moments)
        self.params_ = {
            "dim": self.dim,
            "alpha": alpha,
            "shrink": float(self.shrink),
            "n_folds": self.n_folds,
        }
        self.information_, self.alpha_ = information, alpha
        self.n_pairs_ = min(m.n for m in moments.values())
        eps = max(m.eps for m in moments.values())
        double = eps < torch.finfo(torch.float32).eps
        self._keep(solved, sources, torch.float64 if double else torch.float32)
        self._came_from(None, None)
        return self

    def translator(self, view: str) -> SharedViewTranslator:
        """The translator from a view's latents into the shared space.

        Raises:
            NotFittedError: Nothing was fitted yet.
            KeyError: There is no such view.
        """
        self._require_fit()
        if view not in self.views_:
            raise KeyError(f"there is no view {view!r}: the space joins {list(self.views_)}")
        return self.views_[view]

    def _keep(
        self,
        solved: Mapping[str, CanonicalView],
        sources: Mapping[str, SpaceSpec],
        dtype: torch.dtype,
    ) -> None:
        maps = {
            name: LatentMap(*(t.to(dtype) for t in view.affine(self.shrink)), unit_norm="target")
            for name, view in solved.items()
        }
        self.space_ = _shared_spec(maps)
        self.views_ = {}
        for name, view in solved.items():
            params = {
                "view": name,
                "views": list(solved),
                "alpha": self.alpha_,
                "shrink": self.params_["shrink"],
                "correlations": view.correlations.tolist(),
            }
            self.views_[name] = SharedViewTranslator()._learn_from(
                params, (sources[name], self.space_), self.n_pairs_, maps[name]
            )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        **options: Unpack[client.HubOptions],
    ) -> Self:
        """Loads a shared space with all its views from a Hub repo or a folder.

        One view alone is an ordinary translator: `AutoTranslator.from_pretrained(repo,
        subfolder="name")`.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the maps; None for a GPU if there is one.
            options: `revision` (resolved to a commit once), `subfolder`, `token`, `cache_dir`,
                `force_download`, `local_files_only`, as huggingface_hub takes them.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file.
            ConfigError: The config is not a shared space's.
            WeightsError: A view is not the one that the config describes.
        """
        fetched = _fetch(pretrained_model_name_or_path, options)
        config, where = fetched.config, str(fetched.paths[CONFIG_NAME])
        check_fields(config["params"], _PARAMS, f"{where}: params")
        space = cls(**config["params"])
        space.params_ = dict(config["params"])
        space.space_, space.alpha_ = SpaceSpec.from_dict(config["space"]), float(space.alpha)
        space.n_pairs_, space.views_ = config["n_pairs"], {}
        space.information_ = _curve(config["information"], f"{where}: information")
        if len(names := _check_names(config["views"])) < 2:
            raise ConfigError(f"{where}: views must be two or more, got {names}")
        for name in names:
            view = SharedViewTranslator._from_fetched(fetched.inside(name), device)
            if view.params_["view"] != name or view.target_ != space.space_:
                raise WeightsError(
                    f"{name} holds another space's view: save or download the space again"
                )
            space.views_[name] = view
        order = view.params_["views"]  # as fitted; the config's keys are sorted
        if set(order) != space.views_.keys():
            raise ConfigError(f"{where}: views must be {order}, as {name} states")
        space.views_ = {name: space.views_[name] for name in order}
        return space._loaded_from(fetched)

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        self._require_fit()
        files: dict[str, bytes] = {}
        for name, view in self.views_.items():
            files |= {f"{name}/{file}": content for file, content in view._content()[1].items()}
        curve = self.information_
        config = {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            "space_type": "shared",
            "space": self.space_.to_dict(),
            "params": self.params_,
            "views": {name: view.source_.to_dict() for name, view in self.views_.items()},
            "n_pairs": self.n_pairs_,
            "information": {"alphas": curve.alphas, "bits": curve.bits} if curve else {},
        }
        return config, {**files, CONFIG_NAME: to_json(config)}

    def _check_params(self) -> None:
        for name, least in (("dim", 1), ("n_folds", 2)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if self.alpha != "auto" and not (
            isinstance(self.alpha, Real) and 0 < self.alpha < float("inf")
        ):
            raise ValueError(f"alpha must be 'auto' or a finite number > 0, got {self.alpha!r}")
        if not (isinstance(self.shrink, Real) and 0 < self.shrink <= 1):
            raise ValueError(f"shrink must be above 0 and at most 1, got {self.shrink!r}")

    def _require_fit(self) -> None:
        if not hasattr(self, "views_"):
            raise NotFittedError("this SharedSpace is not fitted: call fit, or load one")

    def __repr__(self) -> str:
        if not hasattr(self, "views_"):
            return f"SharedSpace(dim={self.dim}, alpha={self.alpha!r})"
        names = ", ".join(self.views_)
        return f"SharedSpace of {names} (dim={self.space_.dim}), {self.n_pairs_:,} pairs"


def _fetch(name_or_path: str | Path, options: client.HubOptions) -> client.Fetched:
    """The files of the space and of all its views, of one commit or one save.

    Raises:
        InUseError: Spaces with other views were saved again and again while this was read.
    """
    views: list[str] = []
    for _ in range(_TRIES):
        files = [f"{view}/{file}" for view in views for file in (CONFIG_NAME, WEIGHTS_NAME)]
        fetched = client.fetch(name_or_path, (CONFIG_NAME, *files), **options)
        where = str(fetched.paths[CONFIG_NAME])
        check_kind(fetched.config, "space_type", "shared", _FIELDS, where=where)
        if views == (stated := _check_names(fetched.config["views"])):
            return fetched
        views = stated
        if fetched.commit is not None:
            options = {**options, "revision": fetched.commit}
    raise InUseError(f"{name_or_path} was changed again and again: load it later")


def _moments(
    views: Mapping[str, Tensor],
) -> dict[tuple[str, str], PairedMoments] | None:
    """The moments of every two views; None if there is not a single row."""
    if not all(len(x) for x in views.values()):
        return None
    return {
        (a, b): PairedMoments.from_batch(views[a], views[b], full_syy=True)
        for a, b in combinations(views, 2)
    }


def _sources(
    solved: Mapping[str, CanonicalView], spaces: Mapping[str, SpaceSpec]
) -> dict[str, SpaceSpec]:
    """The space of each view, of its width."""
    sources = {name: spaces.get(name) or SpaceSpec(len(v.mean)) for name, v in solved.items()}
    for name, view in solved.items():
        if sources[name].dim != len(view.mean):
            raise InvalidLatentsError(
                f"view {name!r} is {len(view.mean)} wide, but its space is {sources[name]}"
            )
    return sources


def _curve(content: Mapping[str, Any], where: str) -> Information | None:
    if not content:
        return None
    check_fields(content, {"alphas": list, "bits": list}, where)
    alphas, bits = content["alphas"], content["bits"]
    if len(alphas) != len(bits) or not all(type(value) is float for value in alphas + bits):
        raise ConfigError(f"{where}: alphas and bits must be as many numbers, got {content!r:.80}")
    return Information(tuple(alphas), tuple(bits))


def _warn_of_unrelated(moments: ViewMoments) -> None:
    for (first, second), m in moments.items():
        if look_shuffled(m):
            warnings.warn(
                f"views {first!r} and {second!r} agree on these {m.n:,} items no more than on "
                "shuffled ones: check that row i of all views is the same item, and that each view "
                "was encoded as meant",
                UnrelatedPairsWarning,
                stacklevel=3,
            )


def _check_names(names: Iterable[str]) -> list[str]:
    """The names of views, each of which becomes a folder.

    Raises:
        ValueError: One cannot be the name of a folder.
    """
    for name in (checked := list(names)):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                "a view's name is also its folder: letters, digits, '_', '-' and '.' are "
                f"possible, got {name!r}"
            )
    return checked


def _shared_spec(maps: Mapping[str, LatentMap]) -> SpaceSpec:
    """The space of these maps; other maps have another revision."""
    total = hashlib.sha1(usedforsecurity=False)
    for name, map_ in maps.items():
        total.update(name.encode())
        for tensor in (map_.weight, map_.bias):
            total.update(tensor.double().cpu().contiguous().numpy().tobytes())
    dim = next(iter(maps.values())).target_dim
    return SpaceSpec(dim, revision=total.hexdigest(), pooling=SHARED, normalize=True)


def _refuse_fit() -> NoReturn:
    raise TypeError("a view is not fitted alone: fit its SharedSpace, and take the translator")
