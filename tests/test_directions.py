"""Items or queries are translated by what both measure, and the choice is recorded for serving."""

import json

import numpy as np
import pytest
import tiny_models
from store_places import content, filled
from test_gating import World

from hf_latent_bridge import (
    AffineTranslator,
    LinearTranslator,
    SharedTranslator,
    SpaceSpec,
    TranslatedEncoder,
    compare_directions,
    fit_translator,
    gate_latents,
    load_encoder,
    load_pairs,
    serve_queries,
)
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import InvalidLatentsError, SpaceMismatchError, StoreError
from hf_latent_bridge.translation.serving import Serving
from hf_latent_bridge.vectors.stores.base import Records
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture
def url(world, tmp_path):
    vectors = world.corpus[0].astype(np.float32)
    payloads = [{"text": f"item {i}"} for i in range(len(vectors))]
    return filled(
        f"qdrant:{tmp_path}/db/docs", Records(list(range(len(vectors))), vectors, payloads)
    )


def compared(world, **options):
    given = {"queries": world.queries, "corpus": world.corpus}
    return compare_directions(world.fitted(), world.fitted(reverse=True), **{**given, **options})


# Both measured ----------------------------------------------------------------------------


def test_each_way_is_measured_as_the_gate_measures_it(world):
    report = compared(world, relevance=world.relevance)
    given = {"queries": world.queries, "corpus": world.corpus, "relevance": world.relevance}
    items = gate_latents(world.fitted(), **given)
    assert report.retention["translate the items"] == items.retention
    swapped = {"queries": world.queries[::-1], "corpus": world.corpus[::-1]}
    queries = gate_latents(
        world.fitted(reverse=True), translates="queries", relevance=world.relevance, **swapped
    )
    for name, score in queries.systems["translated"].items():
        found = report.retention["translate the queries"][name]
        assert found.translated == pytest.approx(score)
        assert found.native == pytest.approx(items.systems["native"][name])
    assert report.retention["keep the old encoder"]["recall@10"].translated == pytest.approx(
        items.systems["old"]["recall@10"]
    )


def test_without_a_difference_the_queries_are_chosen(world):
    report = compared(world, relevance=world.relevance)
    assert report.choice == "queries"
    assert "no difference is shown, and with queries nothing is rewritten" in str(report)


def test_a_direction_that_is_better_is_chosen(world):
    rng = np.random.default_rng(0)
    noisy = tuple(x + 99 * rng.normal(size=x.shape) for x in world.anchors)
    bad = World().fitted().fit(*noisy), World().fitted().fit(*noisy[::-1])
    good = world.fitted(), world.fitted(reverse=True)
    given = {"queries": world.queries, "corpus": world.corpus, "relevance": world.relevance}
    assert compare_directions(good[0], bad[1], **given).choice == "items"
    assert compare_directions(bad[0], good[1], **given).choice == "queries"


def test_an_old_encoder_that_is_better_than_both_is_named(world):
    rng = np.random.default_rng(0)
    noisy = tuple(x + 99 * rng.normal(size=x.shape) for x in world.anchors)
    bad = World().fitted().fit(*noisy), World().fitted().fit(*noisy[::-1])
    given = {"queries": world.queries, "corpus": world.corpus, "relevance": world.relevance}
    assert "old encoder by itself is better still" in compare_directions(*bad, **given).reason
    assert "by itself" not in compared(world, relevance=world.relevance).reason


def test_a_report_is_json_markdown_and_a_page(world):
    report = compared(world)
    facts = json.loads(json.dumps(report.to_dict()))
    assert set(facts["ways"]) == {
        "encode everything again",
        "translate the items",
        "translate the queries",
        "keep the old encoder",
    }
    assert report.to_markdown().startswith("# Translate the queries")
    assert "| translate the items |" in report.to_markdown()
    page = report.to_html()
    assert "<h1>Translate the queries</h1>" in page
    assert page.count("<svg") == 4


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"queries": (np.eye(5, 24), np.eye(4, 32))}, InvalidLatentsError, "got 5 and 4"),
        ({"k": 0}, ValueError, "k must be an integer of at least 1"),
    ],
)
def test_bad_input_is_refused(world, change, error, wanted):
    with pytest.raises(error, match=wanted):
        compared(world, **change)


