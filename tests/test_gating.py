"""The gate passes what may be used, and fails a shuffled fit, a wrong encoder and idle maps."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from sklearn.metrics import ndcg_score

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    KernelTranslator,
    OrthoTranslator,
    fit_translator,
    gate,
    gate_latents,
    learning_curve,
    load_encoder,
    load_pairs,
)
from hf_latent_bridge.cli import judged, main
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError, NotFittedError
from hf_latent_bridge.gating import (
    Retention,
    Thresholds,
    first_k,
    judge_number,
    judge_retention,
    nearness,
    ranking_scores,
)
from hf_latent_bridge.hubness import csls_scores, neighbor_similarity
from hf_latent_bridge.metrics import overlaps

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


class World:
    """Two encoders of one meaning; queries are noisy items, and each item answers its own."""

    def __init__(self, noise=0.05, seed=0, n_items=300, n_queries=120):
        rng = np.random.default_rng(seed)
        meaning = rng.normal(size=(n_items, 12)) * np.linspace(2, 0.5, 12)
        asked = meaning[:n_queries] + 0.2 * rng.normal(size=(n_queries, 12))
        maps = [rng.normal(size=(12, dim)) for dim in (24, 32)]
        self.corpus, self.queries = (
            tuple(z @ m + noise * rng.normal(size=(len(z), m.shape[1])) for m in maps)
            for z in (meaning, asked)
        )
        anchors = rng.normal(size=(400, 12)) * np.linspace(2, 0.5, 12)
        self.anchors = tuple(anchors @ m + noise * rng.normal(size=(400, m.shape[1])) for m in maps)
        self.relevance = {query: {query: 1.0} for query in range(n_queries)}

    def fitted(self, method=None, reverse=False):
        x, y = self.anchors[::-1] if reverse else self.anchors
        return (method or AffineTranslator(alpha=0.01)).fit(x, y)


@pytest.fixture(scope="module")
def world():
    return World()


def test_a_good_map_passes_with_judgements(world):
    report = gate_latents(
        world.fitted(), queries=world.queries, corpus=world.corpus, relevance=world.relevance
    )
    assert report.verdict == "pass", str(report)
    assert set(report.retention) == {"recall@10", "ndcg@10", "mrr@10"}
    assert report.retention["recall@10"].lower >= 0.95
    assert set(report.systems) == {"native", "translated", "old", "unshifted"}


def test_a_good_map_passes_without_judgements_and_says_what_that_means(world):
    report = gate_latents(world.fitted(), queries=world.queries, corpus=world.corpus)
    assert report.verdict == "pass", str(report)
    assert report.retention["overlap@10"].native == 1
    assert report.reasons[-1][0] == "note"
    assert report.reasons[-1][1].startswith("no judgements were given")


def test_queries_that_are_items_of_the_corpus_ask_nothing_of_a_map(world):
    report = gate_latents(world.fitted(), queries=world.corpus, corpus=world.corpus)
    assert report.verdict == "warn", str(report)
    assert any("300 of 300 queries are items of the corpus" in text for _, text in report.reasons)


def test_queries_alone_can_be_translated(world):
    swapped = {"queries": world.queries[::-1], "corpus": (None, world.corpus[0])}
    report = gate_latents(
        world.fitted(reverse=True),
        **swapped,
        translates="queries",
        relevance=world.relevance,
    )
    assert report.verdict == "pass", str(report)


def test_a_shuffled_fit_fails_and_the_reason_is_named(world):
    x, y = world.anchors
    shuffled = OrthoTranslator().fit(x, np.random.default_rng(1).permutation(y))
    report = gate_latents(
        shuffled, queries=world.queries, corpus=world.corpus, relevance=world.relevance
    )
    assert report.verdict == "fail"


def test_rows_that_do_not_belong_together_are_named(world):
    source, target = world.corpus
    report = gate_latents(
        world.fitted(),
        queries=world.queries,
        corpus=(np.random.default_rng(2).permutation(source), target),
    )
    assert report.verdict == "fail"
    assert any("shuffled items" in text for _, text in report.reasons)


def test_the_wrong_encoder_fails(world):
    other = World(seed=5)
    report = gate_latents(
        other.fitted(), queries=world.queries, corpus=world.corpus, relevance=world.relevance
    )
    assert report.verdict == "fail"


def test_a_corpus_of_another_domain_fails(world):
    rng = np.random.default_rng(3)
    x, y = world.anchors
    few = np.linalg.svd(x, full_matrices=False)[2][:3]  # its anchors vary in three directions only
    narrow = AffineTranslator(alpha=0.01).fit(x @ few.T @ few, y + rng.normal(size=y.shape))
    report = gate_latents(
        narrow, queries=world.queries, corpus=world.corpus, relevance=world.relevance
    )
    assert report.verdict == "fail"


def test_a_translator_that_is_not_needed_fails():
    rng = np.random.default_rng(0)
    items, queries = rng.normal(size=(200, 16)), rng.normal(size=(80, 16))
    nearly = items + 0.01 * rng.normal(size=items.shape)
    translator = AffineTranslator(alpha=0.01).fit(items, nearly)
    report = gate_latents(translator, queries=(None, queries), corpus=(items, nearly))
    assert report.verdict == "fail"
    assert any("adds nothing" in text for _, text in report.reasons)


def test_the_folded_search_is_judged_beside_the_one_without(world):
    translator = world.fitted()
    translator.keep_bank(world.anchors[0])
    given = {"queries": world.queries, "corpus": world.corpus, "relevance": world.relevance}
    report = gate_latents(translator, hubness="csls", **given)
    assert {"translated", "unfolded"} <= report.systems.keys()
    assert report.settings["hubness"] == "csls"
    assert "is translated and folded, which corrects for hubs" in report.to_markdown()
    assert "corrects for hubs" in report.to_html()
    plain = gate_latents(translator, **given)
    assert report.systems["unfolded"] == plain.systems["translated"]
    items = translator.transform(world.corpus[0])
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (world.queries[1], items)]
    similarity = neighbor_similarity(items, translator.query_bank_.cpu())
    best = np.argsort(-csls_scores(unit[0] @ unit[1].T, similarity), axis=1)[:, :10]
    recall = np.mean([query in found for query, found in enumerate(best)])
    assert report.systems["translated"]["recall@10"] == pytest.approx(recall)


def test_a_store_whose_queries_are_translated_is_not_folded(world):
    reverse = world.fitted(reverse=True).keep_bank(world.anchors[1])
    swapped = {"queries": world.queries[::-1], "corpus": world.corpus[::-1]}
    with pytest.raises(ValueError, match="leave hubness out"):
        gate_latents(reverse, translates="queries", hubness="csls", **swapped)
    with pytest.raises(ValueError, match="keeps none"):
        gate_latents(world.fitted(), hubness="csls", queries=world.queries, corpus=world.corpus)


def test_a_search_for_one_result_has_no_order(world):
    given = {"queries": world.queries, "corpus": world.corpus, "relevance": world.relevance}
    report = gate_latents(world.fitted(OrthoTranslator()), **given, k=1)
    assert not any("in another order" in text for _, text in report.reasons)


def test_few_queries_only_warn(world):
    some = tuple(side[:20] for side in world.queries)
    report = gate_latents(world.fitted(), queries=some, corpus=world.corpus)
    assert report.verdict == "warn"
    assert "20 queries tell little" in str(report)


def test_a_bad_slice_is_named(world):
    rng = np.random.default_rng(4)
    source, target = world.corpus
    broken = source.copy()
    broken[60:120] = rng.normal(size=broken[60:120].shape) * broken.std()
    names = pd.Series(["en"] * 60 + ["de"] * 60, index=range(1000, 1120))
    report = gate_latents(
        world.fitted(),
        queries=world.queries,
        corpus=(broken, target),
        relevance=world.relevance,
        slices=names,
        query_ids=pd.Series(range(120), index=range(120)[::-1]),
        pass_at=0.5,
        warn_at=0.4,
    )
    assert report.slices["en"].mean > 0.9 > report.slices["de"].mean
    assert any("'de'" in text for _, text in report.reasons)
    assert all(int(query) >= 60 for query, _ in report.worst)


def test_an_old_encoder_that_is_better_warns(world):
    noisy = World(noise=0.05)
    blurred = tuple(
        t + np.random.default_rng(i).normal(size=t.shape) * t.std() * 1.5
        for i, t in enumerate((noisy.corpus[1], noisy.queries[1]))
    )
    report = gate_latents(
        noisy.fitted(),
        queries=(noisy.queries[0], blurred[1]),
        corpus=(noisy.corpus[0], blurred[0]),
        relevance=noisy.relevance,
    )
    assert any("the old encoder by itself is better" in text for _, text in report.reasons)


def test_scores_are_those_of_a_hand_worked_case_and_of_scikit_learn():
    rng = np.random.default_rng(0)
    queries, items = (torch.from_numpy(rng.normal(size=(n, 8))).float() for n in (6, 40))
    found = first_k(queries, items, k=10)
    cosines = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(items).T
    assert found.tolist() == cosines.argsort(descending=True)[:, :10].tolist()
    gains = {q: {int(i): float(1 + i % 3) for i in rng.choice(40, 7, False)} for q in range(6)}
    scores = ranking_scores(found, gains)
    for query in range(6):
        truth = np.zeros((1, 40))
        for item, gain in gains[query].items():
            truth[0, item] = gain
        wanted = ndcg_score(truth, cosines[query : query + 1].numpy(), k=10)
        assert float(scores["ndcg@10"][query]) == pytest.approx(wanted)
    one = ranking_scores(torch.tensor([[4, 2, 9], [1, 2, 3]]), {0: {9: 1, 5: 1}, 1: {7: 1}})
    assert one["recall@3"].tolist() == [0.5, 0]
    assert one["mrr@3"].tolist() == [pytest.approx(1 / 3), 0]
    same = overlaps(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[4, 3, 9, 8]]))
    assert same.tolist() == [0.5]


def test_the_interval_holds_the_mean_and_narrows_with_more_queries():
    few, many = (World(n_queries=n, n_items=600) for n in (60, 480))
    widths = []
    for world in (few, many):
        kept = gate_latents(
            world.fitted(OrthoTranslator()), queries=world.queries, corpus=world.corpus
        ).retention["overlap@10"]
        assert kept.lower <= kept.mean <= kept.upper
        widths.append(kept.upper - kept.lower)
    assert widths[1] < widths[0]


def test_a_report_is_json_and_markdown(world):
    report = gate_latents(world.fitted(), queries=world.queries, corpus=world.corpus)
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["verdict"] == "pass"
    assert report.to_markdown().startswith("# PASS\n")
    assert report.to_markdown().count("- PASS: ") == 1
    for page in (report.to_markdown(), report.to_html()):
        assert "native: everything by the new encoder" in page
    assert "| translated |" in report.to_markdown()


def test_without_judgements_the_scores_are_those_of_the_native_first_result(world):
    given = {"queries": world.queries, "corpus": world.corpus}
    translator = world.fitted(OrthoTranslator())
    alone = gate_latents(translator, **given)
    first = first_k(*(torch.from_numpy(z[1]) for z in (world.queries, world.corpus)), k=1)
    gains = {query: {int(item): 1.0} for query, item in enumerate(first[:, 0])}
    judged = gate_latents(translator, **given, relevance=gains)
    assert alone.decides == "near@10"
    assert alone.retention["first_mrr@10"] == judged.retention["mrr@10"]
    assert alone.retention["first@10"] == judged.retention["recall@10"]
    named = gate_latents(translator, **given, relevance=gains, score="mrr@10")
    assert named.decides == "mrr@10"
    assert any(text.startswith("mrr@10 is") for _, text in named.reasons)


def test_nearness_is_one_for_the_native_first_item_and_nothing_for_an_average_one():
    queries = torch.tensor([[1.0, 0.0]])
    angles = torch.tensor([0.1, 0.5, 1.0, 2.0])
    items = torch.stack([angles.cos(), angles.sin()], dim=1)
    usual = float(angles.cos().mean())
    found = torch.tensor([[0, 3], [1, 2], [3, 3]])
    near = nearness(found, torch.zeros(3, 1, dtype=int), queries.expand(3, 2), items)
    share = (np.cos(0.5) - usual) / (np.cos(0.1) - usual)
    assert near.tolist() == pytest.approx([1, share**2, 0], abs=1e-6)


def test_an_independent_encoder_that_is_as_good_passes_without_judgements(world):
    """What a search keeps that knows as much, though its rankings are others."""
    rng = np.random.default_rng(7)
    again = tuple(z + 0.1 * z.std() * rng.normal(size=z.shape) for z in
                  (world.queries[1], world.corpus[1]))  # fmt: skip
    same = OrthoTranslator(scaling="none").fit(np.eye(32), np.eye(32))
    report = gate_latents(
        same, queries=(again[0], world.queries[1]), corpus=(again[1], world.corpus[1])
    )
    assert report.retention["near@10"].lower >= 0.95
    assert report.retention["overlap@10"].mean < 0.95


def test_an_order_that_is_lost_holds_a_pass_back(world):
    """The native first item is among ten others that stand before it."""
    relevance = {query: {query: 1.0} for query in range(120)}
    rng = np.random.default_rng(0)
    target = world.corpus[1]
    crowd = np.repeat(target[:120], 5, 0) + 0.01 * rng.normal(size=(600, 32))
    corpus = np.concatenate([target, crowd])
    noisy = corpus + np.r_[0.3 * rng.normal(size=(300, 32)), np.zeros((600, 32))]
    same = OrthoTranslator(scaling="none").fit(np.eye(32), np.eye(32))
    given = {"queries": (target[:120], target[:120]), "corpus": (noisy, corpus)}
    report = gate_latents(same, **given, relevance=relevance)
    assert report.retention["recall@10"].lower >= 0.95
    assert report.retention["mrr@10"].mean < 0.9
    assert report.verdict != "pass"
    assert any("are in another order" in text for _, text in report.reasons)
    alone = gate_latents(same, **given, relevance=relevance, score="recall@10")
    assert not any("are in another order" in text for _, text in alone.reasons)


def test_it_says_how_many_queries_would_show_it():
    kept = Retention(1.0, 0.97, 0.97, 0.93, 1.0)
    limits = Thresholds(0.95, 0.9)
    ((verdict, told),) = judge_retention("recall@10", kept, limits, 100, judged=True)
    assert verdict == "warn"
    assert "about 400 such queries" in told
    assert not list(judge_number(72, limits))
    ((_, told),) = judge_number(71, limits)
    assert "0.95 can be shown by 72" in told


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"score": "auc"}, ValueError, "score must be one of"),
        ({"k": 300}, InvalidPairsError, "more than 300 items"),
        ({"k": 0}, ValueError, "k must be an integer of at least 1"),
        ({"k": 2.5}, ValueError, "k must be an integer of at least 1"),
        ({"slices": ["a"]}, InvalidPairsError, "one for each of 120 queries, got 1"),
        ({"relevance": {0: {0: 1}, 500: {1: 1}}}, InvalidPairsError, "query 500"),
        ({"relevance": {0: {0: 1}, 1: {}}}, InvalidPairsError, "query 1 needs"),
        ({"relevance": {0: {0: 1}, 1: {1: 0}}}, InvalidPairsError, "above 0"),
        ({"pass_at": 0.5, "warn_at": 0.9}, ValueError, "warn_at <= pass_at"),
        ({"translates": "both"}, ValueError, "'corpus' or 'queries'"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap"),
    ],
)
def test_bad_input_is_refused(world, change, error, wanted):
    given = {"queries": world.queries, "corpus": world.corpus} | change
    with pytest.raises(error, match=wanted):
        gate_latents(world.fitted(), **given)


def test_the_side_that_is_translated_is_needed(world):
    with pytest.raises(InvalidLatentsError, match="must be given by the source"):
        gate_latents(world.fitted(), queries=world.queries, corpus=(None, world.corpus[1]))


def test_latents_that_are_not_finite_or_of_another_width_are_refused(world):
    source, target = world.corpus
    bad = source.copy()
    bad[3, 3] = np.nan
    with pytest.raises(InvalidLatentsError, match="NaN"):
        gate_latents(world.fitted(), queries=world.queries, corpus=(bad, target))
    with pytest.raises(InvalidLatentsError, match="32 wide, got 31"):
        gate_latents(world.fitted(), queries=(None, world.queries[1][:, 1:]), corpus=world.corpus)
    with pytest.raises(InvalidLatentsError, match="300 and 299 rows"):
        gate_latents(world.fitted(), queries=world.queries, corpus=(source, target[1:]))
    asking, asked = world.queries
    with pytest.raises(InvalidLatentsError, match="119 and 120 rows"):
        gate_latents(world.fitted(), queries=(asking[1:], asked), corpus=world.corpus)
    with pytest.raises(InvalidLatentsError, match="24 wide, got 23"):
        gate_latents(world.fitted(), queries=(asking[:, 1:], asked), corpus=world.corpus)


@pytest.mark.parametrize("side", [0, 1])
def test_an_encoder_that_gives_the_same_for_all_items_is_named(world, side):
    corpus = [
        latents if number != side else latents * 0 for number, latents in enumerate(world.corpus)
    ]
    with pytest.raises(InvalidLatentsError, match="all 300 latents are equal"):
        gate_latents(world.fitted(), queries=world.queries, corpus=tuple(corpus))


def test_what_is_not_a_translator_is_refused(world):
    with pytest.raises(TypeError, match="a translator comes from"):
        gate_latents("me/map", queries=world.queries, corpus=world.corpus)


def test_what_the_gate_does_not_take_is_refused_before_anything_is_encoded(world):
    def unused(items):
        raise AssertionError("it was asked to encode")

    both = (["a", "b"], ["a", "b"])
    with pytest.raises(NotFittedError, match="not fitted"):
        gate(OrthoTranslator(), unused, unused, queries=both, corpus=both)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pass_att'"):
        gate(world.fitted(), unused, unused, queries=both, corpus=both, pass_att=0.9)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pass_att'"):
        learning_curve(OrthoTranslator(), unused, unused, both, pass_att=0.9)


# The command ------------------------------------------------------------------------------


@pytest.fixture
def files(world, tmp_path):
    """Options of the command with the vectors of the world in files, and its judgements."""
    for part, (source, target) in (("queries", world.queries), ("corpus", world.corpus)):
        np.save(tmp_path / f"{part}-source.npy", source.astype(np.float32))
        np.save(tmp_path / f"{part}-target.npy", target.astype(np.float32))
    world.fitted().save_pretrained(tmp_path / "map")
    lines = [f"{query}\t0\t{query}\t1" for query in world.relevance]
    (tmp_path / "qrels.tsv").write_text("\n".join(lines) + "\n")
    options = ["gate", "--translator", str(tmp_path / "map")]
    for part in ("queries", "corpus"):
        for side in ("source", "target"):
            options += [f"--{part}-{side}-vectors", str(tmp_path / f"{part}-{side}.npy")]
    return [*options, "--relevance", str(tmp_path / "qrels.tsv")]


def test_the_command_passes_and_writes_reports(files, tmp_path, capsys):
    pages = [tmp_path / name for name in ("gate.md", "gate.json", "gate.html")]
    assert main([*files, *(f"--report={page}" for page in pages)]) == 0
    assert capsys.readouterr().out.startswith("# PASS")
    assert json.loads(pages[1].read_text())["retention"]["recall@10"]["retention"] > 0.95
    assert "PASS" in pages[2].read_text()
    assert pages[0].read_text().startswith("# PASS")


def test_the_command_tells_ci_that_it_warns_or_fails(files, world, tmp_path, capsys):
    x, y = world.anchors
    shuffled = OrthoTranslator().fit(x, np.random.default_rng(1).permutation(y))
    shuffled.save_pretrained(tmp_path / "map")
    assert main(files) == 4
    assert capsys.readouterr().out.startswith("# FAIL")
    world.fitted().save_pretrained(tmp_path / "map")
    qrels = (tmp_path / "qrels.tsv").read_text().splitlines()
    (tmp_path / "qrels.tsv").write_text("\n".join(qrels[:20]))
    assert main(files) == 3
    assert capsys.readouterr().out.startswith("# WARN")


def test_texts_are_encoded_by_both_encoders_and_judged_by_their_ids(tmp_path, capsys):
    source, target = tiny_models.bert_repo(), tiny_models.bert_repo(hidden=12, seed=1)
    texts = sorted(set(tiny_models.sentences(80, tiny_models.EN)))[:60]
    pairs = load_pairs((texts, texts))
    fitted = fit_translator(
        AffineTranslator(alpha=1e-3), load_encoder(source), load_encoder(target), pairs
    )
    fitted.save_pretrained(tmp_path / "map")
    rows = [{"key": f"d{i}", "text": text, "lang": "en"} for i, text in enumerate(texts)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "asked.csv").write_text(
        "id,text,lang\n" + "".join(f"q{i},{text},en\n" for i, text in enumerate(texts[:10]))
    )
    (tmp_path / "qrels.csv").write_text(
        "query,item,gain\n" + "".join(f"q{i},d{i},1\n" for i in range(10))
    )
    command = ["gate", "--translator", tmp_path / "map", "--queries", tmp_path / "asked.csv"]
    command += ["--queries-id-column", "id", "--corpus", tmp_path / "docs.jsonl"]
    command += ["--corpus-id-column", "key", "--relevance", tmp_path / "qrels.csv"]
    command += ["--slice-column", "lang", "--json"]
    assert main([str(word) for word in command]) == 4  # encoders with random weights
    report = json.loads(capsys.readouterr().out)
    assert (report["n_queries"], report["n_items"]) == (10, 60)
    assert report["systems"]["native"]["mrr@10"] == 1
    assert set(report["slices"]) == {"en"}
    assert {lost["query"] for lost in report["worst_queries"]} <= {f"q{i}" for i in range(10)}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("--report=gate.pdf", ".md, .json or .html"),
        ("--queries=a.jsonl", "needs --queries and --corpus, or"),
        ("--slice-column=lang", "--slice-column is of --queries and --corpus"),
        ("--corpus-split=test", "--corpus-split is of --queries and --corpus"),
        ("--n-neighbors=4", "--n-neighbors is for --hubness"),
        ("--corpus-target-vectors=none.npy", "none.npy has no rows"),
        ("--relevance=bad.tsv", "line 2: a query, an item and a gain"),
        ("--relevance=nan.tsv", "line 2: a query, an item and a gain are needed, got '1 1 nan'"),
        ("--relevance=two.tsv", "query '1' and item '4' have the gain 0 here, and 1 in an earlier"),
        ("--relevance=latin.tsv", "latin.tsv must be UTF-8: save it so"),
        ("--report=/proc/self/x.md", "cannot write /proc/self"),
        (
            "--queries-source-vectors=nan.npy",
            "nan.npy holds NaN or infinity in 1 of 120 rows, first in",
        ),
        ("--queries-source-vectors=few.npy", "the same queries, got 5 and 120 rows"),
        ("--pass-at=1.5", "got warn_at=0.9 and pass_at=1.5"),
    ],
)
def test_the_command_refuses(files, change, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.tsv").write_text("0 0 1\n1 1 1 1 1\n")
    (tmp_path / "nan.tsv").write_text("0 0 1\n1 1 nan\n")
    (tmp_path / "two.tsv").write_text("0 0 1\n1 4 1\n0 0 1\n1 4 0\n")
    (tmp_path / "latin.tsv").write_text("é d 1\n", encoding="latin-1")
    rows = np.load("queries-source.npy")
    np.save("few.npy", rows[:5])
    np.save("none.npy", rows[:0])
    rows[7, 3] = np.nan
    np.save("nan.npy", rows)
    assert main([*files, change]) == 1
    assert wanted in capsys.readouterr().err


def test_a_first_line_with_an_unknown_query_is_not_taken_for_a_header(tmp_path):
    (tmp_path / "qrels.tsv").write_text("q9 d1\nq2 d2\n")
    with pytest.raises(InvalidPairsError, match="line 1: there is no row with the id 'q9'"):
        judged._relevance(str(tmp_path / "qrels.tsv"), ["q1", "q2"], ["d1", "d2"])


@pytest.mark.parametrize("head", ["", "query item\n"])
def test_judgements_without_gains_may_have_a_header_or_not(head, tmp_path):
    (tmp_path / "qrels.tsv").write_text(f"{head}q1 d1\nq2 d2\n")
    found = judged._relevance(str(tmp_path / "qrels.tsv"), ["q1", "q2"], ["d1", "d2"])
    assert found == {0: {0: 1.0}, 1: {1: 1.0}}


def test_judgements_of_rows_that_share_an_id_are_refused(tmp_path):
    (tmp_path / "qrels.tsv").write_text("q1 d1 1\n")
    with pytest.raises(InvalidPairsError, match="several have the id 'd1'"):
        judged._relevance(str(tmp_path / "qrels.tsv"), ["q1", "q2"], ["d1", "d2", "d1"])


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--queries-split", "train"], "a split is of a dataset, and asked.jsonl is a file"),
        (["--queries-source-vectors", "x.npy"], "latents by both encoders, not both"),
    ],
)
def test_an_option_of_queries_that_nothing_reads_is_refused(
    more, wanted, world, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    world.fitted().save_pretrained("map")
    for name in ("asked", "docs"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n')
    command = ["gate", "--translator", "map", "--queries", "asked.jsonl", "--corpus", "docs.jsonl"]
    assert main([*command, *more]) == 1
    assert wanted in capsys.readouterr().err


# The shift ---------------------------------------------------------------------------------


def shifted(seed=0, shift=3.0):
    """A target whose latents share a mean, and a source that knows little of them."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(1400, 16))
    target = meaning @ rng.normal(size=(16, 24)) + shift * rng.normal(size=24)
    source = meaning @ rng.normal(size=(16, 20)) + 6 * rng.normal(size=(1400, 20))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    return source, target


