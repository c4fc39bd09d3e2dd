"""Fit your own: a visitor gets the translator that the library fits, or one clear sentence."""

import asyncio
import io
import logging
import pickle
import re
import shutil
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import toy_format
import vector_files
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from limits import Refusal
from local_hub import LocalHub
from methods import methods
from tabs.fit_your_own import fit, items, publish, runs, tab, uploads
from visitors import sent_again

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    Pairs,
    evaluate_latents,
    fit_translator,
    load_encoder,
)
from hf_latent_bridge.encoders.text import TEXT
from hf_latent_bridge.errors import RankWarning
from hf_latent_bridge.vectors.formats import FORMATS, plain_suffixes

pytestmark = pytest.mark.slow

SECRET = "hf_aToken.that-must-appear-nowhere_0123456789"
HOW = ("ortho", 0.1, 60)
PLAIN = [
    case
    for case in (*vector_files.SHARED, *vector_files.MORE)
    if case.refused is None and not case.args and Path(case.name).suffix in plain_suffixes()
]


@pytest.fixture(scope="module")
def vectors():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 12)).astype("float32")
    y = x @ draw.normal(size=(12, 16)) + 0.3 * draw.normal(size=(120, 16))
    return x, y.astype("float32")


@pytest.fixture
def files(vectors, tmp_path):
    return [
        saved(tmp_path / f"{name}.npy", array)
        for name, array in zip(("old", "new"), vectors, strict=True)
    ]


