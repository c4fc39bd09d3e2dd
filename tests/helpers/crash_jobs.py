"""The jobs that write files: a new one is entered here, and tried like the others."""

import contextlib
import functools
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import faiss
import huggingface_hub
import numpy as np
import torch
from crashes import PATIENCE, REQUEST, Job, nothing
from store_places import content, filled

from hf_latent_bridge import (
    AutoTranslator,
    CachedEncoder,
    Head,
    KernelTranslator,
    LatentIndex,
    LinearTranslator,
    SharedSpace,
    SpaceSpec,
    fit_shared_space,
    fit_translator,
    load_moments,
    load_pairs,
    migrate,
    migrate_gradually,
    re_encode,
    save_moments,
    serve_queries,
    stitch,
    translate_file,
)
from hf_latent_bridge.atomic import writing
from hf_latent_bridge.errors import InvalidLatentsError, RepoNotFoundError, StoreError
from hf_latent_bridge.files import check_kind
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.published import save_results
from hf_latent_bridge.stitching import FIELDS, KIND
from hf_latent_bridge.translation.serving import Serving
from hf_latent_bridge.vectors.formats import FORMATS, open_vectors
from hf_latent_bridge.vectors.reader import file_stamp
from hf_latent_bridge.vectors.stores.base import Collection, Records
from hf_latent_bridge.vectors.stores.registry import STORES, register

JOBS: dict[str, Job] = {}
OLD = 9  # the variant that is there before
ROWS = 60


def job(name: str, promise: str, **options: Any) -> Callable[[type], type]:
    """Enters a class with `start`, `run`, `read` and perhaps `ready` into the registry."""

    def enter(cls: type) -> type:
        names = ("start", "run", "read", "ready")
        parts = {part: getattr(cls, part) for part in names if hasattr(cls, part)}
        JOBS[name] = Job(name, promise, **parts, **options)
        return cls

    return enter


def rows(variant: int, n: int = ROWS, dim: int = 4) -> np.ndarray:
    return np.random.default_rng(variant).normal(size=(n, dim)).astype(np.float32)


def fitted(variant: int) -> LinearTranslator:
    x = rows(variant)
    return LinearTranslator().fit(x, x @ rows(variant + 100, 4, 3))


def views(variant: int) -> dict[str, np.ndarray]:
    """What three encoders make of the same items."""
    x, noise = rows(variant), rows(variant + 1)
    return {"a": x + noise / 9, "b": x @ rows(3, 4, 4), "c": x[:, ::-1] + noise / 5}


@functools.cache
def shared(variant: int) -> SharedSpace:
    return SharedSpace(dim=3, alpha=0.1).fit(views(variant))


def digest(*parts: Any) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(
            part.numpy().tobytes() if isinstance(part, torch.Tensor) else repr(part).encode()
        )
    return total.hexdigest()


def translator_in(folder: Path, **options: Any) -> str | None:
    try:
        found = AutoTranslator.from_pretrained(folder, device="cpu", **options)
    except RepoNotFoundError:
        return None
    facts = found.n_pairs_, found.metrics_, found.source_, found.target_, found.dataset_
    return digest(found.map_.weight, found.map_.bias, *facts)


_FOLDER = "the old files or the new ones, also for readers meanwhile"
_READ = ("*.json", "*.jsonl", "*.safetensors")  # of a saved folder; its card is for people


@job("save into a new folder", _FOLDER, own=_READ)
class SaveNew:
    start = nothing

    def run(folder, variant):
        fitted(variant).save_pretrained(folder / "map")

    def read(folder):
        return translator_in(folder / "map") if (folder / "map").exists() else None


@job("save over an old one: a translator", _FOLDER, own=_READ)
class SaveOver(SaveNew):
    def start(folder):
        fitted(OLD).save_pretrained(folder / "map")


@job("evaluate --save", "the old results or the new ones, beside the same map", own=_READ)
class SaveResults(SaveOver):
    def run(folder, variant):
        save_results(folder / "map", {"translated": {"cosine": variant / 10}, "n_pairs": 7})


@job("save over an old one: a shared space", _FOLDER, own=_READ)
class SaveShared:
    def start(folder):
        SaveShared.run(folder, OLD)

    def run(folder, variant):
        shared(variant).save_pretrained(folder / "space")

    def read(folder):
        space = SharedSpace.from_pretrained(folder / "space", device="cpu")
        return digest(*(view.map_.weight for view in space.views_.values()), space.n_pairs_)


