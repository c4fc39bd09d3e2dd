"""The tab "Migrate": curve, gate and files are the library's own; bad files get one sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from limits import Refusal
from tabs.fit_your_own.fit import Method
from tabs.migrate.migration import Store, duration, estimate, migrate
from visitors import sent_again

from hf_latent_bridge import AutoTranslator, Pairs, SpectralTranslator, learning_curve
from hf_latent_bridge.errors import LatentBridgeError

pytestmark = pytest.mark.slow

ROWS, ALL = 360, 5_000
STORE = Store(1_000_000, 200, 0.02, 100)


@pytest.fixture(scope="module")
def vectors():
    draw = np.random.default_rng(0)
    seen = draw.normal(size=(ROWS, 12))
    old, new = (seen @ draw.normal(size=(12, width)) for width in (20, 16))
    return old.astype("float32"), (new + 0.1 * draw.normal(size=new.shape)).astype("float32")


@pytest.fixture
def files(vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    for name, rows in zip(("old", "new"), vectors, strict=True):
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path / "old.npy", tmp_path / "new.npy"


def moved(files, method="spectral", pairs=ALL, store=STORE):
    steps = []
    found = migrate(
        *map(str, files), Method(method, 0.1, pairs), store, lambda *_, desc: steps.append(desc)
    )
    return found, steps


def test_the_curve_and_the_gate_are_the_librarys_own(files, vectors):
    found, steps = moved(files)
    order = np.random.default_rng(0).permutation(ROWS)
    asking, asked, fitted_on = (
        Pairs(*(side[rows] for side in vectors)) for rows in np.split(order, [ROWS // 6, ROWS // 3])
    )
    curve = learning_curve(
        SpectralTranslator(), None, None, fitted_on, queries=asking, corpus=asked, start=20
    )
    told = found.report["curve"]
    assert told["gate"] == curve.to_dict()["gate"]
    assert [(p["n_pairs"], p["retention"]) for p in told["points"]] == [
        (point.n_pairs, point.retention.mean) for point in curve.points
    ]
    assert found.report["verdict"] == curve.report.verdict
    assert curve.report.verdict.upper() in Path(found.page).read_text(encoding="utf-8")
    assert steps[1].startswith("Fitting on more and more pairs, about 1 s")


def test_the_files_are_the_translators_work_and_the_translator(files, vectors, tmp_path):
    found, _ = moved(files)
    shutil.unpack_archive(found.translator, tmp_path / "translator")
    translator = AutoTranslator.from_pretrained(tmp_path / "translator")
    translated = np.load(found.vectors)
    np.testing.assert_allclose(translated, translator.transform(vectors[0]), rtol=1e-4, atol=1e-4)
    assert translator.n_pairs_ == found.report["curve"]["points"][-1]["n_pairs"] == ROWS * 2 // 3


def test_files_that_another_visitor_sends_again_are_migrated_all_the_same(files):
    with sent_again(*files):
        found, _ = moved(files, method="ortho")
    assert np.load(found.vectors).shape == (ROWS, 16)


def test_a_file_that_has_ids_keeps_them(files, vectors, tmp_path):
    lines = [
        json.dumps({"id": f"a{i}", "vector": row.tolist()}) for i, row in enumerate(vectors[0])
    ]
    (tmp_path / "old.jsonl").write_text("\n".join(lines))
    found, _ = moved((tmp_path / "old.jsonl", files[1]))
    rows = [json.loads(line) for line in Path(found.vectors).read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"a{i}" for i in range(ROWS)]
    assert np.shape([row["vector"] for row in rows]) == vectors[1].shape


def test_pairs_that_do_not_belong_together_fail(files, vectors):
    np.save(files[1], np.random.default_rng(1).permutation(vectors[1]))
    found, _ = moved(files)
    assert found.report["title"] == "Fail"
    assert any("shuffled" in reason for reason in found.report["reasons"])


def test_rows_that_repeat_others_are_translated_and_check_nothing(files, vectors):
    for path, rows in zip(files, vectors, strict=True):
        np.save(path, np.vstack([rows, rows[:100]]))
    found, _ = moved(files, method="ortho")
    assert found.report["curve"]["points"][-1]["n_pairs"] == ROWS * 2 // 3
    assert "100 rows repeat others" in found.report["note"]
    assert len(np.load(found.vectors)) == ROWS + 100


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (lambda x: np.repeat(x[:10], 36, axis=0), "of these 360, 360 and 10 are different"),
        (lambda x: 0 * x, "at least 100 different rows on both sides"),
    ],
)
def test_a_target_of_few_different_rows_is_refused(files, vectors, rows, sentence):
    np.save(files[1], rows(vectors[1]))
    with pytest.raises(Refusal, match=sentence):
        moved(files)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (",".join(["1"] * 19) + ",", r"holds no matrix: row 100 holds an empty value"),
        ("1,2", "holds no matrix: row 100 "),
    ],
)
def test_a_bad_row_of_a_csv_is_named(tmp_path, files, line, sentence):
    header = ",".join(f"d{column}" for column in range(20))
    (tmp_path / "x.csv").write_text("\n".join([header, *[",".join(["0.5"] * 20)] * 100, line]))
    np.save(files[1], np.zeros((101, 4), dtype="float32"))
    with pytest.raises(Refusal, match=sentence):
        moved((tmp_path / "x.csv", files[1]))


def test_fewer_pairs_are_fitted_on_if_asked(files):
    found, _ = moved(files, pairs=40)
    assert found.report["curve"]["points"][-1]["n_pairs"] == 40


def test_the_costs_of_both_ways_stand_side_by_side():
    (again, translate) = STORE.costs(pairs=1_000, rows_per_second=1e6)
    assert [cell["value"] for cell in again["cells"]] == ["2.8 hours", "4.00"]
    assert [cell["value"] for cell in translate["cells"]] == ["11 s", "under 0.01"]
    assert duration(7 * 86_400) == "7.0 days"


def test_what_it_takes_is_told_before_anything_is_read(files):
    facts = {
        fact["name"]: fact["value"] for fact in estimate(*map(str, files), Method("ortho", 0, 100))
    }
    assert facts == {"rows": "360", "from": "20 wide", "to": "16 wide", "takes": "about 1 s"}


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (((99, 4), (99, 4)), "at least 100 rows, a third of them to check it; the files have 99"),
        (((200, 4), (100, 4)), "200 .* 100"),
        (((100, 4_000), (100, 4)), "4,000 wide; vectors may have 1 to 2,048"),
        (((9_000, 1), (9_000, 1_000)), "would hold 9,000,000 numbers and 8,388,608 are the most"),
        (((1_000, 2_048), (1_000, 2_048)), "would take about .* seconds and 40 are the most"),
    ],
)
def test_files_that_cannot_be_taken_get_one_sentence(tmp_path, shapes, sentence):
    paths = [tmp_path / name for name in ("a.npy", "b.npy")]
    for path, shape in zip(paths, shapes, strict=True):
        np.save(path, np.zeros(shape, dtype="float16"))
    with pytest.raises((Refusal, LatentBridgeError), match=sentence):
        estimate(*map(str, paths), Method("ortho", 0, ALL))


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        ((0, 1, 1, 1), "The number of items must be a whole number from 1"),
        ((1, 0, 1, 1), "The tokens of an item must be"),
        ((1, 1, -1, 1), "The price of a million tokens must be a number from 0"),
        ((1, 1, float("nan"), 1), "The price of a million tokens must be a number"),
        ((1, 1, 1, 0), "encoded in a second must be a number from 0.001"),
        ((None, 1, 1, 1), "The number of items must be"),
    ],
)
def test_a_store_that_cannot_be_gets_one_sentence(store, sentence):
    with pytest.raises(Refusal, match=sentence):
        Store(*store)


def test_the_endpoint_gives_the_report_and_three_files(space, files):
    old, new = map(handle_file, files)
    report, *paths = space.predict(old, new, "affine", ALL, 1000, 10, 1, 1, api_name="/migrate")
    assert report["verdict"] in {"pass", "warn"}
    assert [path.rsplit("/", 1)[1] for path in paths] == [
        "translated.npy",
        "translator.zip",
        "gate.html",
    ]
    with pytest.raises(AppError, match="Please upload a file of target vectors"):
        space.predict(old, None, "affine", ALL, 1000, 10, 1, 1, api_name="/migrate")