@pytest.fixture
def visitor(space):
    """A session of its own."""
    client = Client(space.src, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def encoders():
    return tiny_models.sentence_repo(), tiny_models.bert_repo()


def saved(path, array):
    np.save(path, array)
    return path


def fit_files(client, source, target, how=HOW):
    return client.predict(handle_file(source), handle_file(target), *how, api_name="/fit_vectors")


def fit_items(client, repos, encoders, how=("ortho", 0.1, 60), **changes):
    request = {
        "source_modality": "text",
        "target_modality": "text",
        "source_encoder": encoders[0],
        "target_encoder": encoders[1],
        "dataset": repos.settings.repo_id("demo-news"),
        "split": "train",
        "source_column": "text",
        "target_column": "",
        "table": None,
        "source_files": None,
        "target_files": None,
    }
    request |= dict(zip(("method", "alpha", "anchors"), how, strict=True)) | changes
    return client.predict(**request, api_name="/fit_items")


def unpacked(archive, folder):
    shutil.unpack_archive(archive, folder)
    return AutoTranslator.from_pretrained(folder)


def expected(method, x, y, spaces=(None, None), *, anchors=60, dataset=None):
    """What the library gives on the same rows, with its report on the others."""
    rows, held_out = fit.split(len(x), anchors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)  # a random BERT's latents lie in a plane
        translator = fit_translator(method, *spaces, Pairs(x[rows], y[rows], dataset or {}))
    return translator, evaluate_latents(translator, x[held_out], y[held_out], dataset=dataset)


def assert_same(translator, report, wanted, wanted_report, tolerance=1e-6):
    assert type(translator) is type(wanted)
    assert translator.get_params() == wanted.get_params()
    np.testing.assert_allclose(
        translator.map_.weight.cpu(), wanted.map_.weight.cpu(), atol=tolerance
    )
    np.testing.assert_allclose(translator.map_.bias.cpu(), wanted.map_.bias.cpu(), atol=tolerance)
    for row in ("translated", "untranslated", "shuffled"):
        assert report["scores"][row] == pytest.approx(wanted_report[row], abs=1e-4)


@pytest.mark.parametrize("name", methods())
def test_two_npy_files_give_the_translator_that_the_library_fits(
    space, files, vectors, name, tmp_path
):
    report, archive = fit_files(space, *files, (name, 0.25, 60))
    method = methods()[name]
    if "alpha" in method.get_params():
        method.set_params(alpha=0.25)
    if "n_landmarks" in method.get_params():
        method.set_params(n_landmarks=60)  # as many as there are pairs
    wanted, wanted_report = expected(method, *vectors)
    assert_same(unpacked(archive, tmp_path / "own"), report, wanted, wanted_report.to_dict())
    assert report["note"].startswith(
        f"{fit.Method(name, 0.25, 60)}; fitted on 60 pairs and checked"
    )
    table = {row["name"]: [cell["value"] for cell in row["cells"]] for row in report["rows"]}
    assert table["recall@1"] == [
        f"{wanted_report.to_dict()[row]['recall@1']:.3f}"
        for row in ("translated", "untranslated", "shuffled")
    ]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_vectors_are_read_from_every_plain_format(case, tmp_path):
    path = str(vector_files.in_folder(tmp_path, [case]) / case.name)
    pairs = uploads.read_vectors(path, path)
    for column in (pairs.source, pairs.target):
        np.testing.assert_array_equal(column, vector_files.expected(case))


def test_formats_that_could_unpack_to_more_than_their_size_are_not_taken(tmp_path):
    for name in ("x.parquet", "x.npz", "x.jsonl.gz", "x.hdf5", "x.faiss", "x"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(Refusal, match=r"is not taken here; .* end in \.npy, .*\.csv"):
            uploads.read_vectors(str(tmp_path / name), str(tmp_path / name))


def test_a_registered_format_is_taken_with_no_edit_of_the_space(tmp_path, monkeypatch):
    path = tmp_path / "x.toy"
    path.write_text("one two\nthree four\n")
    with pytest.raises(Refusal, match=r"x\.toy is not taken here"):
        uploads.read_vectors(str(path), str(path))
    monkeypatch.setitem(FORMATS, "toy", toy_format.TOY)
    pairs = uploads.read_vectors(str(path), str(path))
    np.testing.assert_array_equal(pairs.source, [[1, 2], [3, 4]])


def test_a_dataset_on_the_hub_gives_the_translator_that_the_library_fits(
    space, repos, encoders, tmp_path
):
    report, archive = fit_items(space, repos, encoders)
    loaded = [load_encoder(repo, max_length=64) for repo in encoders]
    texts = list(repos.latents("demo-news", "train").rows["text"])[:80]
    x, y = (encoder.encode(texts).numpy() for encoder in loaded)
    wanted, wanted_report = expected(methods()["ortho"], x, y, [e.space for e in loaded])
    translator = unpacked(archive, tmp_path / "own")
    assert_same(translator, report, wanted, wanted_report.to_dict(), tolerance=1e-4)
    assert (translator.source_, translator.target_) == tuple(e.space for e in loaded)
    assert translator.dataset_["repo_id"] == repos.settings.repo_id("demo-news")
    assert translator.dataset_["first_rows"] == 80
    assert report["title"] == f"From {loaded[0].space} to {loaded[1].space}"


def test_a_csv_pairs_a_text_with_its_translation(space, repos, encoders, tmp_path):
    columns = [tiny_models.sentences(50, words) for words in (tiny_models.EN, tiny_models.DE)]
    table = tmp_path / "pairs.csv"
    lines = ["en,de", *(f'"{en}","{de}"' for en, de in zip(*columns, strict=True))]
    table.write_text("\n".join(lines), encoding="utf-8-sig")
    report, archive = fit_items(
        space,
        repos,
        encoders,
        table=handle_file(table),
        source_column="en",
        target_column="de",
        how=("affine", 0.5, 30),
    )
    loaded = [load_encoder(repo, max_length=64) for repo in encoders]
    x, y = (e.encode(items).numpy() for e, items in zip(loaded, columns, strict=True))
    spaces = [encoder.space for encoder in loaded]
    wanted, wanted_report = expected(AffineTranslator(alpha=0.5), x, y, spaces, anchors=30)
    translator = unpacked(archive, tmp_path / "own")
    assert_same(translator, report, wanted, wanted_report.to_dict(), tolerance=1e-4)


@pytest.mark.parametrize(
    ("rows", "anchors", "fitted", "checked"),
    [(120, 60, 60, 24), (120, 500, 96, 24), (40, 500, 20, 20), (20_000, 16_000, 16_000, 1_000)],
)
def test_rows_that_check_a_fit_are_never_fitted_on(rows, anchors, fitted, checked):
    on, held_out = fit.split(rows, anchors)
    assert (len(on), len(held_out)) == (fitted, checked)
    assert not set(on) & set(held_out)
    assert set(on) | set(held_out) <= set(range(rows))


@pytest.mark.parametrize("anchors", [20, 79, 80, 81, 800])
def test_as_many_texts_are_read_as_leave_the_wanted_anchors(anchors):
    on, _ = fit.split(fit.wanted_rows(anchors), anchors)
    assert len(on) == anchors


def test_what_the_library_warns_of_is_told_to_the_visitor(space, files, tmp_path):
    report, _ = fit_files(space, *files, ("linear", 0, 60))
    assert report["warnings"] == []
    draw = np.random.default_rng(1)
    wide = [saved(tmp_path / f"{name}.npy", draw.normal(size=(60, 40))) for name in "xy"]
    report, _ = fit_files(space, *wide, ("linear", 0, 30))
    assert report["warnings"][0].startswith("30 pairs determine 29 of 40 directions")


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda y: b"", "new.npy is not a whole .npy file of numbers"),
        (lambda y: b"not numbers " * 50, "new.npy is not a whole .npy file of numbers"),
        (lambda y: npy(y)[:-5], "announces .* bytes, the file has"),
        (lambda y: npy(y)[:20], "not a whole .npy file of numbers"),
        (lambda y: npy(y[:119]), "as many source as target items, got 120 and 119"),
        (lambda y: npy(y.astype(int)), "new.npy holds int64"),
        (lambda y: npy(y.astype(complex)), "one floating matrix .*, got complex128"),
        (lambda y: npy(y[:, 0]), r"one floating matrix \(n, d\), got float32 of \(120,\)"),
        (lambda y: npy(y[:, :0]), "new.npy holds vectors without numbers"),
        (lambda y: npy(y[:0]), "as many source as target items, got 120 and 0"),
        (lambda y: npy(np.zeros((120, 2_049), "float32")), "new.npy is 2,049 wide"),
        (lambda y: npy(np.where(y == y[7, 3], np.nan, y)), "NaN or infinity in 1 .* in row 7"),
    ],
)
def test_files_that_hold_no_such_vectors_are_refused(space, files, vectors, content, sentence):
    files[1].write_bytes(content(vectors[1]))
    with pytest.raises(AppError, match=sentence) as refused:
        fit_files(space, *files)
    assert str(files[1].parent) not in str(refused.value)
    assert "/" not in str(refused.value).partition(": ")[0]  # no folder, of whatever job


