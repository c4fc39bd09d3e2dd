"""How a migrated collection is asked: encoders that answer in its space, and the record of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import torch
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.atomic import exclusive
from hf_latent_bridge.encoders.base import BatchSize, Encoder, as_items, check_encoder, encode
from hf_latent_bridge.errors import ConfigError, EncoderError, UnknownNameError
from hf_latent_bridge.files import (
    CONFIG_NAME,
    FORMAT_VERSION,
    check_fields,
    check_kind,
    check_part_names,
    to_json,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.published import check_save_directory
from hf_latent_bridge.hubness import Metric, fold_queries
from hf_latent_bridge.latents import as_tensor, unit_rows
from hf_latent_bridge.spaces import SpaceSpec, check_meet
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import check_translator

Way = Literal["items", "queries", "gradual"]

_KIND = "serving_type"
_WAYS: tuple[Way, ...] = ("items", "queries", "gradual")
_METRICS: tuple[Metric, ...] = ("dot", "cosine", "euclidean")
_FIELDS = {"url": str, "metric": str, "folding": dict, "routes": dict, "quality": dict}
_ROUTE = {"space": dict, "translated": bool}
_OTHER_VECTORS = ("output_value", "precision", "truncate_dim")


@dataclass(frozen=True)
class Route:
    """How one encoder's queries reach a collection.

    Attributes:
        space: The encoder's.
        translator: From there into the collection's space; None where they are the same.
    """

    space: SpaceSpec
    translator: Translator | None = None


def route_to(translator: Translator) -> Route:
    """How the target encoder's queries reach translated items: as they are, unless both move."""
    return Route(translator.pair_spaces_[1], translator.target_translator_)


