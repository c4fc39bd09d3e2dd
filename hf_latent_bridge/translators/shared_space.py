"""A shared space: where two or more encoders meet, each by a translator of its own."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, Unpack, overload

import torch
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.canonical import (
    ALPHAS,
    CanonicalProblem,
    CanonicalView,
    Information,
    ViewMoments,
    add_views,
    axis_weights,
    check_views,
    held_out_information,
    join_sets,
    surely_related,
)
from hf_latent_bridge.counts import check_count, is_number
from hf_latent_bridge.errors import (
    ConfigError,
    GrowthWarning,
    InvalidLatentsError,
    NotFittedError,
    RankWarning,
    SolverError,
    UnknownNameError,
    UnrelatedPairsWarning,
    WeightsError,
)
from hf_latent_bridge.files import (
    CONFIG_NAME,
    FORMAT_VERSION,
    check_fields,
    check_kind,
    check_part_names,
    to_json,
)
from hf_latent_bridge.growth import Growth, grow_pairs, match_unpaired
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.published import Published
from hf_latent_bridge.latents import Latents, as_tensor, check_finite, like
from hf_latent_bridge.metrics import look_shuffled
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Solution
from hf_latent_bridge.spaces import SHARED, SpaceSpec, check_space
from hf_latent_bridge.translators.base import Translator, read_information
from hf_latent_bridge.translators.latent_map import LatentMap, Map, moved_weight

_VIEW_FIELDS = {
    "view": str,
    "views": list,
    "alpha": float,
    "shrink": float,
    "length": float,
    "correlations": list,
}
_PAIR_FIELDS = {"view": str, "to": str, "alpha": float, "correlations": list}
_FIELDS = {
    "space": dict,
    "params": dict,
    "views": dict,
    "dataset": dict,
    "n_pairs": int,
    "information": dict,
}
_PARAMS = {"dim": int, "alpha": float, "shrink": float, "n_folds": int}


class SharedMap(LatentMap):
    """A view's map into a shared space, which also knows the way back.

    Attributes:
        inverse_weight: (target_dim, source_dim).
        inverse_bias: (source_dim,).
    """

    inverse_weight: Tensor
    inverse_bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, inverse_weight: Tensor, inverse_bias: Tensor
    ) -> None:
        """Makes the map from its tensors, which it shares."""
        super().__init__(weight, bias, unit_norm="target")
        self.register_buffer("inverse_weight", inverse_weight.detach())
        self.register_buffer("inverse_bias", inverse_bias.detach())

    def inverse(self) -> LatentMap:
        """The posterior mean of the view's latents, from shared vectors of any view."""
        return LatentMap(self.inverse_weight, self.inverse_bias, unit_norm="source")

    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is."""
        _, *others = (t.to(device=device, dtype=dtype) for t in self.buffers())
        return type(self)(moved_weight(self.weight, device, dtype), *others)


class _Solved(Translator):
    """A translator that its space has solved, and that is not fitted alone."""

    learns: ClassVar[bool] = False
    _fields: ClassVar[Mapping[str, type]]

    def __init__(self) -> None:
        """Makes an empty one; use `SharedSpace.translator`."""

    def _check_params(self) -> None:
        _refuse_fit()

    def _solve(self, moments: PairedMoments) -> Solution:
        _refuse_fit()

    @classmethod
    def _from_saved(cls, params: Mapping[str, Any]) -> Self:
        check_fields(params, cls._fields, "params")
        translator = cls()
        translator.params_ = dict(params)
        return translator

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        return LatentMap(tensors["weight"], tensors["bias"])

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
        name = type(self).__name__
        if not self._is_fitted():
            return f"{name}()"
        names = ", ".join(repr(self.params_[k]) for k in ("view", "to") if k in self.params_)
        return f"{name}({names}) from {self.source_} to {self.target_}, {self.n_pairs_:,} pairs"


class SharedViewTranslator(_Solved, translator_type="shared_view"):
    """One encoder's map into a shared space; `SharedSpace.translator` makes it.

    It does what any fitted translator does, except to be fitted alone. `inverse_transform` takes
    shared vectors of any view back to this view's latents: the posterior mean of the latents, given
    what one other view of the item has told. The unit norm has taken the length of the vector away;
    the root mean square length of the fit stands in for it, so that items far from the mean come
    back too near to it. `SharedSpace.translator(view, to=...)` goes from one encoder straight to
    another and loses no length.

    Attributes:
        params_: The `view` and all `views` of the space, `alpha` and `shrink` of the fit, the usual
            `length` of a vector before it becomes 1, and for each axis its `correlations` with the
            other views.
    """

    _fields = _VIEW_FIELDS

    @classmethod
    def _from_saved(cls, params: Mapping[str, Any]) -> Self:
        translator = super()._from_saved(params)
        if params["view"] not in params["views"]:
            raise ConfigError(f"params: view {params['view']!r} is not among {params['views']}")
        return translator

    def _shapes(self, config: Any) -> dict[str, tuple[int, ...]]:
        source, target = config.source.dim, config.target.dim
        inverse = {"inverse_weight": (target, source), "inverse_bias": (source,)}
        return super()._shapes(config) | inverse

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        return SharedMap(**tensors)

    def _axes(self) -> "_Axes":
        """The view's axes as they were before weighting."""
        map_, params = self.map_, self.params_
        correlations = torch.tensor(params["correlations"], dtype=torch.float64)
        rho = params["shrink"] * correlations
        tensors = (t.double().cpu() for t in map_.buffers())
        weight, bias, inverse_weight, inverse_bias = tensors
        into = torch.where(rho > 0, 1 / axis_weights(rho), 0.0)
        back = torch.where(rho > 0, axis_weights(rho) / correlations, 0.0) / params["length"]
        return _Axes(
            correlations,
            rho,
            weight * into,
            bias * into,
            inverse_weight * back[:, None],
            inverse_bias,
        )