@pytest.mark.parametrize("kind", ["pickle", "object array"])
def test_nothing_is_unpickled(space, files, tmp_path, kind):
    mark, trap = tmp_path / "ran", Trap(tmp_path / "ran")
    if kind == "pickle":
        files[1].write_bytes(pickle.dumps(trap))
    else:
        np.save(files[1], np.array([[trap]] * 120), allow_pickle=True)
    with pytest.raises(AppError, match=r"is not a whole \.npy file"):
        fit_files(space, *files)
    assert not mark.exists()


def test_too_few_rows_or_too_many_are_refused(space, files, vectors, tmp_path):
    one = [saved(file, array[:1]) for file, array in zip(files, vectors, strict=True)]
    with pytest.raises(AppError, match=r"at least 40 pairs, 20 of them held out.*; this has 1\."):
        fit_files(space, *one)
    many = saved(tmp_path / "many.npy", np.zeros((20_001, 2), "float16"))
    with pytest.raises(AppError, match="may have 20,000 rows; these have 20,001"):
        fit_files(space, many, many)


def test_files_over_the_size_limit_are_refused_unread(tmp_path):
    large = tmp_path / "large.npy"
    with large.open("wb") as stream:
        stream.truncate(uploads.MAX_VECTORS + 1)
    with pytest.raises(Refusal, match=r"large.npy has 20.0 MB; 20 MB are the most"):
        uploads.read_vectors(str(large), str(large))
    with pytest.raises(Refusal, match="Please upload a file of target vectors"):
        uploads.read_vectors(str(saved(tmp_path / "x.npy", np.ones((3, 3)))), None)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a,b\n1,2\n", "t.csv has the columns 'a', 'b', and not 'text'"),
        (b"", r"t.csv has the columns \(none\), and not 'text'"),
        (b"text,text\n1,2\n", "t.csv has 2 columns named 'text': rename all but one"),
        (b"\xff\xfe\x00", "t.csv is not UTF-8 text"),
        (b'text\n"cut', "t.csv cannot be read as csv"),
        (b"text\n" + b"a\n" * 2_001, "may have 2,000 rows; this one has more"),
        (b"text\n" + b"a\n" * 39, "at least 40 pairs, .*; this has 39"),
        (
            b"text,b\n" + b"a,1\n" * 30 + b",1\n" * 30,
            "Row 30 of the source column is an empty text",
        ),
        (b"text\n" + b"a" * 10 * 2**20, r"t.csv has 10.0 MB; 5 MB are the most"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(space, repos, encoders, tmp_path, content, sentence):
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        fit_items(space, repos, encoders, table=handle_file(table))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "magic"}, "magic is not in the list of choices"),
        ({"alpha": 1_001}, "Alpha must be a number from 0 to 1,000"),
        ({"alpha": None}, "Alpha must be a number from 0 to 1,000"),
        ({"anchors": 801}, "number of anchors must be a whole number from 20 to 800"),
        ({"anchors": None}, "number of anchors must be a whole number from 20 to 800"),
        ({"source_encoder": "alice/no-such-encoder"}, "There is no public model alice/no-such"),
        ({"source_encoder": "a model"}, "Please name a text encoder by its repo id"),
        ({"source_encoder": None}, "Please name a text encoder by its repo id"),
        ({"target_encoder": "../secrets/model"}, "Please name a text encoder by its repo id"),
        ({"dataset": "alice/no-such-data"}, "There is no public dataset alice/no-such-data"),
        ({"dataset": "csv"}, "Please name a dataset by its repo id"),
        ({"split": "nowhere"}, "has the splits .*'train'.*, got split='nowhere'"),
        ({"source_column": "nothing"}, "Pairs need column names out of .*'text'.*, got 'nothing'"),
        ({"source_column": "source"}, "The source column must hold items of text"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(space, repos, encoders, changes, sentence):
    with pytest.raises(AppError, match=sentence):
        fit_items(space, repos, encoders, **changes)


def test_a_folder_of_this_machine_is_no_repo(repos, encoders, tmp_path, monkeypatch):
    shutil.copytree(tiny_models.bert_folder(), tmp_path / "tabs/model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="by its repo id"):
        items.Hub(repos).encoder("tabs/model", TEXT)


def test_an_encoder_over_the_size_limit_is_refused_before_it_is_downloaded(repos, monkeypatch):
    large = tiny_models.bert_repo(hidden=20, seed=7)
    size = (tiny_models.bert_folder(hidden=20, seed=7) / "model.safetensors").stat().st_size
    assert items.download_size(large, "model", False) == size
    monkeypatch.setattr(items, "MAX_BYTES", size - 1)
    monkeypatch.delattr(items, "load_encoder")
    with pytest.raises(Refusal, match=rf"{large} holds .* GB; models may have"):
        items.Hub(repos).encoder(large, TEXT)


def test_code_that_an_encoder_brings_never_runs(space, repos, encoders, tmp_path):
    folder, mark = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_models.bert_folder(), folder)
    config = (folder / "config.json").read_text()
    own = '"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}, "model_type": "own"'
    (folder / "config.json").write_text(re.sub(r'"model_type": "bert"', own, config))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    repo = tiny_models.push_folder(folder, "alice/brings-code")
    with pytest.raises(AppError, match="alice/brings-code holds no text encoder"):
        fit_items(space, repos, (repo, encoders[1]))
    assert not mark.exists()


def test_the_spaces_own_token_opens_no_other_private_repo(repos, encoders, api, repo_id):
    api.create_repo(repo_id, private=True)
    assert api.repo_exists(repo_id)
    with pytest.raises(Refusal, match=f"There is no public model {repo_id}"):
        items.Hub(repos).encoder(repo_id, TEXT)


def test_a_fit_that_takes_too_long_is_stopped(repos, encoders, files, monkeypatch):
    monkeypatch.setattr(fit, "SECONDS", 0)
    hub, method = items.Hub(repos), fit.Method(*HOW)
    table = items.Table(repos.settings.repo_id("demo-news"), "train")
    sides = tuple(items.Side("text", repo, "text") for repo in encoders)
    for run in (
        lambda: runs.fit_on_items(hub, sides, table, method, quiet),
        lambda: runs.fit_on_vectors(*map(str, files), method, quiet),
    ):
        with pytest.raises(Refusal, match="took more than 0 seconds and was stopped"):
            run()


@pytest.mark.parametrize("shape", [(16_000, 2048, 2048), (9_000, 2048, 2048)])
def test_a_fit_that_would_keep_others_waiting_is_refused_before_it_starts(shape):
    with pytest.raises(Refusal, match=r"would take about \d+ seconds and 40 are the most"):
        fit.check_cost(*shape)


def test_a_fit_is_told_how_long_it_takes(files):
    told = []
    runs.fit_on_vectors(*map(str, files), fit.Method(*HOW), lambda _, desc: told.append(desc))
    assert told == ["Fitting and evaluating, about 1 s"]
    assert fit.check_cost(5_000, 1536, 1536) == "about 19 s"


def test_what_a_fit_takes_is_told_before_it_starts(files, tmp_path):
    facts = {each["name"]: each["value"] for each in runs.estimate_fit(*map(str, files), *HOW)}
    assert facts == {"rows": "120", "from": "12 wide", "to": "16 wide", "takes": "about 1 s"}
    few = str(saved(tmp_path / "few.npy", np.zeros((30, 4), "float16")))
    with pytest.raises(Refusal, match="at least 40 pairs"):
        runs.estimate_fit(few, few, *HOW)


def test_encoding_that_would_take_too_long_is_stopped_after_its_first_chunk(encoders):
    encoder, calls = load_encoder(encoders[0]), []
    encode = encoder.encode

    def slow(chunk):
        calls.append(len(chunk))
        time.sleep(0.2)
        return encode(chunk)

    encoder.encode = slow
    texts = ["a dog"] * 32 * 100
    with pytest.raises(Refusal, match=r"3,200 items would take about \d+ more seconds"):
        items.encode(encoder, texts, fit.Clock(seconds=5), quiet, "")
    assert calls == [32]


def test_a_visitor_who_waits_is_told_their_place_in_the_queue(space, files):
    jobs = [space.submit(*map(handle_file, files), *HOW, api_name="/fit_vectors") for _ in range(6)]
    places = set()
    while not all(job.done() for job in jobs):
        places |= {job.status().rank for job in jobs if not job.done()}
        time.sleep(0.02)
    assert places & {1, 2, 3, 4, 5}
    assert [job.result(60)[0]["scores"]["n_pairs"] for job in jobs] == [24] * 6


def test_a_visitor_pushes_a_fit_with_their_own_token(visitor, files, vectors, repo_id, api):
    fit_files(visitor, *files)
    pushed = visitor.predict(repo_id, "hf_alice", api_name="/push_translator")
    wanted, report = expected(methods()["ortho"], *vectors)
    translator = AutoTranslator.from_pretrained(repo_id, token="hf_alice")
    np.testing.assert_allclose(translator.map_.weight, wanted.map_.weight, atol=1e-6)
    assert translator.metrics_["translated"] == pytest.approx(report.to_dict()["translated"])
    assert api.repo_info(repo_id).private
    values = {fact["name"]: fact["value"] for fact in pushed}
    assert values == {
        "pushed to": repo_id,
        "commit": translator.commit[:7],
        "visible to": "its owner alone",
    }


def test_a_push_is_public_only_if_asked(visitor, files, repo_id, api):
    fit_files(visitor, *files)
    visitor.predict(repo_id, "hf_alice", False, api_name="/push_translator")
    assert not api.repo_info(repo_id).private


def test_a_push_overwrites_nothing(visitor, files, repo_id, api):
    commit = api.repo_info(api.create_repo(repo_id).repo_id).sha
    fit_files(visitor, *files)
    with pytest.raises(AppError, match=f"{repo_id} exists already"):
        visitor.predict(repo_id, "hf_alice", api_name="/push_translator")
    assert api.repo_info(repo_id).sha == commit


def test_another_visitors_fit_cannot_be_pushed(space, visitor, files, repo_id):
    fit_files(space, *files)
    with pytest.raises(AppError, match=r"nothing to push yet: fit a translator first"):
        visitor.predict(repo_id, "hf_alice", api_name="/push_translator")


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "not a token of the Hub"),
        ("password", "not a token of the Hub"),
        (f"{SECRET}\nX-Header: 1", "not a token of the Hub"),
        (f"{SECRET}é", "not a token of the Hub"),
        (SECRET, "does not let this token write"),
        ("hf_reader", "does not let this token write"),
        ("hf_bob", "does not let this token write"),
    ],
)
def test_a_token_that_may_not_write_is_refused_and_told_to_nobody(
    visitor, files, repo_id, api, token, sentence, space_log
):
    fit_files(visitor, *files)
    with pytest.raises(AppError, match=sentence) as refused:
        visitor.predict(repo_id, token, api_name="/push_translator")
    assert not api.repo_exists(repo_id)
    assert SECRET not in f"{refused.value!r} {space_log.read_text()}"