def test_translators_that_do_not_lead_back_and_forth_are_refused(world):
    given = {"queries": world.queries, "corpus": world.corpus}
    with pytest.raises(SpaceMismatchError, match="must lead back where the other came from"):
        compare_directions(world.fitted(), world.fitted(), **given)
    forth, back = world.anchors, world.anchors[::-1]
    known = LinearTranslator().fit(*forth, source=SpaceSpec(24, "me/old"))
    other = LinearTranslator().fit(*back, target=SpaceSpec(24, "me/older"))
    with pytest.raises(SpaceMismatchError, match="differ in repo_id: 'me/old' and 'me/older'"):
        compare_directions(known, other, **given)
    with pytest.raises(TypeError, match=r"a translator comes from .*got str 'me/old-to-new'"):
        compare_directions("me/old-to-new", other, **given)
    both = SharedTranslator(dim=8).fit(*world.anchors[::-1])
    with pytest.raises(ValueError, match="moves both sides"):
        compare_directions(world.fitted(), both, **given)


# Recorded ---------------------------------------------------------------------------------


def test_the_new_encoder_asks_the_old_vectors_and_the_store_is_not_touched(world, url, tmp_path):
    before = content(url)
    into_old = world.fitted(reverse=True)
    served = serve_queries(into_old, url, tmp_path / "serve", quality=compared(world))
    assert (served.rows, served.dim, served.kept_bytes) == (300, 24, 300 * 24 * 4)
    assert "stay as they are" in str(served)
    assert Serving.load(tmp_path / "serve").quality["choice"] == "queries"
    asked = world.queries[1][:3].astype(np.float32)
    encoder = TranslatedEncoder.from_pretrained(tmp_path / "serve", lambda texts: asked)
    vectors = encoder.encode(["a", "b", "c"])
    np.testing.assert_allclose(vectors, into_old.transform(asked), rtol=1e-4, atol=1e-4)
    with open_collection(url) as old:
        assert [old.nearest(vector, 1)[0] for vector in vectors] == [0, 1, 2]
    old_one = TranslatedEncoder.from_pretrained(
        tmp_path / "serve", lambda texts: world.queries[0][:3], asks="old"
    )
    np.testing.assert_allclose(old_one.encode(["a", "b", "c"]), world.queries[0][:3], rtol=1e-6)
    after = content(url)
    assert {k: v[1] for k, v in before.items()} == {k: v[1] for k, v in after.items()}
    np.testing.assert_array_equal([before[i][0] for i in before], [after[i][0] for i in before])


def test_the_wrong_direction_is_named(world, url, tmp_path):
    with pytest.raises(InvalidLatentsError, match="leads from the new encoder to the stored"):
        serve_queries(world.fitted(), url, tmp_path / "serve")
    with pytest.raises(StoreError, match="other"):
        serve_queries(world.fitted(), url.replace("docs", "other"), tmp_path / "serve")
    assert not (tmp_path / "serve").exists()


# The command ------------------------------------------------------------------------------


