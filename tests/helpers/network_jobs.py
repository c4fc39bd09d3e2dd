"""What is done with a Hub over a bad network, and what must hold afterwards: a list of jobs."""

import contextlib
import functools
import io
import itertools
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faulty_proxy import FAULTS, FaultyProxy, through
from huggingface_hub import HfApi, constants
from tiny_models import TEXTS, bert_folder, sentence_folder

from hf_latent_bridge import (
    AutoTranslator,
    OrthoTranslator,
    SpaceSpec,
    Translator,
    TranslatorInfo,
    cli,
    load_encoder,
    load_pairs,
    search_translators,
)
from hf_latent_bridge.errors import LatentBridgeError, RepoNotFoundError
from hf_latent_bridge.hub.published import push_results

TOKEN = "hf_alice"
PATIENCE = 60  # seconds after which a job counts as endless
SILENT = ("silence", "silence after acting", "drip")  # faults that a job waits for in vain
_numbers = itertools.count(1)


def fitted(seed: int = 0) -> Translator:
    """A translator from width 4 to width 3; each seed gives another map."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, 4), dtype=np.float32)
    y = x @ rng.standard_normal((4, 3), dtype=np.float32) + 1
    return OrthoTranslator().fit(x, y, source=SpaceSpec(4, modality="text"))


def same(a: Translator, b: Translator) -> bool:
    """Whether two translators have the same map, bit for bit."""
    return all(
        torch.equal(x.cpu(), y.cpu())
        for x, y in zip(a.map_.state_dict().values(), b.map_.state_dict().values(), strict=True)
    )


@dataclass
class Job:
    """One kind of work on the Hub.

    Attributes:
        prepare: Makes what the job needs, over a good network; its result goes to the others.
        run: The job, over the bad network.
        check: Raises AssertionError unless all is well afterwards, over a good network. Takes what
            `prepare` and `run` gave, the latter None if the job was refused.
    """

    prepare: Callable[[Path], Any]
    run: Callable[[Any], Any]
    check: Callable[[Any, Any], None]


JOBS: dict[str, Job] = {}


def _new_id() -> str:
    return f"alice/network-{next(_numbers)}"


def _pushed(folder: Path) -> tuple[str, Path]:
    repo_id = _new_id()
    fitted(1).push_to_hub(repo_id)
    return repo_id, folder / "cache"


@functools.cache
def _one_pushed() -> str:
    return _pushed(Path())[0]


def _new_cache(folder: Path) -> tuple[str, Path]:
    return _one_pushed(), folder / "cache"


def _load(where: tuple[str, Path]) -> Translator:
    return AutoTranslator.from_pretrained(where[0], cache_dir=where[1])


def _check_load(where: tuple[str, Path], loaded: Translator | None) -> None:
    assert loaded is None or same(loaded, fitted(1)), "a wrong map"
    assert same(_load(where), fitted(1)), "a poisoned cache"


JOBS["load"] = Job(_new_cache, _load, _check_load)


def _new_map(repo_id: str) -> Translator:
    """Another one for each repo, or its weights would be on the Hub already."""
    return fitted(int(repo_id.rpartition("-")[2]) + 10)


def _push(where: tuple[str, Path]) -> str:
    return _new_map(where[0]).push_to_hub(where[0]).oid


def _check_push(where: tuple[str, Path], commit: str | None, old: Translator | None) -> None:
    api, repo_id, new = HfApi(token=TOKEN), where[0], _new_map(where[0])
    there = api.repo_exists(repo_id)
    assert there or commit is None, "nothing where a commit was told"
    if there:
        assert "config.json" in api.list_repo_files(repo_id), "an empty repo is left"
        found = AutoTranslator.from_pretrained(repo_id, revision=commit)
        assert same(found, new) or (commit is None and old and same(found, old)), "wrong map"
        words = Path(api.hf_hub_download(repo_id, "README.md")).read_text()
        assert old is None or "My own words." in words, "lost words"
    new.push_to_hub(repo_id)
    assert same(AutoTranslator.from_pretrained(repo_id), new), "the next push fails"
    assert len(api.list_repo_commits(repo_id)) <= (4 if old else 2), "pushed twice"


JOBS["push to a new repo"] = Job(
    lambda folder: (_new_id(), folder),
    _push,
    lambda where, commit: _check_push(where, commit, None),
)


def _with_words(folder: Path) -> tuple[str, Path]:
    where = _pushed(folder)
    card = Path(HfApi(token=TOKEN).hf_hub_download(where[0], "README.md")).read_text()
    HfApi(token=TOKEN).upload_file(
        path_or_fileobj=f"{card}\nMy own words.\n".encode(),
        path_in_repo="README.md",
        repo_id=where[0],
    )
    return where


JOBS["push over an old one"] = Job(
    _with_words, _push, lambda where, commit: _check_push(where, commit, fitted(1))
)


def _with_commit(folder: Path) -> tuple[str, str]:
    repo_id, _ = _pushed(folder)
    return repo_id, str(HfApi(token=TOKEN).model_info(repo_id).sha)


def _push_results(where: tuple[str, str]) -> str:
    return push_results(where[0], {"r2": 0.5}, commit=where[1]).oid


def _check_results(where: tuple[str, str], commit: str | None) -> None:
    found = AutoTranslator.from_pretrained(where[0], revision=commit)
    assert same(found, fitted(1)), "a wrong map"
    assert found.metrics_ == {"r2": 0.5} or (commit is None and found.metrics_ == {}), "metrics"


JOBS["push results"] = Job(_with_commit, _push_results, _check_results)


def _info(where: tuple[str, Path]) -> None:
    told, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(error):
        code = cli.main(["info", where[0], "--force-download", "--json"])
    if code:
        raise LatentBridgeError(error.getvalue())
    assert json.loads(told.getvalue())["n_pairs"] == 50


JOBS["info"] = Job(_new_cache, _info, lambda where, _: _info(where))


@functools.cache
def _searched_for() -> str:
    """An encoder with four translators of one map, of which the Hub gives two in a page."""
    encoder = f"acme/encoder-{next(_numbers)}"
    for _ in range(4):
        translator = fitted(1)
        translator.source_ = SpaceSpec(4, modality="text", repo_id=encoder)
        translator.push_to_hub(_new_id())
    return encoder


def _check_search(encoder: str, found: list[TranslatorInfo] | None) -> None:
    """A list has no hash: if a bit of it is another one, a name or an encoder may be, too."""
    for one in found or ():
        with contextlib.suppress(RepoNotFoundError):
            assert same(AutoTranslator.from_pretrained(one.repo_id), fitted(1)), "a wrong map"
    assert found is None or 3 <= len(found) <= 4, "translators are left out"
    assert len(search_translators(encoder)) == 4, "a poisoned cache"


JOBS["search"] = Job(lambda _: _searched_for(), search_translators, _check_search)


@functools.cache
def _encoder(files: Callable[[], Path]) -> str:
    repo_id, api = _new_id(), HfApi(token=TOKEN)
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=files())
    return repo_id


def _latents(where: tuple[str, Path]) -> Any:
    return load_encoder(where[0], cache_dir=where[1], device="cpu").encode(TEXTS[:2])


def _encoder_job(files: Callable[[], Path]) -> Job:
    @functools.cache
    def expected() -> torch.Tensor:
        return torch.as_tensor(load_encoder(files(), device="cpu").encode(TEXTS[:2]))

    def check(where: tuple[str, Path], latents: Any) -> None:
        assert latents is None or torch.equal(latents, expected()), "wrong latents"
        assert torch.equal(_latents(where), expected()), "a poisoned cache"

    return Job(lambda folder: (_encoder(files), folder / "cache"), _latents, check)


JOBS["load an encoder (transformers)"] = _encoder_job(bert_folder)
JOBS["load an encoder (sentence-transformers)"] = _encoder_job(sentence_folder)


def _dataset(folder: Path) -> str:
    repo_id = _new_id()
    api = HfApi(token=TOKEN)
    api.create_repo(repo_id, repo_type="dataset")
    rows = "\n".join(json.dumps({"text": f"{repo_id} {number}"}) for number in range(30))
    api.upload_file(
        path_or_fileobj=rows.encode(),
        path_in_repo="train.jsonl",
        repo_id=repo_id,
        repo_type="dataset",
    )
    return repo_id


def _texts(repo_id: str) -> list[Any]:
    return list(load_pairs(repo_id, split="train", source="text").source)


def _check_texts(repo_id: str, texts: list[Any] | None) -> None:
    expected = [f"{repo_id} {number}" for number in range(30)]
    assert texts in (None, expected), "wrong pairs"
    assert _texts(repo_id) == expected, "a poisoned cache"


JOBS["load pairs"] = Job(_dataset, _texts, _check_texts)


@dataclass
class Tried:
    """What one fault at one request led to.

    Attributes:
        outcome: "done" or "refused".
        wrong: What must not be, such as "a wrong map"; empty where all is well.
        message: With which the job was refused.
        requests: How many the job made.
    """

    outcome: str
    wrong: str = ""
    message: str = ""
    requests: int = 0


def count(name: str, proxy: FaultyProxy) -> int:
    """How many requests a job makes over a good network."""
    job = JOBS[name]
    with tempfile.TemporaryDirectory() as folder:
        what = job.prepare(Path(folder))
        proxy.spoil()
        with through(proxy):
            job.run(what)
        return len(proxy.seen)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within the block, a Hub may be silent for four times so long."""
    usual = constants.HF_HUB_DOWNLOAD_TIMEOUT
    constants.HF_HUB_DOWNLOAD_TIMEOUT = seconds  # type: ignore[assignment]
    try:
        yield
    finally:
        constants.HF_HUB_DOWNLOAD_TIMEOUT = usual