@job("save over an old one: a head", _FOLDER, own=_READ)
class SaveHead:
    def start(folder):
        SaveHead.run(folder, OLD)

    def run(folder, variant):
        layer = torch.nn.Linear(4, 2)
        layer.weight.data = torch.from_numpy(rows(variant, 2, 4))
        layer.bias.data.zero_()
        head = Head(torch.nn.Sequential(layer), ["a", "b"], SpaceSpec(4))
        head.save_pretrained(folder / "head")

    def read(folder):
        head = Head.from_pretrained(folder / "head", device="cpu")
        return digest(head(torch.from_numpy(rows(1))), head.labels, head.space)


@job("save over an old one: an index", _FOLDER, own=_READ)
class SaveIndex:
    def start(folder):
        SaveIndex.run(folder, OLD)

    def run(folder, variant):
        items = [f"{variant} {row}" for row in range(ROWS)]
        LatentIndex(rows(variant), items, SpaceSpec(4)).save_pretrained(folder / "index")

    def read(folder):
        index = LatentIndex.from_pretrained(folder / "index", device="cpu")
        return digest(index.vectors, index.items, index.metric, index.space)


@job("save over an old one: an index with a bank of queries", _FOLDER, own=_READ)
class SaveIndexWithBank(SaveIndex):
    def start(folder):
        SaveIndexWithBank.run(folder, OLD)

    def run(folder, variant):
        options = {"hubness": "csls", "bank": rows(variant + 1), "n_neighbors": 3}
        LatentIndex(rows(variant), list(range(ROWS)), SpaceSpec(4), **options).save_pretrained(
            folder / "index"
        )

    def read(folder):
        index = LatentIndex.from_pretrained(folder / "index", device="cpu")
        return digest(index.vectors, index.items, index.bank, index(rows(3)))


@job("save over an old one: a kernel translator with its bank", _FOLDER, own=_READ)
class SaveKernel:
    def start(folder):
        SaveKernel.run(folder, OLD)

    def run(folder, variant):
        x = rows(variant)
        translator = KernelTranslator(n_landmarks=5).fit(x, x @ rows(variant + 100, 4, 3))
        translator.keep_bank(x, size=9).save_pretrained(folder / "map")

    def read(folder):
        translator = AutoTranslator.from_pretrained(folder / "map", device="cpu")
        return digest(translator.transform(rows(3)), translator.query_bank_)


@job("save over an old one: a stitched model", _FOLDER, own=_READ)
class SaveStitched:
    def start(folder):
        SaveStitched.run(folder, OLD)

    def run(folder, variant):
        encoder = Counted()
        translator = fitted(1)
        translator._came_from("me/map", f"{variant}" * 40)
        head = Head(torch.nn.Sequential(torch.nn.Linear(3, 2)), ["a", "b"], SpaceSpec(3))
        head._came_from("me/head", f"{variant}" * 40)
        stitch(encoder, translator, head).save_pretrained(folder / "model")

    def read(folder):
        fetched = client.fetch(folder / "model", ("config.json",))
        check_kind(fetched.config, *KIND, FIELDS, where="config.json")
        return fetched.config


@job("save_moments over an old file", "the old moments or the new ones")
class SaveMoments:
    def start(folder):
        SaveMoments.run(folder, OLD)

    def run(folder, variant):
        save_moments(fitted(variant).moments_, folder / "moments.safetensors")

    def read(folder):
        moments = load_moments(folder / "moments.safetensors")
        return digest(*moments.to_tensors().values(), moments.n, moments.eps)


@job(
    "fit with checkpoints, and save",
    "goes on where it was killed; the map is that of a whole run, bit by bit",
    refuses=True,
    own=("/map/*.json", "/map/*.safetensors"),
)
class Fit:
    def start(folder):
        for variant in (1, 2):
            np.save(folder / f"x{variant}.npy", rows(variant))
            np.save(folder / f"y{variant}.npy", rows(variant) @ rows(5, 4, 3))
        fitted(OLD).save_pretrained(folder / "map")

    def run(folder, variant):
        paths = tuple(str(folder / f"{side}{variant}.npy") for side in "xy")
        translator = fit_translator(
            LinearTranslator(),
            None,
            None,
            load_pairs(paths),
            chunk_size=10,
            on_bad_row="skip",
            bad_rows_file=folder / "bad.jsonl",
            checkpoint_dir=folder / "checkpoint",
            checkpoint_every=20,
        )
        translator.save_pretrained(folder / "map")

    def read(folder):
        return translator_in(folder / "map")