@dataclass(frozen=True)
class Serving:
    """What serving code must know of a collection: a folder with a config and the translators.

    Attributes:
        way: "items" if the stored vectors were translated, "queries" if those who ask are, and
            "gradual" if all meet in a shared space.
        url: Of the vectors that are searched.
        metric: What the store ranks by.
        folding: How the items are folded, as JSON values; empty if they are not.
        routes: For each encoder that may ask its way, by name.
        quality: What was measured of it, as JSON values; empty if nothing was.
    """

    way: Way
    url: str
    metric: Metric
    folding: Mapping[str, Any]
    routes: Mapping[str, Route]
    quality: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fold(self) -> Metric | None:
        """The metric that queries are folded for; None where they are not."""
        return self.metric if self.folding else None

    def save(self, folder: str | Path) -> None:
        """Writes the folder: the old files or the new ones, also for those who read meanwhile.

        Raises:
            ForeignFileError: The folder holds files of someone else with these names.
            OSError: It cannot be written.
        """
        files = self._files()
        with exclusive(Path(folder)) as save:
            check_save_directory(folder, files, self._config())
            save(files)

    def check(self, folder: str | Path) -> None:
        """Refuses a folder that `save` would refuse, before anything else is done.

        Raises:
            ForeignFileError: The folder holds files of someone else with these names.
            OSError: It cannot be written.
        """
        check_save_directory(folder, self._files(), self._config())
        with exclusive(Path(folder)):
            pass

    def _files(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        check_part_names(self.routes)
        for name, route in self.routes.items():
            if route.translator is not None:
                content = route.translator._content()[1]
                files |= {f"{name}/{file}": held for file, held in content.items()}
        return {**files, CONFIG_NAME: to_json(self._config())}

    def _config(self) -> dict[str, Any]:
        routes = {
            name: {"space": route.space.to_dict(), "translated": route.translator is not None}
            for name, route in self.routes.items()
        }
        return {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            _KIND: self.way,
            "url": self.url,
            "metric": self.metric,
            "folding": dict(self.folding),
            "routes": routes,
            "quality": dict(self.quality),
        }

    @classmethod
    def load(cls, folder: str | Path, **options: Unpack[client.HubOptions]) -> Self:
        """Reads a folder, or a repo that it was uploaded to.

        Raises:
            RepoNotFoundError: There is none.
            ConfigError: The config is damaged, or not one of a served collection.
        InUseError: It was saved again and again while it was read.
            WeightsError: A translator is not the one that was saved.
        """
        fetched = client.fetch_parts(folder, _translated_of, **options)
        config, routes = fetched.config, {}
        for name, stated in _routes_of(fetched).items():
            translator = None
            if stated["translated"]:
                translator = Translator._from_fetched(fetched.inside(name), "cpu")
            routes[name] = Route(SpaceSpec.from_dict(stated["space"]), translator)
        return cls(
            config[_KIND],
            config["url"],
            config["metric"],
            config["folding"],
            routes,
            config["quality"],
        )


def _translated_of(fetched: client.Fetched) -> list[str]:
    """The routes that have a translator."""
    routes = _routes_of(fetched).items()
    return check_part_names(
        (name for name, route in routes if route["translated"]), error=ConfigError
    )


def _routes_of(fetched: client.Fetched) -> dict[str, Any]:
    """The routes as a config states them."""
    config, where = fetched.config, str(fetched.paths[CONFIG_NAME])
    way = config.get(_KIND)
    check_kind(config, _KIND, way if way in _WAYS else _WAYS[0], _FIELDS, where=where)
    if config["metric"] not in _METRICS:
        raise ConfigError(f"{where}: metric must be one of {_METRICS}, got {config['metric']!r}")
    for name, route in config["routes"].items():
        if not isinstance(route, dict):
            raise ConfigError(f"{where}: route {name!r} must be an object, got {route!r:.80}")
        check_fields(route, _ROUTE, f"{where}: route {name!r}")
    routes: dict[str, Any] = config["routes"]
    return routes


class TranslatedEncoder:
    """An encoder whose vectors search a collection of another encoder's, by the same calls.

    Its `encode` takes what that of sentence-transformers takes and gives NumPy arrays as it does,
    so it can stand wherever such a model asks an index. It is an `Encoder` of this library too.

    Args:
        encoder: From `load_encoder`, a `SentenceTransformer`, or a callable from items to latents.
        translator: From its space into the collection's; None where they are the same, and queries
            are only folded.
        fold: What the store ranks by, where the collection holds the folded form (`migrate` with
            hubness="csls"); None where it does not.

    Raises:
        EncoderError: `encoder` is none of these.
        TypeError: `translator` is not a translator.
        NotFittedError: It is not fitted.
        SpaceMismatchError: It was not fitted on this encoder.
        ValueError: An unknown metric.
    """

    def __init__(
        self, encoder: Any, translator: Translator | None = None, *, fold: Metric | None = None
    ) -> None:
        if isinstance(encoder, str) or not hasattr(encoder, "encode"):
            check_encoder(encoder)
        if fold not in (None, *_METRICS):
            raise ValueError(f"fold must be None or one of {_METRICS}, got {fold!r}")
        if translator is not None:
            check_translator(translator)
        if isinstance(encoder, Encoder) and translator is not None:
            check_meet(("encoder", encoder.space), ("translator", translator.source_))
        self.encoder = encoder
        self.translator = translator
        self.fold = fold
        self._space: SpaceSpec | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        encoder: Any,
        *,
        asks: str = "new",
        **options: Unpack[client.HubOptions],
    ) -> Self:
        """The encoder that asks a collection which `migrate` has recorded with `serve_dir`.

        Args:
            pretrained_model_name_or_path: The folder, or a repo that it was uploaded to.
            encoder: As for the class.
            asks: Which encoder it is: "new" or "old", in a shared space the name of the view.
            options: As for `AutoTranslator.from_pretrained`.

        Raises:
            RepoNotFoundError: There is no such folder or repo.
            ConfigError: The folder is damaged, or holds something else.
            WeightsError: A translator is not the one that was saved.
            UnknownNameError: `asks` is not one of the encoders that may ask.
            SpaceMismatchError: The encoder is another than the one that was recorded.
        """
        serving = Serving.load(pretrained_model_name_or_path, **options)
        if asks not in serving.routes:
            raise UnknownNameError(f"asks must be one of {list(serving.routes)}, got {asks!r}")
        route = serving.routes[asks]
        if isinstance(encoder, Encoder):
            check_meet(("encoder", encoder.space), (f"route {asks!r}", route.space))
        found = cls(encoder, route.translator, fold=serving.fold)
        found._space = route.space
        return found

    @property
    def space(self) -> SpaceSpec:
        """The collection's space; of folded vectors only the width is known.

        Raises:
            AttributeError: The encoder does not say it, and nothing is translated.
        """
        if self.translator is not None:
            space = self.translator.target_
        elif isinstance(self.encoder, Encoder):
            space = self.encoder.space
        elif self._space is not None:
            space = self._space
        else:  # so that hasattr says no
            raise AttributeError(f"{self.encoder!r:.60} does not say what its space is")
        more = {None: 0, "dot": 1}.get(self.fold, 2)
        return SpaceSpec(space.dim + more) if more else space

    def encode(
        self,
        items: Any,
        *,
        batch_size: BatchSize = "auto",
        show_progress_bar: bool | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Any:
        """Vectors of queries in the collection's space.

        Args:
            items: Texts or other items, or a single one.
            batch_size: Items per forward pass; "auto" for what the encoder does by itself.
            show_progress_bar: As sentence-transformers spells `progress`.
            progress: Show a bar.
            options: `convert_to_numpy` (True), `convert_to_tensor` and `normalize_embeddings`
                (False), of the result; others, such as `prompt_name`, go to a
                `SentenceTransformer`.

        Returns:
            (n, d) or, for a single item, (d,): float32 NumPy array, or a tensor if asked for.

        Raises:
            ValueError: An option that would give other vectors than those of the fit.
            TypeError: An option that the encoder does not know.
            InvalidPairsError: An item that the encoder cannot take, or an iterator of items.
            InvalidLatentsError: The encoder gives another width than the translator's source.
        """
        bar = bool(show_progress_bar) or progress
        return self._encode("encode", items, batch_size, bar, options)

    def encode_query(self, items: Any, **options: Any) -> Any:
        """As `encode`, with the prompt that the model has for queries."""
        return self._asked("encode_query", items, options)

    def encode_document(self, items: Any, **options: Any) -> Any:
        """As `encode`, with the prompt that the model has for documents, to add them.

        Raises:
            EncoderError: The collection is folded: items are folded with their bank, by
                `fold_items`.
        """
        if self.fold is not None:
            raise EncoderError(
                "the collection holds folded items: fold the vectors of new ones with fold_items "
                "and the bank of the migration, for encode folds queries"
            )
        return self._asked("encode_document", items, options)

    def _asked(self, method: str, items: Any, options: dict[str, Any]) -> Any:
        own = dict(options)
        bars = [bool(own.pop(name, False)) for name in ("show_progress_bar", "progress")]
        return self._encode(method, items, own.pop("batch_size", "auto"), any(bars), own)

    def _encode(
        self, method: str, items: Any, batch_size: BatchSize, bar: bool, options: dict[str, Any]
    ) -> Any:
        if refused := [name for name in _OTHER_VECTORS if options.get(name) is not None]:
            raise ValueError(
                f"{', '.join(refused)} would give other vectors than those that the translator was "
                "fitted on: leave it out"
            )
        own = dict(options)
        tensor = own.pop("convert_to_tensor", False) or not own.pop("convert_to_numpy", True)
        unit = own.pop("normalize_embeddings", False)
        own.pop("convert_to_numpy", None)
        given, single = as_items(items)
        latents = self._latents(method, given, batch_size, bar, own)
        vectors = self.carry(latents)
        if unit:
            vectors = unit_rows(vectors)
        if single:
            vectors = vectors[0]
        return vectors if tensor else vectors.float().cpu().numpy()

    def carry(self, latents: Tensor) -> Tensor:
        """Latents of the encoder, (n, d), as the collection is asked: translated and folded."""
        with torch.no_grad():
            if self.translator is not None:
                latents = self.translator.transform(latents)
            return latents if self.fold is None else fold_queries(latents, metric=self.fold)

    def _latents(
        self,
        method: str,
        items: Sequence[Any],
        batch_size: BatchSize,
        bar: bool,
        options: dict[str, Any],
    ) -> Tensor:
        encoder = self.encoder
        if isinstance(encoder, Encoder) or not hasattr(encoder, "encode"):
            if options:
                raise TypeError(f"{encoder!r:.60} takes no {', '.join(sorted(options))}")
            return encode(encoder, items, batch_size=batch_size, progress=bar)
        ask = getattr(encoder, method, encoder.encode)
        sized = {} if batch_size == "auto" else {"batch_size": batch_size}
        found = ask(items, show_progress_bar=bar, convert_to_tensor=True, **sized, **options)
        latents = as_tensor(found).detach()
        if latents.ndim != 2 or len(latents) != len(items):
            raise EncoderError(
                f"an encoder must give one row per item, ({len(items)}, d), got shape "
                f"{tuple(latents.shape)} from {encoder!r:.60}"
            )
        return latents

    def __repr__(self) -> str:
        folded = f", fold={self.fold!r}" if self.fold else ""
        return f"TranslatedEncoder({self.encoder!r}, {self.translator!r}{folded})"
