"""Turns items into latents: text encoders from the Hub, and any callable of the user's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from hf_latent_bridge import hub
from hf_latent_bridge.errors import EncoderError, InvalidPairsError, SpaceMismatchError
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["mean", "cls", "last"]
_POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last")


@runtime_checkable
class Encoder(Protocol):
    """Anything that encodes items and says into which space."""

    @property
    def space(self) -> SpaceSpec:
        """The space of the latents."""

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents of the items, (n, d), in their order."""


EncoderLike = Encoder | Callable[[Sequence[Any]], Latents]


def encode(
    encoder: EncoderLike, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
) -> Tensor:
    """Latents (n, d) from an `Encoder`, or from a callable that takes a list of items.

    Raises:
        EncoderError: What came back is not one row per item.
    """
    if isinstance(encoder, Encoder):
        latents = encoder.encode(items, batch_size=batch_size, progress=progress)
    else:
        latents = as_tensor(encoder(items))
    if latents.ndim != 2 or len(latents) != len(items):
        raise EncoderError(
            f"an encoder must give one row per item, ({len(items)}, d), "
            f"got shape {tuple(latents.shape)} from {encoder!r}"
        )
    return latents


def space_of(encoder: EncoderLike, dim: int) -> SpaceSpec:
    """The encoder's space; for a plain callable only the width is known."""
    return encoder.space if isinstance(encoder, Encoder) else SpaceSpec(dim)