@job(
    "fit a shared space with checkpoints, and save",
    "goes on where it was killed; the space is that of a whole run, bit by bit",
    refuses=True,
    own=("/space/*.json", "/space/*.safetensors"),
)
class FitShared:
    def start(folder):
        SaveShared.run(folder, OLD)

    def run(folder, variant):
        space = fit_shared_space(
            dict.fromkeys("abc"),
            views(variant),
            dim=3,
            alpha=0.1,
            chunk_size=10,
            checkpoint_dir=folder / "checkpoint",
            checkpoint_every=20,
        )
        space.save_pretrained(folder / "space")

    def read(folder):
        return SaveShared.read(folder)


class Counted:
    """An encoder of a known commit: four numbers that a text's hash gives."""

    space = SpaceSpec(4, repo_id="me/encoder", revision="a" * 40, modality="text")
    dtype = torch.float32

    def encode(self, items, *, batch_size=32, progress=False):
        hashes = [hashlib.sha256(item.encode()).digest()[:4] for item in items]
        return torch.tensor([list(each) for each in hashes], dtype=torch.float32)


@job(
    "the cache of latents",
    "may fail, and the work goes on with one warning; it never gives a wrong row",
    same=False,
    goes_on=True,
)
class Cache:
    def start(folder):
        Cache.run(folder, OLD)

    def run(folder, variant):
        import warnings

        warnings.simplefilter("ignore")
        texts = [f"{variant} {row % 40}" for row in range(ROWS)] + ["common"]
        got = CachedEncoder(Counted(), folder / "cache").encode(texts)
        if not torch.equal(got, Counted().encode(texts)):
            raise RuntimeError("the cache gave wrong latents")

    def read(folder):
        Cache.run(folder, OLD)
        Cache.run(folder, 1)
        return "right"


def _translate(suffix: str, how: str) -> None:
    class Translate:
        def start(folder):
            np.save(folder / "in.npy", rows(0))
            np.save(folder / "ids.npy", np.arange(ROWS))
            translate_file(fitted(OLD), folder / "in.npy", folder / f"out{suffix}")

        def run(folder, variant):
            options = {"chunk_size": 10, "checkpoint_every": 20}
            output = folder / f"out{suffix}"
            translate_file(fitted(variant), folder / "in.npy", output, **options)

        def read(folder):
            """Which translator's rows these are; the manifest must be about it, or be missing."""
            while True:
                stamp = file_stamp(folder / f"out{suffix}")
                try:
                    return Translate.found(folder)
                except (RuntimeError, InvalidLatentsError):
                    if file_stamp(folder / f"out{suffix}") == stamp:
                        raise  # or else the file was replaced before the manifest was read

        def found(folder):
            reader = open_vectors(folder / f"out{suffix}")
            found = np.concatenate([block.vectors for block in reader.blocks()])
            for variant in (OLD, 1, 2):
                expected = fitted(variant).transform(rows(0))
                if found.shape == expected.shape and np.allclose(found, expected, atol=5e-3):
                    break
            else:
                raise RuntimeError(f"rows of no translator: {found[:2]}")
            manifest = folder / f"out{suffix}.manifest.json"
            with contextlib.suppress(FileNotFoundError):  # for a moment there is none
                if _weights_of(variant) not in manifest.read_text():
                    raise RuntimeError(f"rows of {variant}, and the manifest of another")
            return variant

    promise = "the old file or the new one, with its own manifest; an earlier run is gone on with"
    job(f"{how}: {suffix}", promise, refuses=True, own=())(Translate)


def _weights_of(variant: int) -> str:
    from hf_latent_bridge.translation.job import describe_translator

    return str(describe_translator(fitted(variant))["weights_sha256"])


for known in FORMATS.values():
    of_writers = {id(w): (suffix, w) for suffix, w in reversed(known.writers.items())}
    for suffix, writer in reversed(of_writers.values()):  # once for each of them
        _translate(
            suffix, "translate, rows in place" if writer.header else "translate, put together"
        )