def attempt(name: str, proxy: FaultyProxy, k: int, fault: str, times: int = 1) -> Tried:
    """Does a job while the proxy spoils its k-th request and the `times` - 1 after it."""
    job = JOBS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        what = job.prepare(Path(folder))
        proxy.spoil(k, FAULTS[fault], times)
        with through(proxy), patience(0.1 if fault in SILENT else 10):
            result, tried = _bounded(job, what)
        tried.requests = len(proxy.seen)
        proxy.spoil()
        tried.wrong = tried.wrong or _wrong(job, what, result, tried)
    return tried


def _bounded(job: Job, what: Any) -> tuple[Any, Tried]:
    """Runs a job in a thread of its own, for so long and no longer."""
    runs = ThreadPoolExecutor(1)
    try:
        return runs.submit(job.run, what).result(PATIENCE), Tried("done")
    except LatentBridgeError as error:
        message = "; ".join([str(error), *getattr(error, "__notes__", [])])
        return None, Tried("refused", message=message)
    except TimeoutError:
        return None, Tried("refused", wrong="an endless wait")
    except Exception as error:
        return None, Tried("refused", wrong=f"a foreign {type(error).__name__}: {error}")
    finally:
        runs.shutdown(wait=False)


def _wrong(job: Job, what: Any, result: Any, tried: Tried) -> str:
    repo_id = what if isinstance(what, str) else what[0]
    if tried.outcome == "refused" and repo_id not in tried.message:
        return f"an error without the repo: {tried.message}"
    if re.search("hf_(alice|bob|reader)", tried.message):
        return "a token in an error"
    try:
        job.check(what, result)
    except (AssertionError, LatentBridgeError) as error:
        named = "made for this push and could not be deleted" in tried.message
        if str(error) == "an empty repo is left" and named:
            return ""
        return str(error) or repr(error)
    return ""


def try_fault(name: str, proxy: FaultyProxy, fault: str, requests: int) -> dict[str, Any]:
    """What a fault at each request of a job led to."""
    tried = {k: attempt(name, proxy, k, fault) for k in range(1, requests + 1)}
    wrong = [f"{name}, {fault}, request {k}: {one.wrong}" for k, one in tried.items() if one.wrong]
    done = sum(one.outcome == "done" for one in tried.values())
    return {"job": name, "fault": fault, "requests": requests, "done": done, "wrong": wrong}


def main() -> None:
    """Tries jobs as each line of stdin says, `[name, faults]`.

    Prints the names of all jobs and faults; then a line of JSON for each fault, and an empty one
    when the job is done.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    pause = time.sleep
    time.sleep = lambda seconds: pause(min(seconds, 0.001))
    print(json.dumps([list(JOBS), list(FAULTS)]), flush=True)
    with FaultyProxy() as proxy:
        for name, faults in map(json.loads, sys.stdin):
            requests = count(name, proxy)
            for fault in faults:
                print(json.dumps(try_fault(name, proxy, fault, requests)), flush=True)
            print(flush=True)
    os._exit(0)  # threads may still wait for the proxy


if __name__ == "__main__":
    main()
