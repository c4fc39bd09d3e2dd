"""Turns static token embeddings into sentence-transformers repos: a text is its tokens' mean."""

import json
import zipfile
from pathlib import Path

from assets.archives import TOKENLEARN, WORDLLAMA
from assets.download import fetch_wheels
from assets.repo_files import copy_card

LIBRARY = "sentence_transformers.models"


def build_wordllama(repo: Path) -> None:
    """Write the repo of WordLlama: 256 numbers for each token of Llama 2's vocabulary."""
    from safetensors.numpy import load, save_file

    fetch_wheels([WORDLLAMA])
    with zipfile.ZipFile(WORDLLAMA.path) as archive:
        weights = load(archive.read("wordllama/weights/l2_supercat_256.safetensors"))
        tokenizer = archive.read("wordllama/tokenizers/l2_supercat_tokenizer_config.json")
    table = weights["embedding.weight"].astype("float32")
    save_file({"embedding.weight": table}, repo / "model.safetensors", {"format": "pt"})
    (repo / "tokenizer.json").write_bytes(tokenizer)
    write_modules(repo, normalize=False)
    copy_card("wordllama", repo)


def build_tokenlearn(repo: Path) -> None:
    """Write the repo of the Tokenlearn model: tokens share 10,000 rows, and each has a weight."""
    from safetensors.numpy import load, save_file

    fetch_wheels([TOKENLEARN])
    with zipfile.ZipFile(TOKENLEARN.path) as archive:
        weights = load(archive.read("static_model/model/model.safetensors"))
        tokenizer = archive.read("static_model/model/tokenizer.json")
    rows = weights["embeddings"].astype("float32")[weights["mapping"]]
    table = rows * weights["weights"][:, None]
    save_file({"embedding.weight": table}, repo / "model.safetensors", {"format": "pt"})
    (repo / "tokenizer.json").write_bytes(tokenizer)
    write_modules(repo, normalize=True)
    copy_card("tokenlearn", repo)


def write_modules(repo: Path, *, normalize: bool) -> None:
    """Write `modules.json` for one table of embeddings, with or without a norm after the mean."""
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{LIBRARY}.StaticEmbedding"}]
    if normalize:
        path = "1_Normalize"
        modules.append({"idx": 1, "name": "1", "path": path, "type": f"{LIBRARY}.Normalize"})
    (repo / "modules.json").write_text(json.dumps(modules, indent=2), encoding="utf-8")