def test_the_command_measures_both_and_records(world, url, tmp_path, capsys):
    world.fitted().save_pretrained(tmp_path / "into-new")
    world.fitted(reverse=True).save_pretrained(tmp_path / "into-old")
    for part, sides in (("queries", world.queries), ("corpus", world.corpus)):
        for age, x in zip(("old", "new"), sides, strict=True):
            np.save(tmp_path / f"{part}-{age}.npy", x)
    lines = [f"{query} {query} 1" for query in world.relevance]
    (tmp_path / "qrels.tsv").write_text("\n".join(lines))
    command = ["migrate", url, "--queries-only", "--translator", f"{tmp_path}/into-old"]
    command += ["--serve-dir", f"{tmp_path}/serve"]
    assert main(command) == 0
    assert "microseconds" in capsys.readouterr().out
    assert Serving.load(tmp_path / "serve").quality == {}
    command += ["--into-new", f"{tmp_path}/into-new", "--relevance", f"{tmp_path}/qrels.tsv"]
    for part in ("queries", "corpus"):
        for age in ("old", "new"):
            command += [f"--{part}-{age}-vectors", f"{tmp_path}/{part}-{age}.npy"]
    pages = ["--report", f"{tmp_path}/ways.md", "--report", f"{tmp_path}/ways.html"]
    assert main([*command, *pages, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["quality"]["judged"]
    assert "# Translate the queries" in (tmp_path / "ways.md").read_text()
    assert "<h1>Translate the queries</h1>" in (tmp_path / "ways.html").read_text()
    assert Serving.load(tmp_path / "serve").quality == facts["quality"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--queries-only"], "--translator and --serve-dir"),
        (
            ["--queries-only", "--serve-dir", "s", "--hubness", "csls"],
            "--hubness does not go with",
        ),
        (
            ["--queries-only", "--serve-dir", "s", "--view", "old"],
            "--view does not go with",
        ),
        (
            ["--queries-only", "--serve-dir", "s", "--price", "1"],
            "--price does not go with",
        ),
        (["qdrant:./a/c", "--queries", "q.jsonl"], "--queries is for --queries-only"),
        (["qdrant:./a/c", "--queries-only", "--serve-dir", "s"], "and no target"),
        ([], "a target is needed"),
        (["qdrant:./a/c", "--report", "a.md"], "--report is for --queries-only"),
    ],
)
def test_the_command_says_what_does_not_go_together(words, wanted, capsys):
    assert main(["migrate", "qdrant:./a/b", *words, "--translator", "map"]) == 1
    assert wanted in capsys.readouterr().err


def test_the_command_measures_both_on_texts(tmp_path, capsys):
    old, new = tiny_models.bert_repo(), tiny_models.bert_repo(hidden=12, seed=1)
    texts = sorted(set(tiny_models.sentences(80, tiny_models.EN)))[:60]
    encoders = load_encoder(old), load_encoder(new)
    for name, sides in (("into-new", encoders), ("into-old", encoders[::-1])):
        fitted = fit_translator(AffineTranslator(alpha=1e-3), *sides, load_pairs((texts, texts)))
        fitted.save_pretrained(tmp_path / name)
    for name, part in (("asked", texts[:20]), ("docs", texts)):
        lines = [json.dumps({"text": text}) for text in part]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    vectors = encoders[0].encode(texts).cpu().numpy()
    records = Records(list(range(len(texts))), vectors, [{"text": text} for text in texts])
    url = filled(f"qdrant:{tmp_path}/db/docs", records)
    command = ["migrate", url, "--queries-only", "--translator", f"{tmp_path}/into-old"]
    command += ["--serve-dir", f"{tmp_path}/serve", "--into-new", f"{tmp_path}/into-new"]
    assert main(command) == 1
    assert "--into-new is for measuring both ways" in capsys.readouterr().err
    command += ["--queries", f"{tmp_path}/asked.jsonl", "--corpus", f"{tmp_path}/docs.jsonl"]
    assert main([*command, "--json"]) == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    assert (quality["n_queries"], quality["n_items"]) == (20, 60)


def test_the_command_says_what_is_missing_to_measure_both(world, url, tmp_path, capsys):
    world.fitted(reverse=True).save_pretrained(tmp_path / "into-old")
    command = ["migrate", url, "--queries-only", "--translator", f"{tmp_path}/into-old"]
    command += ["--serve-dir", f"{tmp_path}/serve", "--queries", "q.jsonl"]
    assert main(command) == 1
    assert "--into-new is needed" in capsys.readouterr().err
