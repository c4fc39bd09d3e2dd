"""Options that a command would not read are refused, whatever else is given."""

import json
from pathlib import Path

import numpy as np
import pytest

from hf_latent_bridge import OrthoTranslator
from hf_latent_bridge.cli import build_parser, main, unread
from hf_latent_bridge.vectors.stores.base import Records
from tests.helpers.store_places import filled

X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)

BASE = {
    "files": "fit --source-vectors x.npy --target-vectors y.npy --output map",
    "dataset": "fit --source me/a --target me/b --dataset me/d --source-column text --output map",
    "local": "fit --source enc --target enc --dataset rows.jsonl --source-column text --output map",
    "texts": "fit --source-vectors x.jsonl --text-field text --target me/b --output map",
    "matched": "fit --source-vectors x.jsonl --target-vectors x.jsonl --id-field id --output map",
    "until": "fit --source me/a --target me/b --dataset me/d --source-column text --output map "
    "--until-retention 0.9",
    "evaluate": "evaluate map --source-vectors x.npy --target-vectors y.npy",
    "views": "fit-shared --view-vectors a=x.npy --view-vectors b=y.npy --output space",
    "grow": "fit-shared --view-vectors a=x.npy --view-vectors b=y.npy --grow a=x.npy --output s",
    "stdin": "translate map - out.npy",
    "stdout": "translate map x.npy -",
    "translate": "translate map x.npy out.npy",
    "gate": "gate --translator map --queries-target-vectors x.npy --corpus-target-vectors y.npy",
    "gradual": "gate --translator map --gradual --old-view a --new-view b "
    "--queries-target-vectors x.npy --corpus-target-vectors y.npy",
    "migrate": "migrate qdrant:./db/old qdrant:./db/new --translator map",
    "queries": "migrate qdrant:./db/old --queries-only --translator map --serve-dir serve",
    "re-encode": "re-encode qdrant:./db/shared --space space --view new --encoder enc",
    "info": "info map",
}

UNREAD = {
    "files": [
        *("--device cpu", "--cache-dir c", "--force-download", "--batch-size 4", "--no-cache"),
        *("--max-length 9", "--autocast bfloat16", "--compile", "--checkpoint-every 9"),
        *("--bad-rows-file b", "--source-modality text", "--target-revision v1", "--stream"),
        *("--also me/b", "--split train", "--name a", "--dataset-revision v1"),
        *("--precomputed both", "--queries-column q", "--no-shared", "--objective ranking"),
        *("--scale 0.5 --source-scale 0.5 --target-scale 0.5", "--rule best"),
    ],
    "dataset": [
        *("--scale 0.5", "--source-scale 0.5", "--bad-rows-file b", "--checkpoint-every 9"),
        *("--precomputed source --stream --source-scale 0.5", "--cache-dir c --no-cache"),
        "--type auto --param alpha=1",
    ],
    "local": ["--cache-dir c", "--force-download"],
    "texts": ["--source-revision v1", "--target-scale 2", "--on-bad-row skip --bad-rows-file b"],
    "matched": ["--on-bad-row skip --bad-rows-file b"],
    "until": ["--checkpoint-every 9", "--bank-size 9", "--gemm-dtype float32", "--stream"],
    "evaluate": [
        *("--device cpu", "--cache-dir c", "--batch-size 4", "--compile", "--no-cache"),
        *("--bank x.npy", "--n-neighbors 3", "--create-pr", "--force-download", "--stream"),
    ],
    "views": [
        *("--device cpu", "--cache-dir c", "--force-download", "--batch-size 4", "--column text"),
        *("--checkpoint-every 9", "--bad-rows-file b", "--compile", "--max-length 9"),
    ],
    "grow": ["--chunk-size 9", "--checkpoint-every 9", "--gemm-dtype float32", "--max-pairs 9"],
    "stdin": ["--split train", "--name a", "--input-revision v1", "--restart"],
    "stdout": ["--checkpoint-every 9", "--restart", "--timeout 9"],
    "translate": ["--force-download", "--bank x.npy", "--fold queries --bank x.npy"],
    "gate": [
        *("--queries-column a", "--corpus-split test", "--slice-column a", "--device cpu"),
        *("--cache-dir c", "--batch-size 4", "--old-view a", "--bank x.npy", "--force-download"),
    ],
    "gradual": ["--hubness csls", "--n-neighbors 3", "--translates queries"],
    "migrate": [
        *("--queries-column a", "--corpus-id-column id", "--k 3", "--seed 1", "--view a"),
        *("--price 1", "--text-field text", "--bank x.npy", "--n-neighbors 3"),
        *("--force-download", "--into-new map", "--relevance r", "--report a.md"),
    ],
    "queries": [
        *("--batch-size 4", "--state-dir s", "--k 3", "--seed 1", "--queries-column a"),
        *("--alias a", "--dry-run", "--rollback", "--hubness csls", "--force-download"),
    ],
    "re-encode": ["--cache-dir c --no-cache", "--force-download"],
    "info": ["--force-download"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a translator, vectors, rows and what could be an encoder."""
    monkeypatch.chdir(tmp_path)
    OrthoTranslator().fit(X, X[:, ::-1]).save_pretrained("map")
    for name, rows in (("x", X), ("y", X[:, ::-1])):
        np.save(f"{name}.npy", rows)
    Path("enc").mkdir()
    Path("space").mkdir()
    Path("rows.jsonl").write_text('{"text": "a"}\n')
    lines = [{"id": i, "text": "a", "vector": row} for i, row in enumerate(X.tolist())]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


@pytest.mark.parametrize(
    ("base", "options"), [(base, options) for base in UNREAD for options in UNREAD[base]]
)
def test_an_option_that_nothing_would_read_is_refused(base, options, here, refusal):
    before = sorted(here.iterdir())
    told = refusal(*BASE[base].split(), *options.split())
    assert any(told.startswith(f"{word} ") for word in options.split() if word.startswith("--"))
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("base", BASE)
def test_a_command_without_further_options_passes(base, here):
    unread.check(build_parser().parse_args(BASE[base].split()))


def test_every_rule_names_options_that_the_command_has():
    parser = build_parser()
    for base in BASE.values():
        args = parser.parse_args(base.split())
        options = {name for rule in unread._RULES[args.command] for name in rule.options}
        assert options <= args.defaults.keys()


def test_one_scale_for_both_sides_is_for_a_side_of_integers(here, facts, refusal):
    np.save("int8.npy", (X * 30).astype(np.int8))
    scaled = ["--target-vectors", "y.npy", "--output", "out", "--scale", 0.5]
    told = refusal("fit", "--source-vectors", "x.npy", *scaled)
    assert "x.npy holds floating numbers, and a scale is for integers" in told
    facts("fit", "--source-vectors", "int8.npy", *scaled)


def test_the_scale_of_a_stream_of_floats_is_refused(here, capsysbinary, monkeypatch):
    import io
    from types import SimpleNamespace

    lines = "".join(f"{json.dumps(row)}\n" for row in X.tolist()).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    assert main(["translate", "map", "-", "-", "--scale", "0.5"]) == 1
    assert b"stdin holds floating numbers" in capsysbinary.readouterr().err


def test_a_column_of_a_store_is_named_in_its_url(here, refusal):
    url = filled("sqlite:store.db/docs", Records(list(range(40)), X, [{} for _ in X]))
    given = ["--source-vectors", url, "--target-vectors", "y.npy", "--output", "out"]
    assert "?vector=embedding" in refusal("fit", *given, "--source-column", "embedding")