@dataclass(frozen=True, eq=False)
class _Axes:
    """Coordinates x @ weight + bias of a view, and mean + coordinates @ loadings back."""

    correlations: Tensor
    shrunk: Tensor
    weight: Tensor
    bias: Tensor
    loadings: Tensor
    mean: Tensor


class SharedPairTranslator(_Solved, translator_type="shared_pair"):
    """From one view's latents to another's by way of a space; `SharedSpace.translator` makes it.

    The posterior mean of the target's latents given the source's: for two views and all axes, the
    ridge regression that has the space's penalty; with fewer axes, the best correlated part of it.

    Attributes:
        params_: The `view` and the one that it leads `to`, the `alpha` of the fit, and for each
            axis the `correlations` that were used.
    """

    _fields = _PAIR_FIELDS


class SharedSpace(Published):
    """A space that two or more encoders share, in closed form, for one index of all of them.

    Regularised canonical correlation: each view is centred, divided by the root of its mean
    variance (to which a single column contributes at most 30 times the mean), and whitened with
    (C + alpha I)^(-1/2). The singular vectors of the whitened cross-moment are the axes; with more
    than two views, the eigenvectors of the whitened block moment. An axis with correlation r is
    weighted by sr / (1 - (sr)²), so that the cosine in the space compares what the views agree on.
    Sources: Hotelling (1936); Bach & Jordan (2005), "A probabilistic interpretation of canonical
    correlation analysis"; the weights as in Artetxe et al. (2018).

    It is for search: for a head or an index that can only read the target's own latents, a plain
    translator into that space is the choice.

    Args:
        dim: Number of axes; fewer where a view varies in fewer directions. "auto" for the first
            that hold 99 % of the held-out mutual information: 64 are enough to find counterparts
            of the same kind, headlines that look for articles need more.
        alpha: Penalty relative to a mean variance of 1, or "auto" for the one with the most
            held-out mutual information; of those that the items do not tell apart the one nearest
            1. 1 is good nearly everywhere, 3 with few pairs.
        shrink: s, by which correlations of the sample are taken down.
        n_folds: Into how many folds items are dealt for "auto", one by one.

    Attributes:
        views_: The translators into the space, by the name of their view.
        params_: The parameters that the fit read, with the penalty and the width that were used.
        space_: The shared space; its revision is a digest of all maps.
        alpha_: The penalty that was used.
        dataset_: Which items the fit saw; JSON values, printed on the card.
        fit_summary_: Where the time of `fit_shared_space` went; None for any other fit.
        growth_: The pairs that `fit_growing` has found; None for any other fit.
        information_: Held-out mutual information of each penalty tried, in bits, and the held-out
            correlation of each axis; None if nothing was "auto".
        n_pairs_: Number of items that all views saw; of pairs, the smallest number.
    """

    def __init__(
        self,
        dim: int | Literal["auto"] = 64,
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
    dataset_: dict[str, Any]
    fit_summary_: object | None = None
    growth_: Growth | None = None

    def fit(
        self,
        views: Mapping[str, Latents] | Sequence[Mapping[str, Latents]],
        *,
        spaces: Mapping[str, SpaceSpec] | None = None,
    ) -> Self:
        """Estimates the space from items that all views have seen, or at least two of them.

        Args:
            views: For each view its latents, (n, d_view); row i is the same item in all. Where not
                all views have seen all items: several of these, each of the items that the same
                views have seen, [{"a": X1, "b": Y1}, {"a": X2, "b": Y2, "c": Z2}]. Every two views
                need items that both have seen.
            spaces: Which encoder's latents they are, by view, for the configs.

        Raises:
            InvalidLatentsError: Fewer than two views, unequal numbers of rows, NaN or infinity, or
                too few items for the folds.
            SolverError: The latents of a view are all equal.
            ValueError: A parameter out of range, or a name that cannot be a folder.
            UnknownNameError: `spaces` names something else than a view.

        Warns:
            RankWarning: One of several views varies in so few directions that it limits the axes.
            UnrelatedPairsWarning: Two views agree no more than on shuffled items.
        """
        sets = _sets(views)
        order = list(dict.fromkeys(name for one in sets for name in one))
        self.check(order)
        views_of = ({name: one[name] for name in order if name in one} for one in sets)
        folds = ([fold or {} for fold in self.fold_moments(one)] for one in views_of)
        return self.fit_moments(join_sets(folds, order), spaces=spaces)

    def fit_growing(
        self,
        views: Mapping[str, Latents] | None,
        unpaired: Mapping[str, Latents],
        *,
        spaces: Mapping[str, SpaceSpec] | None = None,
    ) -> Self:
        """Estimates the space of two views from a few pairs and many unpaired items.

        `grow_pairs` finds pairs among the unpaired items, as far as the same items are on both
        sides, and the space is fitted on the given pairs and those. Where the found pairs cannot be
        trusted, the space is that of the given pairs alone. The card says how many were given and
        how many were found.

        Args:
            views: For each of the two views its latents of the given pairs, (n, d_view). None if
                no pair is known: an experimental start by `match_unpaired`.
            unpaired: For each view latents of other items, in any order, (m_view, d_view).
            spaces: Which encoder's latents they are, by view, for the configs.

        Raises:
            InvalidLatentsError: Not two views, or not the same in both; fewer than 2 given pairs,
                NaN or infinity, too few items for the folds.
            SolverError: The latents of a view are all equal, or no pair was given and those found
                cannot be trusted.

        Warns:
            GrowthWarning: The pairs keep changing, or cannot be trusted and are left out.
            UnrelatedPairsWarning: The views agree no more than on shuffled items.
        """
        _check_by_view("unpaired", unpaired)
        others = {name: _matrix(latents, name) for name, latents in unpaired.items()}
        views = {name: x[:0] for name, x in others.items()} if views is None else views
        _check_by_view("views", views)
        self.check(views)
        if len(views) != 2 or set(views) != set(unpaired):
            raise InvalidLatentsError(
                "growth is between two views, the same in views and unpaired, got "
                f"{list(views)} and {list(unpaired)}"
            )
        home = next(iter(others.values())).device  # some may come from a GPU, others from a file
        others = {name: x.to(home) for name, x in others.items()}
        given = {name: _matrix(views[name], name).to(home) for name in others}
        start = any(map(len, given.values()))
        growth = (
            grow_pairs(*given.values(), *others.values())
            if start
            else match_unpaired(*others.values())
        )
        if not (start or growth.confirmed):
            raise SolverError(f"no pair was given, and there is no space: {growth}")
        rows = dict(zip(others, (growth.rows_x, growth.rows_y), strict=True))
        found = {name: others[name][rows[name]] for name in others if growth.confirmed}
        both = {name: torch.cat([x, found.get(name, x[:0])]) for name, x in given.items()}
        _warn_of_growth(growth, min(map(len, others.values())))
        self.fit(both, spaces=spaces)
        first = next(iter(given.values()))
        self.record({"given_pairs": len(first), "found_pairs": self.n_pairs_ - len(first)})
        self.growth_ = growth
        return self

    def fold_moments(
        self, views: Mapping[str, Latents], *, start: int = 0
    ) -> "list[dict[tuple[str, str], PairedMoments] | None]":
        """Moments of a batch of items, fold by fold, for data that come in batches.

        Args:
            views: For each view its latents, (n, d_view).
            start: Number of the first row among all batches, which decides its fold.

        Returns:
            For each fold what `fit_moments` takes; None for a fold without a row in this batch.
            There is one fold where neither `alpha` nor `dim` is "auto".
        """
        self.check(views)
        tensors = {name: _matrix(latents, name) for name, latents in views.items()}
        lengths = {name: len(x) for name, x in tensors.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidLatentsError(f"views need equal numbers of rows, got {lengths}")
        count = self._fold_count
        rows = [slice((fold - start) % count, None, count) for fold in range(count)]
        return [_moments({name: x[part] for name, x in tensors.items()}) for part in rows]

    def fit_moments(
        self,
        folds: Sequence[ViewMoments | None],
        *,
        spaces: Mapping[str, SpaceSpec] | None = None,
    ) -> Self:
        """Estimates the space from moments alone.

        Args:
            folds: Moments of disjoint sets of items, as `fold_moments` gives them: for every two
                views the moments of their pairs, with all of Syy. They need not be the same items
                for all pairs of views. At least two folds where a parameter is "auto".
            spaces: Which encoder's latents they are, by view, for the configs.

        Warns:
            RankWarning: One of several views varies in so few directions that it limits the axes.
            UnrelatedPairsWarning: Two views agree no more than on shuffled items.
        """
        known = _as_folds(folds)
        moments = add_views(known if self._chooses else [fold for fold in known if fold])
        self.check(check_views(moments))
        alphas = ALPHAS if self.alpha == "auto" else (float(self.alpha),)
        information, alpha = (
            held_out_information(known, alphas) if self._chooses else (None, alphas[0])
        )
        dim = information.n_axes if information and self.dim == "auto" else int(self.dim)
        problem = CanonicalProblem.from_moments(moments)
        solved = problem.solve(alpha=alpha, dim=dim)
        sources = _sources(solved, spaces or {})
        _warn_of_unrelated(moments, known if self._chooses else (), alpha)
        _warn_of_narrow(problem, self.dim, dim)
        self.params_ = {
            "dim": min(dim, problem.dim),
            "alpha": alpha,
            "shrink": float(self.shrink),
            "n_folds": int(self.n_folds),
        }
        self.information_, self.alpha_ = information, alpha
        self.dataset_, self.fit_summary_, self._when_saved = {}, None, None
        self.growth_ = None
        self.n_pairs_ = min(m.n for m in moments.values())
        eps = max(m.eps for m in moments.values())
        double = eps < torch.finfo(torch.float32).eps
        self._keep(solved, sources, torch.float64 if double else torch.float32)
        self._came_from(None, None)
        return self

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Moves the maps of all views to a device or floating dtype; so they are saved."""
        self._require_fit()
        for view in self.views_.values():
            view.to(device, dtype)
        return self

    def record(self, dataset: Mapping[str, Any]) -> None:
        """Notes which items the fit saw, for the configs and the card."""
        self._require_fit()
        self.dataset_ = dict(dataset)
        for view in self.views_.values():
            view.dataset_ = dict(dataset)

    def check(self, views: Iterable[str]) -> None:
        """Refuses parameters out of range, and names of views that cannot be fitted.

        Raises:
            InvalidLatentsError: Fewer than two views.
            ValueError: A parameter out of range, or a name that cannot be a folder.
        """
        self._check_params()
        if len(names := check_part_names(views)) < 2:
            raise InvalidLatentsError(f"a shared space needs 2 views or more, got {names}")

    @overload
    def translator(self, view: str, *, to: None = None) -> SharedViewTranslator: ...
    @overload
    def translator(self, view: str, *, to: str) -> SharedPairTranslator: ...
    def translator(
        self, view: str, *, to: str | None = None
    ) -> SharedViewTranslator | SharedPairTranslator:
        """The translator from a view's latents into the shared space, or on into another view.

        Args:
            view: The view of the latents that are translated.
            to: The view whose latents are expected; None for the shared space itself.

        Raises:
            NotFittedError: Nothing was fitted yet.
            UnknownNameError: There is no such view.
        """
        source = self._view(view)
        return source if to is None else self._pair(source, self._view(to))

    def fold_queries(self, X: Latents, view: str, *, items: str) -> Latents:
        """Queries for a store of another view's own vectors, which ranks by dot product.

        The score of an item is the pointwise mutual information of its latents and the query's
        under the model of the space, the sum of (rab - r²(a² + b²)/2) / (1 - r²) over the axes, but
        for a constant of each query. It needs the vectors of the items as they are and one number
        for each: `fold_items` gives both, as one vector. Where the vectors may not be touched,
        search with all coordinates but the last, which is -1, fetch more than needed, and subtract
        the last coordinate of `fold_items` from their scores.

        Args:
            X: The view's latents, (n, d_view).
            view: The view that asks.
            items: The view whose latents are in the store.

        Returns:
            (n, d_items + 1).

        Raises:
            UnknownNameError: There is no such view.
            InvalidLatentsError: Another width than the view's, NaN or infinity.
        """
        asking, stored = self._view(view), self._view(items)
        a, b, rho = *(one._axes() for one in (asking, stored)), self._correlations(view, items)
        x = asking._check_input(X, asking.source_)
        coordinates = x.double().cpu() @ a.weight + a.bias
        folded = coordinates * (rho / (1 - rho.square())) @ b.weight.mT
        return like(torch.cat([folded, -torch.ones_like(folded[..., :1])], -1).to(x), X)

    def fold_items(self, Y: Latents, view: str, *, queries: str) -> Latents:
        """Items for a store that is searched with `fold_queries`.

        Args:
            Y: The latents of the items, (n, d_view).
            view: Their view.
            queries: The view that asks.

        Returns:
            (n, d_view + 1): the latents, and half of the sum of r²b² / (1 - r²).

        Raises:
            UnknownNameError: There is no such view.
            InvalidLatentsError: Another width than the view's, NaN or infinity.
        """
        stored, rho = self._view(view), self._correlations(queries, view)
        b, y = stored._axes(), stored._check_input(Y, stored.source_)
        squares = (y.double().cpu() @ b.weight + b.bias).square()
        number = (squares * (rho.square() / (1 - rho.square()))).sum(-1, keepdim=True) / 2
        return like(torch.cat([y, number.to(y)], -1), Y)

    def _view(self, name: str) -> SharedViewTranslator:
        self._require_fit()
        if name not in self.views_:
            raise UnknownNameError(
                f"there is no view {name!r}: the space joins {list(self.views_)}"
            )
        return self.views_[name]

    def _correlations(self, one: str, other: str, *, shrunk: bool = True) -> Tensor:
        """Of each axis between two views; among more than two, of what each has with the rest."""
        a, b = (self._view(name)._axes() for name in (one, other))
        return (a.shrunk * b.shrunk if shrunk else a.correlations * b.correlations).sqrt()

    def _pair(
        self, source: SharedViewTranslator, target: SharedViewTranslator
    ) -> SharedPairTranslator:
        names = source.params_["view"], target.params_["view"]
        a, b = source._axes(), target._axes()
        rho = self._correlations(*names, shrunk=False)
        through = rho[:, None] * b.loadings
        tensors = a.weight @ through, b.mean + a.bias @ through
        params = {"view": names[0], "to": names[1], "alpha": self.alpha_}
        pair = SharedPairTranslator()._learn_from(
            params | {"correlations": rho.tolist()},
            (source.source_, target.source_),
            self.n_pairs_,
            LatentMap(*(t.to(source.map_.device, source.map_.dtype) for t in tensors)),
        )
        pair.dataset_ = dict(self.dataset_)
        return pair

    def _keep(
        self,
        solved: Mapping[str, CanonicalView],
        sources: Mapping[str, SpaceSpec],
        dtype: torch.dtype,
    ) -> None:
        maps = shared_maps(solved, self.shrink, dtype)
        self.space_ = shared_spec(maps)
        self.views_ = {}
        for name, view in solved.items():
            params = {
                "view": name,
                "views": list(solved),
                "alpha": self.alpha_,
                "shrink": self.params_["shrink"],
                "length": view.length(self.shrink),
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
        fetched = client.fetch_parts(pretrained_model_name_or_path, _names_of, **options)
        config, where = fetched.config, str(fetched.paths[CONFIG_NAME])
        check_fields(config["params"], _PARAMS, f"{where}: params")
        space = cls(**config["params"])
        space.params_ = dict(config["params"])
        space.space_, space.alpha_ = SpaceSpec.from_dict(config["space"]), float(space.alpha)
        space.n_pairs_, space.views_ = config["n_pairs"], {}
        space.dataset_ = config["dataset"]
        space.information_ = read_information(config["information"], f"{where}: information")
        if len(names := config["views"]) < 2:
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
        """The config, with the size of each view's bank for the card, and all files."""
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
            "dataset": self.dataset_,
            "n_pairs": self.n_pairs_,
            "information": asdict(curve) if curve else {},
        }
        banks = {name: view.query_bank_ for name, view in self.views_.items()}
        sizes = {name: len(bank) for name, bank in banks.items() if bank is not None}
        return {**config, "banks": sizes}, {**files, CONFIG_NAME: to_json(config)}

    @property
    def _chooses(self) -> bool:
        """Whether folds are needed."""
        return "auto" in (self.alpha, self.dim)

    @property
    def _fold_count(self) -> int:
        return int(self.n_folds) if self._chooses else 1

    def _check_params(self) -> None:
        check_count("n_folds", self.n_folds, least=2)
        if self.dim != "auto":
            check_count("dim", self.dim, also=" or 'auto'")
        if self.alpha != "auto" and not (is_number(self.alpha) and 0 < self.alpha < float("inf")):
            raise ValueError(f"alpha must be 'auto' or a finite number > 0, got {self.alpha!r}")
        if not (is_number(self.shrink) and 0 < self.shrink <= 1):
            raise ValueError(f"shrink must be above 0 and at most 1, got {self.shrink!r}")

    def _require_fit(self) -> None:
        if not hasattr(self, "views_"):
            raise NotFittedError("this SharedSpace is not fitted: call fit, or load one")

    def __repr__(self) -> str:
        if not hasattr(self, "views_"):
            return f"SharedSpace(dim={self.dim}, alpha={self.alpha!r})"
        names = ", ".join(self.views_)
        return f"SharedSpace of {names} (dim={self.space_.dim}), {self.n_pairs_:,} pairs"


def _names_of(fetched: client.Fetched) -> list[str]:
    """The views that a space's config states."""
    where = str(fetched.paths[CONFIG_NAME])
    check_kind(fetched.config, "space_type", "shared", _FIELDS, where=where)
    return check_part_names(fetched.config["views"], error=ConfigError)


def _sets(
    views: Mapping[str, Latents] | Sequence[Mapping[str, Latents]],
) -> list[Mapping[str, Latents]]:
    """The sets of items, each of the views that have seen them.

    Raises:
        InvalidLatentsError: They are not latents by view.
    """
    sets = [views] if isinstance(views, Mapping) else list(views)
    for one in sets:
        if not isinstance(one, Mapping):
            raise InvalidLatentsError(
                'views must be latents by name, {"a": X, "b": Y}, or a list of such sets of items, '
                f"got {type(views).__name__} of {type(one).__name__}"
            )
    return sets


def _check_by_view(name: str, given: object) -> None:
    """Refuses a list or anything else where views have names.

    Raises:
        InvalidLatentsError: Says what came.
    """
    if not isinstance(given, Mapping):
        raise InvalidLatentsError(
            f'{name} must be by view, {{"a": ..., "b": ...}}, got {type(given).__name__}'
        )


def _matrix(latents: Latents, view: str) -> Tensor:
    """The latents of a view, (n, d), if they are finite.

    Raises:
        InvalidLatentsError: Names the view.
    """
    try:
        x = as_tensor(latents)
        if x.ndim != 2:
            raise InvalidLatentsError(f"latents must be a matrix (n, d), got {tuple(x.shape)}")
        if x.numel():
            check_finite(x)
    except InvalidLatentsError as error:
        raise InvalidLatentsError(f"view {view!r}: {error}") from error
    return x


def _moments(
    views: Mapping[str, Tensor],
) -> dict[tuple[str, str], PairedMoments] | None:
    """The moments of every two views; None if there is not a single row."""
    if not all(len(x) for x in views.values()):
        return None
    return {(a, b): _pair_moments(views, a, b) for a, b in combinations(views, 2)}


def _pair_moments(views: Mapping[str, Tensor], a: str, b: str) -> PairedMoments:
    """The moments of two views.

    Raises:
        InvalidLatentsError: Names the views.
    """
    try:
        return PairedMoments.from_batch(views[a], views[b], full_syy=True)
    except InvalidLatentsError as error:
        raise InvalidLatentsError(f"views {a!r} (source) and {b!r} (target): {error}") from error


def _as_folds(folds: Sequence[ViewMoments | None]) -> list[ViewMoments]:
    """The moments of each fold, nothing for one without an item.

    Raises:
        InvalidLatentsError: They are something else.
    """
    if not isinstance(folds, list | tuple) or not all(_by_pair(fold or {}) for fold in folds):
        raise InvalidLatentsError(
            "fit_moments takes a list of folds, in each PairedMoments by pair of views, "
            f'{{("a", "b"): moments}}, as fold_moments gives them, got {folds!r:.60}'
        )
    return [fold or {} for fold in folds]


def _by_pair(fold: object) -> bool:
    return isinstance(fold, Mapping) and all(
        isinstance(pair, tuple) and isinstance(moments, PairedMoments)
        for pair, moments in fold.items()
    )


def _sources(
    solved: Mapping[str, CanonicalView], spaces: Mapping[str, SpaceSpec]
) -> dict[str, SpaceSpec]:
    """The space of each view, of its width.

    Raises:
        UnknownNameError: A space of no view.
        InvalidLatentsError: A space of another width than its view, or spaces without names.
    """
    _check_by_view("spaces", spaces)
    if unknown := sorted(spaces.keys() - solved.keys()):
        raise UnknownNameError(
            f"spaces names {unknown[0]!r}, which is not a view: these are {list(solved)}"
        )
    for space in spaces.values():
        check_space(space)
    sources = {name: spaces.get(name) or SpaceSpec(len(v.mean)) for name, v in solved.items()}
    for name, view in solved.items():
        if sources[name].dim != len(view.mean):
            raise InvalidLatentsError(
                f"view {name!r} is {len(view.mean)} wide, but its space is {sources[name]}"
            )
    return sources


def _warn_of_unrelated(moments: ViewMoments, folds: Sequence[ViewMoments], alpha: float) -> None:
    """Warns of views that agree no more than by luck, neither in their moments nor held out."""
    for (first, second), m in moments.items():
        own = [{(first, second): fold[first, second]} for fold in folds]
        if look_shuffled(m) and not (own and surely_related(own, alpha)):
            warnings.warn(
                f"views {first!r} and {second!r} agree on these {m.n:,} items no more than on "
                "shuffled ones: check that row i of all views is the same item, and that each view "
                "was encoded as meant",
                UnrelatedPairsWarning,
                stacklevel=3,
            )


def _warn_of_narrow(problem: CanonicalProblem, asked: int | Literal["auto"], dim: int) -> None:
    ranks = {name: len(spectrum.values) for name, spectrum in problem.spectra.items()}
    narrow, second, *others = sorted(ranks, key=ranks.__getitem__)
    without = ranks[second] if asked == "auto" else min(asked, ranks[second])
    if others and ranks[narrow] <= dim and ranks[narrow] < without:
        warnings.warn(
            f"view {narrow!r} varies in {ranks[narrow]} directions, so the space has no more axes; "
            f"without that view it could have {without}",
            RankWarning,
            stacklevel=3,
        )


def _warn_of_growth(growth: Growth, n_unpaired: int) -> None:
    if n_unpaired and not growth.confirmed:
        warnings.warn(
            f"{growth}. The space is fitted on the given pairs alone: give more of them, or "
            "unpaired items that both sides hold",
            GrowthWarning,
            stacklevel=3,
        )
    elif not growth.converged:
        warnings.warn(str(growth), GrowthWarning, stacklevel=3)


def shared_maps(
    solved: Mapping[str, CanonicalView], shrink: float, dtype: torch.dtype
) -> dict[str, SharedMap]:
    """The map of each view, in a floating dtype."""
    return {
        name: SharedMap(*(t.to(dtype) for t in (*view.affine(shrink), *view.inverse(shrink))))
        for name, view in solved.items()
    }


def shared_spec(maps: Mapping[str, LatentMap]) -> SpaceSpec:
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