_PUSH = "one commit or none; the repo and this machine's cache hold the old map or the new one"


@job("push to a new repo", _PUSH, same=False, refuses=True, unfinished=())
class Push:
    """Each run has a repo of its own, for a folder that is made anew does not empty the Hub."""

    def start(folder):
        (folder / "mark").touch()

    def run(folder, variant):
        Push.cached(folder)
        with _counted_requests(folder):
            fitted(variant).push_to_hub(Push.name(folder), token="hf_alice")

    def read(folder):
        Push.cached(folder)
        return translator_in(Push.name(folder), cache_dir=folder / "hub", token="hf_alice")

    def name(folder):
        return f"alice/pushed-{(folder / 'mark').stat().st_ctime_ns}"  # when it was copied

    def cached(folder):
        import huggingface_hub.constants

        huggingface_hub.constants.HF_HUB_CACHE = str(folder / "hub")


@job("push over an old one", _PUSH, same=False, refuses=True, unfinished=())
class PushOver(Push):
    def ready(folder):
        Push.run(folder, OLD)


@contextlib.contextmanager
def _counted_requests(folder: Path) -> Iterator[None]:
    """Within the block, each request to the Hub is an event, and each answer."""
    hooks = huggingface_hub.get_session().event_hooks
    before = {kind: list(hooks[kind]) for kind in hooks}
    for kind in hooks:
        hooks[kind].append(lambda _: sys.audit(REQUEST, str(folder)))
    try:
        yield
    finally:
        hooks.update(before)


def _migrate(scheme: str) -> None:
    """A store whose requests count as events, as the changes of files do."""

    class Migrate:
        def start(folder):
            Migrate.watched()
            payloads = [{"text": f"item {row}"} for row in range(ROWS)]
            filled(Migrate.url(folder), Records(list(range(ROWS)), rows(0), payloads))

        def run(folder, variant):
            Migrate.watched()
            url = Migrate.url(folder)
            places = {"state_dir": folder / "state", "serve_dir": folder / "serve"}
            migrate(fitted(variant), url, f"{url}-new", batch_size=20, **places)

        def read(folder, translator=fitted):
            """Which translator's rows are served; the old rows must be there as they were."""
            Migrate.watched()
            end = time.monotonic() + PATIENCE
            while True:  # a folder of Qdrant can be open in one process at a time
                try:
                    return Migrate.served(folder, translator)
                except StoreError as error:
                    if "already accessed" not in str(error) or time.monotonic() > end:
                        raise
                time.sleep(0.01)

        def served(folder, translator):
            old = content(Migrate.url(folder))
            vectors = np.stack([old[row][0] for row in range(ROWS)])
            if not np.allclose(_unit(vectors), _unit(rows(0)), atol=1e-5):
                raise RuntimeError("the old vectors are not as they were")
            if not (folder / "serve" / "config.json").exists():
                return None
            found = content(Serving.load(folder / "serve").url)
            for variant in (1, 2):
                wanted = translator(variant).transform(rows(0))
                got = np.stack([found[row][0] for row in range(ROWS)])
                if len(found) == ROWS and np.allclose(_unit(got), _unit(wanted), atol=1e-5):
                    return variant
            raise RuntimeError(f"{len(found)} rows of no translator")

        def url(folder):
            return f"watched-{scheme}:{folder}/store/docs"

        def watched():
            known = STORES[scheme]
            if (name := f"watched-{scheme}") not in STORES:
                register(replace(known, scheme=name, collection=_watched(known.collection)))

    class Gradual(Migrate):
        def run(folder, variant):
            Migrate.watched()
            url = Migrate.url(folder)
            places = {"state_dir": folder / "state", "serve_dir": folder / "serve"}
            migrate_gradually(shared(variant), url, f"{url}-new", view="a", batch_size=20, **places)

        def read(folder):
            return Migrate.read(folder, lambda variant: shared(variant).translator("a"))

    class EncodeAgain(Gradual):
        """In any order, and any part of it: each row is by the encoder that it names."""

        def start(folder):
            Gradual.start(folder)
            Gradual.run(folder, 1)

        def run(folder, variant):
            Migrate.watched()
            texts = {f"item {row}": row for row in range(ROWS)}

            def encode(items):
                return views(1)["b"][[texts[item] for item in items]]

            re_encode(shared(1), f"{Migrate.url(folder)}-new", encode, view="b")

        def read(folder):
            Migrate.watched()
            found = content(f"{Migrate.url(folder)}-new")
            wanted = {"a": rows(0), "b": views(1)["b"]}
            for row, (vector, payload) in found.items():
                view = payload["latent_bridge_view"]
                expected = shared(1).translator(view).transform(wanted[view][row : row + 1])
                if not np.allclose(_unit(vector[None]), _unit(expected), atol=1e-5):
                    raise RuntimeError(f"row {row} is not by the encoder that it names, {view}")
            return len(found)

    promise = "the old rows as they were, the new ones whole before they are served; a run goes on"
    options = {"own": ("/serve/*",), "unfinished": ("/state/*.json",)}
    job(f"migrate in {scheme}", promise, same=False, refuses=True, **options)(Migrate)
    if scheme == "sqlite":
        job(f"migrate gradually in {scheme}", promise, same=False, refuses=True, **options)(Gradual)
        promise = "each row is by the encoder that it names, and a run goes on"
        options = {"own": (), "unfinished": ()}
        job(f"encode again in {scheme}", promise, same=False, refuses=True, **options)(EncodeAgain)