def test_without_the_shift_an_untouched_store_ranks_as_after_centring():
    x, y = shifted()
    translator = AffineTranslator(alpha=0.1).fit(x[:800], y[:800])
    queries, items = (torch.from_numpy(part) for part in (x[800:], y[800:]))
    mean = torch.from_numpy(y[:800].mean(0))
    direction = mean / mean.norm()
    centred = [z - (z @ direction)[:, None] * direction
               for z in (translator.transform(queries) - mean, items - mean)]  # fmt: skip
    translator.remove_shift()
    plain = first_k(translator.transform(queries), items, k=1)
    cosines = torch.nn.functional.normalize(centred[0], dim=1) @ centred[1].mT
    assert torch.equal(plain, cosines.topk(1, dim=1).indices)


def test_without_the_shift_the_bank_is_still_one_of_translated_queries():
    x, y = shifted()
    translator = AffineTranslator(alpha=0.1).fit(x[:800], y[:800]).keep_bank(x[:800], size=50)
    translator.remove_shift()
    expected = translator.query_bank_
    np.testing.assert_allclose(translator.keep_bank(x[:800], size=50).query_bank_, expected)


def test_the_gate_says_what_the_shift_costs():
    x, y = shifted()
    translator = AffineTranslator(alpha=0.1).fit(x[:800], y[:800])
    given = {"queries": (x[800:], y[800:]), "corpus": (None, y[800:]), "translates": "queries"}
    report = gate_latents(translator, **given)
    assert any("without the shift" in text for _, text in report.reasons), str(report)
    unshifted = report.systems["unshifted"]["first@10"]
    again = gate_latents(translator.remove_shift(), **given)
    assert again.systems["translated"]["first@10"] == pytest.approx(unshifted, abs=0.02)
    assert not any("without the shift" in text for _, text in again.reasons)