@pytest.mark.parametrize("token", [SECRET, f"{SECRET} "])
def test_no_log_record_holds_a_token_whatever_its_level(files, repo_id, token, caplog):
    _, archive, _ = runs.fit_on_vectors(*map(str, files), fit.Method(*HOW), quiet)
    with caplog.at_level(logging.DEBUG), pytest.raises(Refusal) as refused:
        publish.push(archive, repo_id, token, True)
    assert caplog.records
    told = [repr(refused.value), *(f"{r.getMessage()} {r.__dict__}" for r in caplog.records)]
    assert not [text for text in told if SECRET in text]


def test_a_bad_fit_and_a_good_one_at_once_do_not_disturb_each_other(space, files, tmp_path):
    visitors = [Client(space.src, verbose=False, analytics_enabled=False) for _ in range(2)]
    bad = saved(tmp_path / "bad.npy", np.full((120, 3), np.inf))
    jobs = [
        client.submit(handle_file(source), handle_file(files[1]), *HOW, api_name="/fit_vectors")
        for client, source in zip(visitors, (bad, files[0]), strict=True)
    ]
    with pytest.raises(AppError, match=r"bad.npy holds NaN or infinity in 120 of 120 rows"):
        jobs[0].result(timeout=60)
    report, _ = jobs[1].result(timeout=60)
    assert report["scores"]["n_pairs"] == 24
    for client in visitors:
        client.close()