@job(
    "migrate a FAISS file",
    "the old file as it was; the new one appears when it is whole, and then is served",
    refuses=True,
    own=("/serve/*",),
)
class MigrateIndex:
    def start(folder):
        index = faiss.IndexFlatIP(4)
        index.add(rows(0))
        faiss.write_index(index, str(folder / "old.faiss"))

    def run(folder, variant):
        old, new = (str(folder / f"{age}.faiss") for age in ("old", "new"))
        migrate(fitted(variant), old, new, batch_size=20, serve_dir=folder / "serve")

    def read(folder):
        """Which translator's rows there are, and whose are served."""
        found = {}
        for variant in (1, 2):
            weight = fitted(variant).map_.weight
            if (folder / "serve" / "config.json").exists():
                route = Serving.load(folder / "serve").routes["old"]
                if torch.equal(route.translator.map_.weight.cpu(), weight):
                    found["served"] = variant
        for variant in (1, 2) if (folder / "new.faiss").exists() else ():
            got = faiss.read_index(str(folder / "new.faiss")).reconstruct_n(0, ROWS)
            if np.allclose(got, fitted(variant).transform(rows(0)), atol=1e-5):
                found["rows"] = variant
        if found.get("served") not in (None, found.get("rows")):
            raise RuntimeError(f"the rows are not those that are served: {found}")
        return found.get("served")


@job(
    "serve queries to a store",
    "the old way of asking or the new one, with its translator; the store as it was",
    own=("/serve/*",),
)
class ServeQueries:
    def start(folder):
        stored = fitted(OLD).transform(rows(0))
        filled(ServeQueries.url(folder), Records(list(range(ROWS)), stored, [{}] * ROWS))
        ServeQueries.run(folder, OLD)

    def run(folder, variant):
        serve_queries(fitted(variant), ServeQueries.url(folder), folder / "serve")

    def read(folder):
        """Whose translator moves the queries."""
        translator = Serving.load(folder / "serve").routes["new"].translator
        for variant in (OLD, 1, 2):
            if torch.equal(translator.map_.weight.cpu(), fitted(variant).map_.weight):
                return variant
        raise RuntimeError("queries are moved by no translator")

    def url(folder):
        return f"sqlite:{folder}/store/docs"


def _watched(kind: type[Collection]) -> type[Collection]:
    def event(method: str) -> Callable[..., Any]:
        def run(self: Any, *args: Any, **options: Any) -> Any:
            path = Path(self.url.path)
            with writing(path):
                sys.audit("os.truncate", str(path), 0)
                done = getattr(kind, method)(self, *args, **options)
                sys.audit("os.truncate", str(path), 0)
            return done

        return run

    return type(f"Watched{kind.__name__}", (kind,), {m: event(m) for m in _REQUESTS})


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


_REQUESTS = ("create", "write", "delete", "fetch", "count")
for scheme in ("qdrant", "sqlite"):
    for package in STORES[scheme].needs:
        import_module(package)  # once, and not in each copy of the process
    _migrate(scheme)
import_module("portalocker")  # the same for what Qdrant's client imports when it opens a folder
