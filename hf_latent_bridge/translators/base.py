"""The base of all translator types: registry, config, saving, and loading by type."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack, overload

import torch
from huggingface_hub import CommitInfo
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.canonical import Information
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.devices import as_device
from hf_latent_bridge.errors import (
    ConfigError,
    InvalidLatentsError,
    NotFittedError,
    UnknownTranslatorError,
)
from hf_latent_bridge.files import (
    CONFIG_NAME,
    FORMAT_VERSION,
    WEIGHTS_NAME,
    check_config,
    check_fields,
    loader_of,
    parse_tensors,
    stated_types,
    to_files,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.published import Published, PushOptions, Results, as_metrics
from hf_latent_bridge.hubness import check_neighbors
from hf_latent_bridge.latents import Array, Latents, as_tensor, check_finite, unit_rows
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import Selection
from hf_latent_bridge.spaces import SHARED, SpaceSpec, check_space
from hf_latent_bridge.translators.estimator import TranslatorEstimator
from hf_latent_bridge.translators.latent_map import LatentMap, Map


@dataclass(frozen=True)
class TranslatorConfig:
    """The content of `config.json`; docs/format.md describes each field."""

    translator_type: str
    params: dict[str, Any]
    source: SpaceSpec
    target: SpaceSpec
    n_pairs: int
    dataset: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    unrelated_pairs: bool = False
    selection: Selection | None = None
    bank_size: int = 0
    items: SpaceSpec | None = None
    information: Information | None = None
    weights_sha256: str = ""
    library_version: str = __version__
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = CONFIG_NAME) -> Self:
        """Reads what `to_dict` wrote; `where` is the file that the error names.

        Raises:
            FormatVersionError: Written by a newer library.
            ConfigError: A field is missing, unknown or of the wrong type.
        """
        if "translator_type" not in content and (stated := stated_types(content)):
            raise ConfigError(
                f"{where} is not a translator's, for it states {stated}: load it with "
                f"{loader_of(content)}"
            )
        optional = {name: kind for name, kind in _OPTIONAL.items() if name in content}
        check_config(content, _KINDS | optional, owner="translator", where=where)
        for name in ("n_pairs", "bank_size"):
            if content.get(name, 1) < 1:
                raise ConfigError(f"{where}: {name} must be at least 1, got {content[name]}")
        read: dict[str, Any] = {
            side: SpaceSpec.from_dict(content[side]) for side in ("source", "target")
        }
        if "items" in content:
            read["items"] = SpaceSpec.from_dict(content["items"])
        if "selection" in content:
            read["selection"] = Selection.from_dict(content["selection"], f"{where}: selection")
        if "information" in content:
            stated = content["information"]
            read["information"] = read_information(stated, f"{where}: information")
        return cls(**{**content, **read})

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, without the hash of the weights, which only a save knows."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        del plain["weights_sha256"]
        plain["selection"] = self.selection and self.selection.to_dict()
        plain["items"] = self.items and self.items.to_dict()
        plain["information"] = self.information and asdict(self.information)
        for name in _OPTIONAL:
            if not plain[name]:
                del plain[name]
        return {**plain, "source": self.source.to_dict(), "target": self.target.to_dict()}


def read_information(content: Mapping[str, Any], where: str) -> Information | None:
    """What a config records of the information that encoders share; None if it is empty.

    Raises:
        ConfigError: A field is missing, unknown or of the wrong type.
    """
    if not content:
        return None
    check_fields(content, {f.name: list for f in fields(Information)}, where)
    if len(content["alphas"]) != len(content["bits"]):
        raise ConfigError(f"{where}: alphas and bits must be as many, got {content!r:.80}")
    for name, values in content.items():
        if not all(type(value) is float for value in values):
            raise ConfigError(f"{where}: {name} must be numbers, got {values!r:.80}")
    return Information(**{name: tuple(values) for name, values in content.items()})


_SHIFT = "the shift can be taken out of one affine map with no norm after it"
_KINDS: dict[str, type] = {
    "translator_type": str,
    "params": dict,
    "source": dict,
    "target": dict,
    "dataset": dict,
    "n_pairs": int,
    "metrics": dict,
    "weights_sha256": str,
}


_OPTIONAL: dict[str, type] = {
    "unrelated_pairs": bool,
    "bank_size": int,
    "selection": dict,
    "items": dict,
    "information": dict,
}
_BANK = "query_bank"  # the tensor that a repo holds beside the map


Grid = Mapping[str, Sequence[Any]]

TRANSLATORS: dict[str, type["Translator"]] = {}


class Translator(TranslatorEstimator, Published):
    """A map from one latent space to another.

    A subclass names its type (`class MyTranslator(Translator, translator_type="mine")`), stores
    its parameters in `__init__` and says in `_solve` how moments become an affine map. That is
    all: the command line, the docs and the Space list what is registered.

    Attributes:
        translator_type: The name in `config.json` and in the registry.
        learns: Whether it is fitted on pairs, as all are but a composition.
        moves_target: Whether the target's latents are translated, too, by `target_translator_`.
        suggested: Parameters to try first where the defaults equal another type; the Space, the
            quickstart and the benchmarks take them.
        grid: Values of parameters to try in a selection, each list from the simplest on; all
            combinations are tried. Several of these, as a tuple, where parameters depend on each
            other. None for a type that cannot be selected.
        complexity: Its place among types where a selection prefers simpler maps, low is simple.
        source_: The space of the latents that are translated.
        target_: The space that they are translated into.
        dataset_: Which pairs the fit saw; JSON values, printed on the card.
        query_bank_: Latents of queries in the target space, for searches; None without.
        metrics_: Results of an evaluation, as loaded, saved or pushed; set by `metrics=` there.
        fit_summary_: Where the time of `fit_translator` went; None for any other fit.
        repo_id: The Hub repo that it came from or was pushed to, else None.
        commit: The commit there, else None.
        subfolder: The folder in that repo; empty for its root.
    """

    translator_type: ClassVar[str]
    learns: ClassVar[bool] = True
    moves_target: ClassVar[bool] = False
    suggested: ClassVar[Mapping[str, Any]] = {}
    grid: ClassVar[Grid | tuple[Grid, ...] | None] = None
    complexity: ClassVar[int] = 100
    _renamed: ClassVar[dict[str, str]] = {"normalize": "unit_norm"}  # since 0.1.0
    dataset_: dict[str, Any]
    metrics_: dict[str, Any]
    fit_summary_: object | None = None
    _query_bank: Tensor | None = None
    _items: SpaceSpec | None = None
    _information: Information | None = None

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

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """A translator to fit, with parameters that are checked at once.

        Raises:
            ValueError: An unknown parameter or a value out of range.
        """
        try:
            translator = cls().set_params(**params)
            translator._check_params()
        except (TypeError, ValueError) as error:
            raise ValueError(f"params of {cls.translator_type!r}: {error}") from error
        return translator

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[client.HubOptions],
    ) -> Self:
        """Loads a translator from a Hub repo or a folder.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the map; None for a GPU if there is one.
            dtype: Floating dtype of the map; None for the saved one.
            options: `revision` (resolved to a commit once), `subfolder`, `token`, `cache_dir`,
                `force_download`, `local_files_only`, as huggingface_hub takes them.

        Raises:
            ValueError: `dtype` is not a floating dtype.
            RepoNotFoundError: No such folder, repo, revision or file.
            RepoAccessError: The repo is gated.
            HubUnavailableError: The Hub cannot be reached and nothing is cached.
            ConfigError: The config does not parse, is of a newer format or of an unknown type.
            WeightsError: The weights are not exactly what the config describes.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype must be a floating torch.dtype or None, got {dtype!r}")
        return cls._from_fetched(
            client.fetch(pretrained_model_name_or_path, **options), device, dtype
        )

    @classmethod
    def _from_fetched(
        cls,
        fetched: client.Fetched,
        device: torch.device | str | None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """The translator in files that were found."""
        where = str(fetched.paths[CONFIG_NAME])
        config = TranslatorConfig.from_dict(fetched.config, where)
        translator = cls._from_config(config)
        shapes = translator._shapes(config)
        if config.bank_size:
            shapes |= {_BANK: (config.bank_size, config.target.dim)}
        content, file = fetched.read(WEIGHTS_NAME), str(fetched.paths[WEIGHTS_NAME])
        tensors = parse_tensors(content, shapes, config.weights_sha256, file)
        place = as_device(device), dtype
        bank = tensors.pop(_BANK, None)
        translator._restore(config, translator._to_map(tensors).moved(*place))
        translator._query_bank = None if bank is None else bank.to(*place)
        return translator._loaded_from(fetched)

    @classmethod
    def _from_config(cls, config: TranslatorConfig) -> Self:
        kind = translator_class(config.translator_type)
        if not issubclass(kind, cls):
            raise ConfigError(
                f"the repo holds a {kind.__name__}, not a {cls.__name__}: "
                "load it with AutoTranslator.from_pretrained"
            )
        try:
            return kind._from_saved(config.params)
        except ValueError as error:
            raise ConfigError(f"{CONFIG_NAME}: {error}") from error

    @classmethod
    def _from_saved(cls, params: Mapping[str, Any]) -> Self:
        """An unfitted translator with the `params` of a config, also of one that 0.1.0 wrote."""
        known = cls().get_params()
        renamed = {old: new for old, new in cls._renamed.items() if old not in known}
        if twice := [old for old, new in renamed.items() if {old, new} <= params.keys()]:
            raise ConfigError(f"params state {twice[0]!r} and {renamed[twice[0]]!r}, its new name")
        return cls.from_params({renamed.get(name, name): v for name, v in params.items()})

    def _shapes(self, config: TranslatorConfig) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in the repo."""
        return {"weight": (config.source.dim, config.target.dim), "bias": (config.target.dim,)}

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors of the repo, named as `_shapes` names them."""
        return self.map_.state_dict()

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        """The map, from the tensors that `_shapes` declares."""
        return LatentMap(tensors["weight"], tensors["bias"], unit_norm=self.unit_norm)

    def _restore(self, config: TranslatorConfig, fitted: Map) -> None:
        self.params_ = self.get_params()
        self.moments_ = None
        self.source_, self.target_ = config.source, config.target
        self.dataset_, self.metrics_ = config.dataset, config.metrics
        self.selection_, self._items = config.selection, config.items
        self._information = config.information
        self._n_pairs, self._unrelated_pairs = config.n_pairs, config.unrelated_pairs
        self._maps = {"fitted": fitted}

    def save_pretrained(
        self, save_directory: str | Path, *, metrics: Results | Mapping[str, Any] | None = None
    ) -> None:
        """Writes the files and a card into a folder; your own text in an earlier card is kept.

        The folder holds the old files or the new ones, also for those who load it meanwhile, and
        after a kill at any moment.

        Args:
            save_directory: The folder, made if it is not there.
            metrics: Results to put into the config and the card, such as the `Report` of
                `evaluate`; None for those that the translator has.

        Raises:
            InvalidNameError: The name is empty, or not a text or path.
            ForeignFileError: The folder holds a README.md that is not a card of this library, or
                another file of someone else where one would be written.
            NotFittedError: There is nothing to save yet.
            ConfigError: Something to be saved is not a JSON value.
            OSError: The folder cannot be written; says what to do.
            InUseError: Another process has been saving there for a minute.
        """
        with self._recording(metrics):
            super().save_pretrained(save_directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metrics: Results | Mapping[str, Any] | None = None,
        **options: Unpack[PushOptions],
    ) -> CommitInfo:
        """Publishes it as a model repo, in one commit; none if nothing changed.

        What people wrote into the README.md of the repo (or, if it has none, of the folder that
        this was loaded from) is kept.

        Args:
            repo_id: Such as "me/minilm-to-mpnet"; created if it is not there.
            metrics: Results to put into the config and the card, such as the `Report` of
                `evaluate`; None for those that the translator has.
            options: `private`, `revision` (a branch, created if it is not there),
                `commit_message`, `create_pr`, `token` and `tags`, as `PushOptions` tells.

        Raises:
            InvalidNameError: The name is empty or not a text.
            RepoNotFoundError: The name is not a repo id.
            ForeignFileError: The repo holds a model of another library.
            NotFittedError: There is nothing to publish yet.
            ConfigError: Something to be published is not a JSON value.
            RepoAccessError: The token may not write there.
            HubUnavailableError: The Hub cannot be reached, or someone else pushed meanwhile. A repo
                or branch that was made for this push is deleted again.
        """
        with self._recording(metrics):
            return super().push_to_hub(repo_id, **options)

    @contextlib.contextmanager
    def _recording(self, metrics: Results | Mapping[str, Any] | None) -> Iterator[None]:
        """Takes the results over, unless the block fails."""
        self._require_fit()
        before = self.metrics_
        if metrics is not None:
            self.metrics_ = as_metrics(metrics)
        try:
            yield
        except BaseException:
            self.metrics_ = before
            raise

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        self._require_fit()
        self._require_type()
        weights, bank = self._tensors(), self._query_bank
        if bank is not None:
            weights = {**weights, _BANK: bank.to(self.map_.dtype)}
        config = TranslatorConfig(
            translator_type=self.translator_type,
            params=self.params_,
            source=self.source_,
            target=self.target_,
            n_pairs=self.n_pairs_,
            dataset=self.dataset_,
            metrics=self.metrics_,
            unrelated_pairs=self.unrelated_pairs_,
            bank_size=0 if bank is None else len(bank),
            selection=self.selection_,
            items=self._items,
            information=self._information,
        ).to_dict()
        return config, to_files(config, weights)

    @property
    def target_translator_(self) -> "Translator | None":
        """What carries the target's latents to where they are compared; None if they stay."""
        return None

    def record_spaces(self, source: SpaceSpec, target: SpaceSpec) -> None:
        """Notes whose latents the pairs were, for the config and the card.

        Raises:
            InvalidLatentsError: Another width than the pairs had.
        """
        for space in (source, target):
            check_space(space, or_none=False)
        widths = tuple(space.dim for space in self.pair_spaces_)
        if (source.dim, target.dim) != widths:
            raise InvalidLatentsError(f"the pairs have widths {widths}, got {source} and {target}")
        self._set_spaces(source, target)

    def _set_spaces(self, source: SpaceSpec, target: SpaceSpec) -> None:
        self.source_, self.target_ = source, target

    @overload
    def transform_target(self, y: Tensor) -> Tensor: ...
    @overload
    def transform_target(self, y: Array) -> Array: ...
    def transform_target(self, y: Latents) -> Latents:
        """Target latents where translations are compared with them.

        They stay as they are, unless both sides move (`target_translator_`).

        Args:
            y: (n, d_target) or one latent (d_target,).

        Raises:
            InvalidLatentsError: Another width than the target's: of a shared space that a view or a
                composition leads into, which only the items' own view translates into.
        """
        self._require_fit()
        if self.target_translator_ is not None:
            return self.target_translator_.transform(y)
        self._rows(y, self.target_, "y")
        return y

    @property
    def query_bank_(self) -> Tensor | None:
        """Latents of queries in the target space, (m, d_target), of unit norm; None without.

        `hubness` and `LatentIndex(hubness="csls")` correct searches by them.

        Raises:
            NotFittedError: Nothing was fitted yet.
        """
        self._require_fit()
        return self._query_bank

    def bank_or_own(self, bank: Latents | None, n_neighbors: int) -> Tensor:
        """A bank of queries that corrects searches of this translator's results.

        Args:
            bank: Latents of queries in the target space, (m, d_target); None for `query_bank_`.
            n_neighbors: How many of its nearest count.

        Raises:
            InvalidLatentsError: Of another width than the target space, NaN or infinity.
            ValueError: None is given and the translator keeps none, or it has fewer than
                `n_neighbors`.
        """
        found = self.query_bank_ if bank is None else as_tensor(bank).detach()
        if found is None:
            raise ValueError(
                "a correction for hubs needs a bank of queries, and the translator keeps none: "
                f"give latents of {self.target_}, fit with bank_size (--bank-size), or call "
                "keep_bank"
            )
        if found.ndim != 2 or found.shape[1] != self.target_.dim:
            raise InvalidLatentsError(
                f"a bank must be latents (m, {self.target_.dim}) of {self.target_}, got shape "
                f"{tuple(found.shape)}"
                + (": translate them into it first" if self.target_.pooling == SHARED else "")
            )
        check_finite(found)
        check_neighbors(n_neighbors, len(found))
        return found

    def keep_bank(self, X: Latents, *, size: int = 256, seed: int = 0) -> Self:
        """Keeps some translated latents as a bank of queries, which is published with the map.

        Each kept row reveals about one item what its translated latent reveals; the card says so.

        Args:
            X: Source latents of queries like those to come, (n, d_source). The anchors of the fit
                serve where the queries will be items of their kind.
            size: How many to keep, drawn at random; all where there are fewer.
            seed: Seeds the draw.

        Raises:
            InvalidLatentsError: No rows, another width, NaN or infinity.
            NotFittedError: The translator is not fitted.
            ValueError: `size` is less than 1.
        """
        self._require_fit()
        x = as_tensor(X).detach()
        if x.ndim != 2 or len(x) == 0:
            raise InvalidLatentsError(
                f"a bank needs latents (n, d) of at least one query, got shape {tuple(x.shape)}"
            )
        check_count("size", size, also=" (drop_bank removes a bank)")
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:size]
        bank = as_tensor(self.transform(x[rows.sort().values.to(x.device)]))
        self._query_bank = unit_rows(bank.to(self.map_.device, self.map_.dtype))
        self._came_from(None, None)  # the repo does not hold this bank
        return self

    def drop_bank(self) -> Self:
        """Forgets the bank of queries, so that it is not published."""
        if self._query_bank is not None:
            self._query_bank = None
            self._came_from(None, None)
        return self

    @property
    def can_remove_shift(self) -> bool:
        """Whether it is one affine map with no norm after it, as `remove_shift` needs."""
        return isinstance(self.map_, LatentMap) and not self.map_.norms_target

    def check_shift(self) -> None:
        """Refuses a type, or parameters, that `remove_shift` cannot work with; before a fit, too.

        Raises:
            InvalidLatentsError: The map is not affine, or scales its results to unit norm.
        """
        if not self.affine or self.moves_target:
            raise InvalidLatentsError(
                f"{_SHIFT}, and the map of type {self.translator_type} is another one: fit "
                "another type, such as affine"
            )
        unit_norm = getattr(self, "unit_norm", "none")  # compositions have several
        if unit_norm in ("target", "both"):
            raise InvalidLatentsError(
                f"{_SHIFT}, and unit_norm={unit_norm!r} scales what comes out of it: fit with "
                "unit_norm='none' or 'source'"
            )

    def remove_shift(self, mean: Latents | None = None) -> Self:
        """Takes the direction of the target's mean out of the map, for search by plain cosine.

        Latents of most encoders share a mean. Translations that are shrunk towards it are ranked by
        it as well; without its direction, an untouched store ranks as it would after centring. The
        map is for search alone from then on: heads and decoders need the whole latent.

        Args:
            mean: Of the target's latents, (d_target,); None for that of the pairs of the fit.

        Raises:
            NotFittedError: No mean is given, and the translator was loaded.
            InvalidLatentsError: Another width, a mean of zero, or a map that is not affine or
                scales its results to unit norm.
        """
        self.check_shift()
        self._require_fit()
        if not self.can_remove_shift:
            raise InvalidLatentsError(f"{_SHIFT}, and this one has steps that are not")
        if mean is None:
            if self.moments_ is None:
                raise NotFittedError(
                    "a loaded translator does not know the mean of its target: pass it as mean"
                )
            mean = self.moments_.mean_y
        direction = as_tensor(mean).detach().double().cpu()
        if direction.shape != (self.target_.dim,) or not bool(direction.norm() > 0):
            raise InvalidLatentsError(
                f"the mean must be ({self.target_.dim},) and not zero, got "
                f"{tuple(direction.shape)} with norm {float(direction.norm()):g}"
            )
        direction = unit_rows(direction)
        weight = torch.eye(len(direction), dtype=torch.float64) - direction.outer(direction)
        dtype = self.map_.dtype
        without = LatentMap(weight.to(dtype), torch.zeros(len(direction), dtype=dtype))
        self._maps = {"fitted": self.map_.then(without)}
        if self._query_bank is not None:
            self._query_bank = unit_rows(without.moved(self._query_bank.device)(self._query_bank))
        self.dataset_ = {**self.dataset_, "shift_removed": True}
        self._came_from(None, None)  # the repo does not hold this map
        return self

    def _require_type(self) -> None:
        kind = type(self)
        if translator_class(self.translator_type).__qualname__ != kind.__qualname__:
            raise UnknownTranslatorError(
                f"{kind.__name__} would be loaded as another class: give it a type of its own, "
                f"class {kind.__name__}(..., translator_type='...')"
            )

    def _learn(
        self,
        folds: Sequence[PairedMoments | None],
        source: SpaceSpec | None,
        target: SpaceSpec | None,
    ) -> Self:
        super()._learn(folds, source, target)
        self.dataset_, self.metrics_ = {}, {}
        self._when_saved = None
        self._query_bank = None
        if self.repo_id is not None:
            self._came_from(None, None)
        return self


