"""Tiny random but real encoders and a paired dataset, pushed to the embedded Hub once per run."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

WORDS = {
    "the": "der",
    "a": "ein",
    "one": "eins",
    "two": "zwei",
    "red": "rot",
    "green": "grün",
    "old": "alt",
    "new": "neu",
    "dog": "hund",
    "cat": "katze",
    "bird": "vogel",
    "house": "haus",
    "tree": "baum",
    "runs": "läuft",
    "sleeps": "schläft",
    "sings": "singt",
    "loudly": "laut",
    "today": "heute",
}
EN, DE = list(WORDS), list(WORDS.values())
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = (
    "the red dog runs",
    "a bird sings loudly today",
    "tree",
    "two old cats and one new dog sleep in the green house",
    "one cat sleeps",
    "the old bird runs to a new tree today and sings",
    "house",
)


def sentences(n: int, words: list[str], *, seed: int = 0) -> list[str]:
    """Random sentences of two to nine words; equal seeds pair EN with DE word by word."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 10, (n,), generator=draw).tolist()
    picks = [torch.randint(0, len(words), (length,), generator=draw) for length in lengths]
    return [" ".join(words[int(word)] for word in pick) for pick in picks]


def word_tokenizer() -> Any:
    """A WordPiece tokenizer that spells unknown words letter by letter."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [*SPECIAL, *dict.fromkeys([*EN, *DE, *letters, *(f"##{c}" for c in letters)])]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, strip_accents=False)


def varied_norms(model: Any) -> Any:
    """Random scales and shifts in the layer norms, as training gives them."""
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def bert_model(*, hidden: int = 16, seed: int = 0) -> Any:
    """A random BERT of two layers."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(word_tokenizer()),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return varied_norms(BertModel(config))


@functools.cache
def bert_folder(*, hidden: int = 16, seed: int = 0) -> Path:
    """A folder with the model and its tokenizer, as `save_pretrained` writes them."""
    folder = Path(new_folder())
    bert_model(hidden=hidden, seed=seed).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@functools.cache
def bert_repo(*, hidden: int = 16, seed: int = 0) -> str:
    """A plain transformers repo of a BERT encoder; returns its id."""
    return push_folder(bert_folder(hidden=hidden, seed=seed), f"alice/tiny-bert-{hidden}-{seed}")


@functools.cache
def sentence_folder(*, normalize: bool = False, hidden: int = 16, seed: int = 0) -> Path:
    """A folder with a sentence-transformers model: BERT, mean pooling, perhaps a unit norm."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(str(bert_folder(hidden=hidden, seed=seed)), max_seq_length=24)
    modules = [transformer, Pooling(hidden, pooling_mode="mean")]
    folder = new_folder()
    model = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])])
    model.save(folder)
    return Path(folder)


@functools.cache
def sentence_repo(*, normalize: bool = False, hidden: int = 16, seed: int = 0) -> str:
    """The same as a sentence-transformers repo; returns its id."""
    name = f"alice/tiny-sbert-{hidden}-{seed}" + ("-unit" if normalize else "")
    return push_folder(sentence_folder(normalize=normalize, hidden=hidden, seed=seed), name)


@functools.cache
def gpt2_folder(*, hidden: int = 12, seed: int = 0) -> Path:
    """A folder with a decoder whose tokenizer has an end but no padding token."""
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    inner = word_tokenizer().backend_tokenizer
    inner.post_processor = None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", eos_token="[SEP]", model_max_length=32
    )
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=32,
        n_embd=hidden,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = Path(new_folder())
    varied_norms(GPT2Model(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def gpt2_repo(*, hidden: int = 12, seed: int = 0) -> str:
    """A decoder-only repo for last-token pooling; returns its id."""
    return push_folder(gpt2_folder(hidden=hidden, seed=seed), f"alice/tiny-gpt2-{hidden}-{seed}")


def text_dataset() -> Any:
    """Sentences with columns text, de and label; 200 in train, 60 in test."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features(
        {"text": Value("string"), "de": Value("string"), "label": ClassLabel(names=["cat", "dog"])}
    )
    splits = {}
    for seed, (split, n) in enumerate((("train", 200), ("test", 60))):
        rows = {"text": sentences(n, EN, seed=seed), "de": sentences(n, DE, seed=seed)}
        rows["label"] = [number % 2 for number in range(n)]
        splits[split] = Dataset.from_dict(rows, features=features)
    return DatasetDict(splits)


@functools.cache
def text_dataset_repo() -> str:
    """`text_dataset` as a Hub dataset; returns its id."""
    from datasets import disable_progress_bars

    disable_progress_bars()
    text_dataset().push_to_hub("alice/tiny-texts", token="hf_alice")
    return "alice/tiny-texts"


def push_folder(folder: str | Path, repo_id: str, **options: Any) -> str:
    """Pushes a folder as a model repo of alice; returns the repo id."""
    from huggingface_hub import HfApi

    api = HfApi(token="hf_alice")
    api.create_repo(repo_id, exist_ok=True, **options)
    api.upload_folder(repo_id=repo_id, folder_path=folder)
    return repo_id


def commit_of(repo_id: str, repo_type: str = "model") -> str:
    """The newest commit of a repo."""
    from huggingface_hub import HfApi

    return str(HfApi(token="hf_alice").repo_info(repo_id, repo_type=repo_type).sha)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def new_folder() -> str:
    """A folder that lasts as long as the test run."""
    _folders.append(tempfile.TemporaryDirectory(prefix="tiny-model-"))
    return _folders[-1].name