@pytest.mark.parametrize(
    "method", [KernelTranslator(n_landmarks=30), AffineTranslator(alpha=0.1, unit_norm="target")]
)
def test_the_gate_does_not_advise_to_remove_a_shift_that_cannot_be_removed(method):
    x, y = shifted()
    translator = method.fit(x[:800], y[:800])
    report = gate_latents(translator, queries=(None, y[800:]), corpus=(x[800:], y[800:]))
    assert "unshifted" not in report.systems
    with pytest.raises(InvalidLatentsError, match="can be taken out of one affine map"):
        translator.remove_shift()


def test_a_translator_without_shift_is_saved_and_says_so(tmp_path):
    x, y = shifted()
    translator = AffineTranslator(alpha=0.1).fit(x[:800], y[:800]).remove_shift()
    translator.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_allclose(loaded.transform(x[800:]), translator.transform(x[800:]), atol=1e-5)
    assert "for search alone" in (tmp_path / "README.md").read_text()
    with pytest.raises(NotFittedError, match="pass it as mean"):
        loaded.remove_shift()
    with pytest.raises(InvalidLatentsError, match="and not zero"):
        loaded.remove_shift(np.zeros(24))
    with pytest.raises(InvalidLatentsError, match="no norm after it"):
        AffineTranslator(unit_norm="target").fit(x[:800], y[:800]).remove_shift()
