"""Both halves of a classification model on the Hub: its encoder, and its head as a decoder."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_latent_bridge import hub
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.split import split_model
from hf_latent_bridge.encoders.base import check_texts
from hf_latent_bridge.encoders.loading import check_vocabulary, quiet_load, token_limit
from hf_latent_bridge.errors import DecoderError, LatentBridgeError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POOLING = "classifier"
_SUFFIXES = {"ForSequenceClassification": "text", "ForImageClassification": "image"}


class ClassifierEncoder:
    """The encoder half of a classification model: its latents are what its own head reads.

    Attributes:
        model: The transformers model, with an identity in place of its head.
        space: The space of its latents; its pooling is "classifier", the model's own.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        prepare: Callable[[Sequence[Any]], Any],
        space: SpaceSpec,
        *,
        batches: bool = True,
    ) -> None:
        self.model = model
        self.space = space
        self._prepare = prepare
        self._batches = batches

    @torch.inference_mode()
    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts or images, in input order.

        Raises:
            InvalidPairsError: Not a list of texts, from a text classifier.
        """
        from tqdm.auto import trange

        if self.space.modality == "text":
            items = check_texts(items)
        step = batch_size if self._batches else 1  # nothing to pad with
        parts = [torch.empty(0, self.space.dim, device=self.model.device, dtype=self.model.dtype)]
        for start in trange(0, len(items), step, disable=not progress, desc="encode"):
            inputs = self._prepare(items[start : start + step]).to(self.model.device)
            parts.append(self.model(**inputs).logits)
        return torch.cat(parts)


class Split(NamedTuple):
    """Both halves of a classification model; `head(encoder.encode(items))` is what it answers.

    Attributes:
        encoder: From items to latents.
        head: From latents to labels.
    """

    encoder: ClassifierEncoder
    head: Head


def split_classifier(
    repo_or_folder: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Split:
    """Splits a transformers sequence or image classifier into encoder and head.

    The split is proven on a dry run: the head gives the model's own logits for the latents.

    Args:
        repo_or_folder: Repo id or folder.
        revision: Branch, tag or commit; resolved to a commit once, which `space` records.
        token: Hub token; None for the one that is logged in.
        device: Where to run; None for a GPU if there is one.
        dtype: Floating dtype of the model; None for the saved one.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.

    Raises:
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: No classifier, one without a single linear head, or with random weights.
    """
    name = str(repo_or_folder)
    local = Path(repo_or_folder).is_dir()
    commit = None if local else hub.resolve_commit(name, revision=revision, token=token)
    common = {"revision": commit or "main", "token": token, "trust_remote_code": trust_remote_code}
    with _clear_errors(name), quiet_load(name):
        model, modality = _load_model(name, dtype, common)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        nn.Module.to(model, place)
        prepare, samples, batches = _PREPARERS[modality](name, model, common)
    inputs = prepare(samples if batches else samples[1:]).to(model.device)
    head = split_model(model, inputs)
    space = SpaceSpec(
        dim=head.in_features,
        repo_id=None if local else name,
        revision=commit,
        modality=modality,
        pooling=POOLING,
        normalize=False,
    )
    return Split(
        ClassifierEncoder(model, prepare, space, batches=batches), _head(model, head, space)
    )


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether a transformers `config.json` describes a sequence or image classifier."""
    return _modality(config.get("architectures")) is not None


def _modality(architectures: Any) -> str | None:
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return next((kind for suffix, kind in _SUFFIXES.items() if suffix in name), None)


def _load_model(
    name: str, dtype: torch.dtype | None, common: dict[str, Any]
) -> "tuple[PreTrainedModel, str]":
    import transformers

    config = transformers.AutoConfig.from_pretrained(name, **common)
    modality = _modality(config.architectures)
    if modality is None:
        raise DecoderError(
            f"{name!r} is no sequence or image classifier: its architecture is "
            f"{config.architectures}"
        )
    kind = "Sequence" if modality == "text" else "Image"
    loader = getattr(transformers, f"AutoModelFor{kind}Classification")
    model, info = loader.from_pretrained(
        name, dtype=dtype or "auto", output_loading_info=True, **common
    )
    if missing := sorted(info["missing_keys"]):
        raise DecoderError(
            f"{name!r} lacks weights of {type(model).__name__}, which would be random: "
            f"{', '.join(missing[:3])}"
        )
    return model, modality


def _prepare_texts(
    name: str, model: "PreTrainedModel", common: dict[str, Any]
) -> tuple[Callable[[Sequence[str]], Any], list[Any], bool]:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, **common)
    check_vocabulary(name, tokenizer)
    config = model.config.get_text_config()
    limit = token_limit(name, tokenizer, None, getattr(config, "max_position_embeddings", None))
    batches = None not in (tokenizer.pad_token_id, config.pad_token_id)

    def prepare(texts: Sequence[str]) -> Any:
        return tokenizer(
            list(texts),
            padding=batches,
            truncation=limit is not None,
            max_length=limit,
            return_tensors="pt",
        )

    return prepare, ["a", "one sentence, and another one"], batches


def _prepare_images(
    name: str, model: "PreTrainedModel", common: dict[str, Any]
) -> tuple[Callable[[Sequence[Any]], Any], list[Any], bool]:
    from PIL import Image
    from transformers import AutoImageProcessor

    load: Any = AutoImageProcessor.from_pretrained
    processor = load(name, **common)

    def prepare(images: Sequence[Any]) -> Any:
        return processor(list(images), return_tensors="pt").to(model.dtype)

    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 48, 64, 3), dtype=torch.uint8, generator=draw).numpy()
    return prepare, [Image.fromarray(image) for image in pixels], True


_PREPARERS = {"text": _prepare_texts, "image": _prepare_images}


def _head(model: "PreTrainedModel", linear: nn.Linear, space: SpaceSpec) -> Head:
    if linear.bias is None:
        linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
    names: Any = model.config.id2label
    labels = [str(names[number]) for number in range(linear.out_features)]
    problem_type = model.config.problem_type or "single_label_classification"
    head = Head(nn.Sequential(linear), labels, space, problem_type)
    if space.repo_id is not None and space.revision is not None:
        head.repo_id, head.commit = space.repo_id, space.revision
    return head


@contextlib.contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    try:
        yield
    except LatentBridgeError:
        raise
    except Exception as error:  # loaders raise anything, AssertionError and RuntimeError included
        raise DecoderError(f"no classifier could be loaded from {name!r}: {error}") from error