def test_a_file_that_another_visitor_sends_again_is_read_all_the_same(files):
    with sent_again(*files):
        for _ in range(5):
            assert len(uploads.read_vectors(*map(str, files))) == 120


def test_a_query_is_answered_while_a_fit_still_runs(space, visitor, repos, encoders, monkeypatch):
    """The Hub does not tell the Space of the fit's dataset before the query is answered."""
    answer, asked, answered = LocalHub.__call__, threading.Event(), threading.Event()
    dataset = repos.settings.repo_id("demo-news")
    space.predict("the red dog", api_name="/search")  # loads what it needs, the dataset too

    async def answer_late(hub, scope, receive, send):
        if dataset in scope["path"]:
            asked.set()
            while not answered.is_set():
                await asyncio.sleep(0.01)
        await answer(hub, scope, receive, send)

    monkeypatch.setattr(LocalHub, "__call__", answer_late)
    kinds, columns = ("text", "text"), ("train", "text", "", None, None, None)
    job = visitor.submit(*kinds, *encoders, dataset, *columns, *HOW, api_name="/fit_items")
    try:
        assert asked.wait(60)
        assert space.predict("the red dog", api_name="/search")
        assert not job.done()
    finally:
        answered.set()
    report, _ = job.result(timeout=60)
    assert report["scores"]["n_pairs"] == 20


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_the_code_that_is_shown_runs(repos, encoders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = tab.CODE.format(
        namespace=repos.settings.namespace, source=encoders[0], target=encoders[1]
    )
    exec(compile(code, "code", "exec"), {})
    assert "translated" in capsys.readouterr().out
    assert AutoTranslator.from_pretrained("my-translator").n_pairs_ == 100


def quiet(*_, **__):
    """Progress that nobody looks at."""


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
