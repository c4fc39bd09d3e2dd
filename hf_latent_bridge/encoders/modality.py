"""What a modality is (text, images, ...), and the registry of those that can be encoded."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from hf_latent_bridge.encoders.batching import Batch, chunks
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.strict_load import LoadOptions
from hf_latent_bridge.errors import EncoderError, InvalidPairsError

Prepare = Callable[[list[Any]], Mapping[str, Any]]


class Modality(ABC):
    """A kind of items, and everything that the library does differently for it.

    To add one, subclass it in a file of its own and pass an instance to `register`: `load_encoder`,
    `CachedEncoder`, `load_pairs`, the command line and the Space read the registry.

    Attributes:
        name: As transformers names it in a model's `input_modalities`, such as "text".
        poolings: Values of `pooling` that its encoders take.
        main_inputs: Values of a transformers model's `main_input_name` that belong to it.
        files: Files that a repo of it may hold; asked for if transformers does not know the model.
        classifier: Auto class of its classifiers; None where classifiers cannot be split.
        tokenized: Whether items are split into tokens, which `max_length` limits.
        suffixes: Suffixes of the files that `read_file` reads, such as ".png".
    """

    name: ClassVar[str]
    poolings: ClassVar[tuple[str, ...]]
    main_inputs: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()
    classifier: ClassVar[str | None] = None
    tokenized: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, item: Any) -> bool:
        """Whether an item is plainly of this modality, so that no other is asked about it."""

    @abstractmethod
    def check(self, items: Sequence[Any]) -> list[Any]:
        """The items as a list; nothing is decoded yet.

        Raises:
            InvalidPairsError: A single item, or an item that cannot be encoded.
        """

    @abstractmethod
    def digest(self, item: Any) -> bytes:
        """16 bytes that tell the content of a decoded item from others'."""

    @abstractmethod
    def examples(self) -> list[Any]:
        """Two decoded items to try a model on."""

    @abstractmethod
    def preparer(self, options: LoadOptions, config: Any) -> Preparer:
        """Loads what turns items into a transformers model's inputs.

        Args:
            options: The arguments of `load_encoder`.
            config: The model's config.
        """

    @abstractmethod
    def load(self, options: LoadOptions) -> ModelEncoder:
        """Loads a transformers model of this modality alone."""

    def decode(self, item: Any, row: int) -> Any:
        """An item as `digest` and the model's preparer take it.

        Args:
            item: The item.
            row: Its position in its list, for the error.

        Raises:
            InvalidPairsError: It cannot be read.
        """
        return item

    def read_file(self, path: Path) -> list[Any]:
        """The items in a file, each with its whole content, so that the file may go.

        Raises:
            InvalidPairsError: The file's suffix is not among `suffixes`, or it cannot be read.
        """
        taken = ", ".join(self.suffixes) or "no file"
        raise InvalidPairsError(f"{path.name} is not read as {self.name}: needed {taken}")

    def size(self, item: Any, row: int = 0) -> int:
        """Roughly the bytes that an item takes in memory once it is decoded.

        Args:
            item: The item, decoded or not; no more than its header is read.
            row: Its position in its list, for the error.

        Raises:
            InvalidPairsError: It cannot be read.
        """
        return 1

    def flaw(self, item: Any) -> str | None:
        """Why an item is unusable, such as "is an empty text"; None if it is fine."""
        return None

    def batches(
        self, items: list[Any], prepare: Prepare, batch_size: int, device: torch.device
    ) -> Iterator[Batch]:
        """Positions of some items, and what `prepare` makes of them, until all have come.

        Raises:
            InvalidPairsError: An item that cannot be read; names its row.
            ValueError: `batch_size` is less than 1.
        """
        for part in chunks(len(items), batch_size):
            yield list(part), dict(prepare([self.decode(items[row], row) for row in part]))


MODALITIES: dict[str, Modality] = {}


def register(modality: Modality) -> Modality:
    """Enters a modality into the registry.

    Raises:
        ValueError: Another class has its name. One that is defined again takes its own place.
    """
    known = MODALITIES.get(modality.name, modality)
    if type(known).__qualname__ != type(modality).__qualname__:
        raise ValueError(f"modality {modality.name!r} is taken by {type(known).__qualname__}")
    if type(known) is not type(modality) or known is modality:
        MODALITIES[modality.name] = modality
    return MODALITIES[modality.name]


def find_modality(name: str) -> Modality:
    """The modality of that name.

    Raises:
        EncoderError: None is registered.
    """
    if name not in MODALITIES:
        raise EncoderError(
            f"no modality {name!r} is registered: this library knows {sorted(MODALITIES)}; "
            "import the file that registers it first"
        )
    return MODALITIES[name]


def modality_of_item(item: Any) -> Modality | None:
    """The modality that recognises an item; None if there is none."""
    return next((m for m in MODALITIES.values() if m.recognises(item)), None)


def choose_modality(options: LoadOptions, has: Collection[str]) -> Modality:
    """The modality that is asked for, or the only one that the model has.

    Args:
        options: The arguments of `load_encoder`.
        has: Names of what the model encodes.

    Raises:
        EncoderError: The model does not encode it; or it encodes several, and none is asked for.
        NoTokensError: Its items have no tokens, and `max_length` is given.
    """
    asked = options.modality
    if asked in has or (asked is None and len(has) == 1):
        modality = find_modality(asked or next(iter(has)))
        options.check_max_length(tokenized=modality.tokenized)
        return modality
    known = " and ".join(sorted(has)) or "nothing that this library knows"
    choices = " or ".join(f"modality={one!r}" for one in sorted(has, reverse=True))
    advice = (
        f"say which: pass {choices}"
        if asked is None
        else f"not {asked}: leave modality out, or name another repo"
    )
    raise EncoderError(f"{options.name!r} encodes {known}; {advice}")


def modalities_of(options: LoadOptions, config: Any) -> tuple[set[str], bool]:
    """Names of what a transformers model encodes, and whether it has a tower for each of them.

    Decided by the model's class, or for one that comes with the repo by the repo's files.
    """
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        names = {m.name for m in MODALITIES.values() if any(map(options.has_file, m.files))}
        return names, len(names) > 1
    model: Any = MODEL_MAPPING[type(config)]
    model = model[0] if isinstance(model, tuple) else model
    stated = _stated(model)
    towers = {name for name in stated | set(MODALITIES) if hasattr(model, f"get_{name}_features")}
    if len(towers) > 1:
        return towers & set(MODALITIES), True
    main = {m.name for m in MODALITIES.values() if model.main_input_name in m.main_inputs}
    return main or stated, False


def modality_of_classifier(architectures: Any) -> Modality | None:
    """The modality of the first architecture that a config states, if it is a classifier's."""
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    named = [m for m in MODALITIES.values() if m.classifier and _suffix(m.classifier) in name]
    if not named:
        return None
    import transformers

    model = getattr(transformers, name, None)
    if model is None:
        return named[0]
    # transformers calls some audio classifiers ...ForSequenceClassification
    others = (m for m in MODALITIES.values() if m.classifier)
    return next((m for m in (*named, *others) if _takes(model, m)), None)


def _takes(model: Any, modality: Modality) -> bool:
    """Whether a transformers model class states that it reads items of a modality."""
    return model.main_input_name in modality.main_inputs or modality.name in _stated(model)


def _stated(model: Any) -> set[str]:
    stated = model.input_modalities
    return {stated} if isinstance(stated, str) else set(stated)


def _suffix(auto_class: str) -> str:
    return auto_class.removeprefix("AutoModel")