def load_encoder(
    repo_or_folder: str | Path | SpaceSpec,
    *,
    revision: str | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> "SentenceTransformerEncoder | TransformerEncoder":
    """Loads a text encoder from the Hub or a folder, or the very one that a `SpaceSpec` names.

    A repo with `modules.json` is loaded through sentence-transformers and keeps its own pooling;
    any other, or any with `pooling` given, through `AutoModel` and `AutoTokenizer`.

    Args:
        repo_or_folder: Repo id, folder, or a space such as `translator.source_`, which brings its
            own commit, pooling, norm and length.
        revision: Branch, tag or commit; resolved to a commit once, which `space` records.
        pooling: "mean" (over real tokens), "cls" (first token) or "last" (last real token); None
            for the repo's own, or "mean" where it has none.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut inputs at this many tokens; None for the model's own limit.
        device: Where to run; None for a GPU if there is one.
        dtype: Floating dtype of the model; None for the saved one.
        token: Hub token; None for the one that is logged in.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.

    Raises:
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        EncoderError: The repo holds no usable text encoder.
    """
    if isinstance(repo_or_folder, SpaceSpec):
        return _load_space(
            repo_or_folder,
            device=device,
            dtype=dtype,
            token=token,
            trust_remote_code=trust_remote_code,
        )
    if pooling is not None and pooling not in _POOLINGS:
        raise ValueError(f"pooling must be one of {_POOLINGS} or None, got {pooling!r}")
    local = Path(repo_or_folder).is_dir()
    name = str(repo_or_folder)
    commit = None if local else hub.resolve_commit(name, revision=revision, token=token)
    if pooling is None and hub.has_file(name, "modules.json", revision=commit, token=token):
        loader: type[SentenceTransformerEncoder] | type[TransformerEncoder]
        loader = SentenceTransformerEncoder
    else:
        loader = TransformerEncoder
    try:
        return loader._load(
            name,
            commit,
            pooling=pooling or "mean",
            normalize=normalize,
            max_length=max_length,
            device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
            dtype=dtype,
            token=token,
            trust_remote_code=trust_remote_code,
        )
    except EncoderError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EncoderError(f"{name!r} holds no usable text encoder: {error}") from error


def _load_space(space: SpaceSpec, **options: Any) -> "SentenceTransformerEncoder | TransformerEncoder":
    if space.repo_id is None:
        raise EncoderError(f"the space names no repo to load an encoder from: {space}")
    options |= {
        "revision": space.revision,
        "normalize": space.normalize or None,
        "max_length": space.max_length,
    }
    encoder = load_encoder(space.repo_id, **options)
    if encoder.space.pooling != space.pooling and space.pooling in _POOLINGS:
        encoder = load_encoder(space.repo_id, pooling=space.pooling, **options)
    mismatches = space.mismatches(encoder.space)
    if mismatches:
        raise SpaceMismatchError(f"{space.repo_id!r} does not give {space}: {'; '.join(mismatches)}")
    return encoder


class SentenceTransformerEncoder:
    """A sentence-transformers model as an encoder.

    Attributes:
        space: The space of its latents.
        model: The sentence-transformers model.
    """

    def __init__(self, model: "SentenceTransformer", space: SpaceSpec) -> None:
        self.model = model
        self.space = space

    @classmethod
    def _load(
        cls,
        name: str,
        commit: str | None,
        *,
        pooling: Pooling,
        normalize: bool | None,
        max_length: int | None,
        device: torch.device,
        dtype: torch.dtype | None,
        token: str | bool | None,
        trust_remote_code: bool,
    ) -> "SentenceTransformerEncoder":
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, Pooling

        model = SentenceTransformer(
            name,
            revision=commit,
            device=str(device),
            token=token,
            trust_remote_code=trust_remote_code,
            model_kwargs={} if dtype is None else {"dtype": dtype},
        )
        modules = list(model)
        normalizes = any(isinstance(m, Normalize) for m in modules)
        if normalizes and normalize is False:
            raise EncoderError(
                f"{name!r} normalises its latents itself: pass pooling='mean' (or what it uses) "
                "to load it without its own modules, or leave normalize=None"
            )
        if normalize and not normalizes:
            model.append(Normalize())
        if max_length is not None:
            model.max_seq_length = max_length
        poolings = [m.pooling_mode for m in modules if isinstance(m, Pooling)]
        space = SpaceSpec(
            dim=int(model.get_embedding_dimension() or 0),
            repo_id=None if commit is None else name,
            revision=commit,
            modality="text",
            pooling="+".join(poolings) or None,
            normalize=bool(normalizes or normalize),
            max_length=model.max_seq_length,
        )
        return cls(model, space)

    def encode(
        self, items: Sequence[str], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts, in input order.

        Raises:
            InvalidPairsError: Not a list of strings.
        """
        texts = _check_texts(items)
        if not texts:
            return torch.empty(0, self.space.dim)
        latents = self.model.encode(
            texts, batch_size=batch_size, show_progress_bar=progress, convert_to_tensor=True
        )
        # Tensors made in inference mode cannot take part in autograd; a clone can.
        return latents.clone()


class TransformerEncoder:
    """A transformers model with token pooling as an encoder.

    Attributes:
        space: The space of its latents.
        model: The transformers model.
        tokenizer: Its tokenizer.
    """

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", space: SpaceSpec
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.space = space

    @classmethod
    def _load(
        cls,
        name: str,
        commit: str | None,
        *,
        pooling: Pooling,
        normalize: bool | None,
        max_length: int | None,
        device: torch.device,
        dtype: torch.dtype | None,
        token: str | bool | None,
        trust_remote_code: bool,
    ) -> "TransformerEncoder":
        from transformers import AutoModel, AutoTokenizer

        common = {"revision": commit or "main", "token": token, "trust_remote_code": trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(name, **common)
        model, info = AutoModel.from_pretrained(
            name, dtype=dtype or "auto", output_loading_info=True, **common
        )
        random = sorted(key for key in info["missing_keys"] if "pooler" not in key)
        if random:
            raise EncoderError(
                f"{name!r} lacks weights of {type(model).__name__}, which would be random: "
                f"{random[:3]} and {max(len(random) - 3, 0)} more"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
        space = SpaceSpec(
            dim=model.config.hidden_size,
            repo_id=None if commit is None else name,
            revision=commit,
            modality="text",
            pooling=pooling,
            normalize=bool(normalize),
            max_length=max_length or min(limit for limit in limits if limit),
        )
        return cls(model.to(device).eval(), tokenizer, space)

    def encode(
        self, items: Sequence[str], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts, in input order; batches hold texts of like length.

        Raises:
            InvalidPairsError: Not a list of strings.
        """
        from tqdm.auto import trange

        texts = _check_texts(items)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        parts = [torch.empty(0, self.space.dim, device=self.model.device, dtype=self.model.dtype)]
        for start in trange(0, len(texts), batch_size, disable=not progress, desc="encode"):
            parts.append(self._encode_batch([texts[i] for i in order[start : start + batch_size]]))
        latents = torch.cat(parts)
        return torch.empty_like(latents).index_copy_(
            0, torch.tensor(order, dtype=torch.long, device=latents.device), latents
        )

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.space.max_length,
            return_tensors="pt",
        ).to(self.model.device)
        states = self.model(**tokens).last_hidden_state
        latents = pool(states, tokens["attention_mask"], self.space.pooling or "mean")
        return torch.nn.functional.normalize(latents, dim=1) if self.space.normalize else latents


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector per text from its token states, whichever side is padded.

    Args:
        states: (n, tokens, d).
        mask: (n, tokens), 1 for real tokens.
        pooling: "mean", "cls" or "last".
    """
    if pooling == "mean":
        weights = mask[:, :, None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(mask.shape[1], device=mask.device) * mask
    first_real = mask.argmax(1)
    chosen = first_real if pooling == "cls" else positions.argmax(1)
    return states[torch.arange(len(states), device=states.device), chosen]


def _check_texts(items: Sequence[str]) -> list[str]:
    if isinstance(items, str):
        raise InvalidPairsError("encode takes a list of texts, got one text: wrap it in a list")
    texts = list(items)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidPairsError(f"item {row} must be a text, got {type(text).__name__}")
    return texts