def translator_class(translator_type: str) -> type[Translator]:
    """The class that is registered under a type.

    Raises:
        UnknownTranslatorError: There is none.
    """
    try:
        return TRANSLATORS[translator_type]
    except KeyError:
        raise UnknownTranslatorError(
            f"unknown translator_type {translator_type!r}: this library knows "
            f"{sorted(TRANSLATORS)}; import the package that defines it first"
        ) from None


def methods(*, moving: bool = False) -> dict[str, type[Translator]]:
    """The registered types that are fitted on pairs and lead into the target's space, by name.

    Args:
        moving: With those that move the target's latents, too.
    """
    fitted = {name: kind for name, kind in TRANSLATORS.items() if kind.learns}
    return {name: kind for name, kind in fitted.items() if moving or not kind.moves_target}


def summary(kind: type[Translator]) -> str:
    """The first line of a type's docstring, for lists of the types."""
    return (inspect.getdoc(kind) or kind.__name__).splitlines()[0]


class AutoTranslator:
    """The one entry point for loading: `AutoTranslator.from_pretrained("me/minilm-to-mpnet")`."""

    from_pretrained = Translator.from_pretrained

    def __init__(self) -> None:
        raise OSError("AutoTranslator is not built directly: use AutoTranslator.from_pretrained")
