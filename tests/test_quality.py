"""The comparison with other libraries: its scores, its kept cells, its winners, and a quick run."""

import benchmark
import numpy as np
import pytest
import torch
from experiments.results_page import PAGE, Section
from quality import rivals
from quality.cells import (
    Cell,
    joint_cells,
    mix,
    mixed_score,
    native,
    pair_cell,
    query_cells,
)
from quality.data import SOURCES, Data, Queries, Side
from quality.made_up import MADE_UP, VIEWS, gradients, made_up, tumours
from quality.methods import Fitted, Method, plain, ridge_gcv
from quality.report import (
    add_tables,
    at_full,
    best_of,
    choice_table,
    complete_draws,
    first_encoders,
    gather,
    least_lead,
    pair_table,
    scores_of,
)
from quality.scores import Search, find_own, neighbours, of_the_same_class, overlap
from quality.store import MEASURED, Store, published_cells
from sklearn.linear_model import RidgeCV

X = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 6)))


def same(latents):
    return latents


class TestMadeUpData:
    @pytest.mark.parametrize("name", ["tumours", *MADE_UP])
    def test_each_has_the_views_that_are_named_and_two_classes_or_more(self, name):
        data = tumours() if name == "tumours" else made_up(name)
        assert data.name == name
        assert tuple(data.sides) == VIEWS[data.name]
        for side in data.sides.values():
            assert torch.isfinite(side.pool).all()
            assert len(side.pool) == len(data.pool_labels)
            assert len(side.test) == len(data.test_labels)
        assert set(data.test_labels) <= set(data.pool_labels)
        assert len(set(data.pool_labels)) > 1

    def test_a_ramp_has_one_direction(self):
        ramp = torch.arange(8.0).expand(1, 8, 8)
        directions = gradients(ramp).reshape(8, 4).mean(1)
        np.testing.assert_allclose(directions, [1, 0.25, 0, 0, 0, 0, 0, 0.25], atol=1e-6)


class TestScores:
    def test_each_query_finds_itself_unless_items_are_another_order(self):
        assert find_own(Search(X, X))["R@1"] == 1.0
        assert find_own(Search(X, X.flip(0)))["R@1"] == 0.0

    def test_equal_items_gain_nothing_from_ties(self):
        scores = find_own(Search(X, X[:1].expand(len(X), -1)))
        assert scores["R@1"] == 0.0
        assert scores["MRR"] == pytest.approx(1 / 60.5)

    def test_an_item_is_not_its_own_neighbour(self):
        nearest = neighbours(Search(X, X))
        assert not (nearest == torch.arange(len(X))[:, None]).any()
        assert overlap(nearest, nearest.flip(1)) == 1.0

    def test_neighbours_of_one_class_count(self):
        labels = torch.arange(len(X)) % 2
        together = X + 100 * torch.stack([labels, 1 - labels], 1).double().repeat(1, 3)
        nearest = neighbours(Search(together, together))
        assert of_the_same_class(nearest, labels[:, None] == labels) == 1.0

    def test_the_anchors_mean_is_taken_off_both_sides(self):
        shift = torch.full((6,), 50.0, dtype=X.dtype)
        fitted = Fitted(same, lambda items: items + shift, centre=shift)
        raw, centred = (Search.of(fitted, X + shift, X, centred=c) for c in (False, True))
        torch.testing.assert_close(centred.similarity().diagonal(), torch.ones(len(X)).double())
        assert raw.similarity().min() > 0.9


class TestRidge:
    def test_the_penalty_is_near_that_of_leaving_one_out(self):
        draw = np.random.default_rng(1)
        x = draw.normal(size=(80, 30))
        y = x @ draw.normal(size=(30, 5)) + 3 * draw.normal(size=(80, 5))
        ours = ridge_gcv(torch.from_numpy(x), torch.from_numpy(y))(torch.from_numpy(x))
        theirs = RidgeCV(alphas=np.logspace(-2, 4, 60)).fit(x, y).predict(x)
        assert np.abs(ours.numpy() - theirs).max() < 0.3 * y.std()

    def test_an_item_that_is_there_twice_does_not_make_it_interpolate(self):
        draw = np.random.default_rng(2)
        common = draw.normal(size=(80, 5))
        x = common @ draw.normal(size=(5, 200)) + draw.normal(size=(80, 200))
        y = common + draw.normal(size=(80, 5))
        twice = [0, *range(79)]  # in place of the last item
        new = draw.normal(size=(50, 5)) @ draw.normal(size=(5, 200)) + draw.normal(size=(50, 200))
        once, again = (
            ridge_gcv(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))(torch.from_numpy(new))
            for rows in (list(range(80)), twice)
        )
        assert (again - once).std() < 0.3 * once.std()


class TestRivals:
    @pytest.mark.parametrize(("source", "target"), [(6, 9), (9, 6), (6, 6)])
    @pytest.mark.parametrize("name", sorted(rivals.found()))
    def test_every_rival_learns_a_rotation_far_better_than_chance(self, name, source, target):
        draw = torch.Generator().manual_seed(0)
        x = torch.nn.functional.normalize(torch.randn(400, source, generator=draw), dim=1)
        y = x @ torch.linalg.svd(torch.randn(source, target, generator=draw), False)[0]
        y = y[:, :target] if target <= source else torch.nn.functional.pad(y, (0, target - source))
        predicted = rivals.found()[name](x[:300], y[:300])(x[300:])
        assert predicted.shape == (100, target)
        assert (
            torch.nn.functional.cosine_similarity(predicted, y[300:]).mean() > 0.3
        )  # unrelated: 0


class TestCells:
    def cell(self, log):
        def compute(methods):
            log.append([method.name for method in methods])
            return {method.name: {"a>b": {"R@1": 1.0}} for method in methods}

        return Cell(
            "one",
            {"kind": "pair", "pair": ["a", "b"], "anchors": 3, "draw": 0},
            compute,
            lambda m: True,
        )

    def test_only_methods_that_are_missing_are_computed(self, tmp_path):
        log = []
        old, new = (Method(name, "ours", plain(lambda x, y: same)) for name in ("old", "new"))
        store = Store("data", root=tmp_path)
        assert store.fill(self.cell(log), [old])
        assert store.fill(self.cell(log), [old, new])
        assert not store.fill(self.cell(log), [old, new])
        assert log == [["old"], ["new"]]
        assert list(store.read()[0]["results"]) == ["old", "new"]

    def test_a_file_that_was_cut_off_is_never_left(self, tmp_path):
        def fail(methods):
            raise KeyboardInterrupt

        method = Method("old", "ours", plain(lambda x, y: same))
        with pytest.raises(KeyboardInterrupt):
            Store("data", root=tmp_path).fill(Cell("one", {}, fail, lambda m: True), [method])
        assert not list(tmp_path.rglob("*.json"))

    def test_published_cells_are_whole_and_not_computed_again(self, tmp_path):
        log = []
        old, new = (Method(name, "ours", plain(lambda x, y: same)) for name in ("old", "new"))
        store = Store("data", root=tmp_path)
        store.fill(self.cell(log), [old])
        before = store.read()
        store.publish()
        assert store.read() == before
        assert not list(store.folder.iterdir())
        assert not Store("data", root=tmp_path).fill(self.cell(log), [old])
        assert store.fill(self.cell(log), [old, new])
        store.publish()
        assert log == [["old"], ["new"]]
        (cell,) = store.read()
        assert list(cell["results"]) == ["old", "new"]

    def test_a_method_that_has_changed_can_be_computed_anew(self, tmp_path):
        log = []
        old, other = (Method(name, "ours", plain(lambda x, y: same)) for name in ("old", "other"))
        store = Store("data", root=tmp_path)
        store.fill(self.cell(log), [old, other])
        store.publish()
        assert store.fill(self.cell(log), [old, other], again=["old"])
        assert not store.fill(self.cell(log), [old, other], again=["old"])  # it is newer now
        assert log == [["old", "other"], ["old"]]

    def test_scores_that_some_methods_lack_and_numbers_alone_survive_publishing(self, tmp_path):
        results = {
            "native": {"a>b": {"P@10": 0.123456}, "b>a": {"P@10": 1.0, "accuracy": 0.5}},
            "joint": {"a": 0.25},
        }
        store = Store("data", root=tmp_path)
        facts = {"kind": "pair", "pair": ["a", "b"], "anchors": 3, "draw": 0}
        method = Method("joint", "ours", plain(lambda x, y: same))
        store.fill(Cell("one", facts, lambda methods: results, lambda m: True), [method])
        store.publish()
        rounded = {**results, "native": {**results["native"], "a>b": {"P@10": 0.12346}}}
        assert store.read() == [{"name": "one", **facts, "results": rounded}]


class TestLabelledMethods:
    def test_they_are_told_the_anchors_classes_and_score_where_classes_are_asked(self):
        labels = [n % 3 for n in range(len(X))]
        sides = {name: Side(X, X, asking=Queries(X, X, X)) for name in "ab"}
        data = Data("d", "Data", sides, labels, labels, query="titles")
        told = []

        def fit_both(x, y, labels=()):
            told.append((x, labels))
            return plain(lambda x, y: same)(x, y)

        method = Method("by classes", "ours", fit_both, labelled=True)
        pair = pair_cell(data, "a", "b", 20, 0, mixed=False)
        assert pair.accepts(method)
        pair.compute([method])
        ((anchors, classes),) = told
        rows = (anchors[:, None] == X).all(2).float().argmax(1).tolist()
        assert classes == [labels[row] for row in rows]
        for other in (*joint_cells(data, 20, 0), *query_cells(data, "a", "b", 20, 0)):
            assert not other.accepts(method)


class TestMixedIndex:
    def test_a_share_of_the_items_is_the_new_encoders(self):
        labels = [n % 3 for n in range(len(X))]
        data = Data("d", "Data", {"a": Side(X, X)}, labels, labels)
        old, new = X, X.roll(1, dims=1)
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
        found = mix(data, Search(old, new), order)
        half = old.clone()
        half[order[:60]] = new[order[:60]]
        for share, index in ((0.0, old), (0.5, half), (1.0, new)):
            for asking, queries in (("old", old), ("new", new)):
                nearest = neighbours(Search(queries, index))
                expected = of_the_same_class(nearest, data.same_class)
                assert found[mixed_score(share, asking)] == pytest.approx(expected)


class TestNative:
    def test_an_encoder_of_two_languages_finds_its_items_in_the_other(self):
        labels = [n % 2 for n in range(len(X))]
        both, one = Side(X, X, other_language=X), Side(X, X)
        data = Data("d", "Data", {"both": both, "one": one}, labels, labels)
        assert native(data, "both")["R@1"] == 1.0
        assert "R@1" not in native(data, "one")


class TestReport:
    def test_whoever_is_within_one_standard_error_of_the_best_is_marked(self):
        keys = range(4)
        column = {
            "best": dict.fromkeys(keys, 0.6),
            "near": dict(zip(keys, (0.64, 0.55, 0.62, 0.57), strict=True)),
            "far": dict.fromkeys(keys, 0.59),
        }
        assert best_of(column) == {"best", "near"}

    def test_an_index_of_other_encoders_than_the_first_is_in_no_table(self):
        cells = [{"encoders": [*names]} for names in ("abc", "ab", "abcde", "acd", "abcd", "ac")]
        assert first_encoders(cells) == [cells[0], cells[1], cells[2], cells[4]]
        assert first_encoders([]) == []

    def test_scores_are_gathered_by_direction_and_draw(self):
        cells = [
            {
                "pair": ["a", "b"],
                "anchors": 3,
                "draw": draw,
                "results": {"native": {}, "ortho": {"a>b": {"R@1": 0.1}, "b>a": {"R@1": 0.2}}},
            }
            for draw in range(2)
        ]
        found = gather(cells, lambda result: result["R@1"], each=True)["ortho"]
        assert sorted(found.values()) == [0.1, 0.1, 0.2, 0.2]

    def test_an_encoder_that_knows_both_languages_is_shown_without_a_map(self):
        scores = {"a>b": {"R@1": 0.1}, "b>a": {"R@1": 0.2}}
        methods = ("ortho", "shared space", "shared space, auto", "shared space, hubs")
        native = {"a>b": {"P@10": 0.5, "R@1": 0.4}, "b>a": {"P@10": 0.5}}
        results = {"native": native} | dict.fromkeys(methods, scores)
        cell = {"pair": ["a", "b"], "anchors": 3, "draw": 0, "results": results}
        _, table = pair_table("Data", [cell])
        assert table.rows[-1][:3] == ["b → itself, on the others' texts", "no map", "0.400"]

    def test_the_best_of_a_pair_is_marked_and_named(self):
        found = {"ortho": 0.3, "linear": 0.4, "shared space, auto": 0.4, "shared space, hubs": 0.1}
        results = {name: {"a>b": {"R@1": r}} for name, r in {**found, "shared space": 0.2}.items()}
        cell = {"pair": ["a", "b"], "anchors": 3, "draw": 0}
        _, table = pair_table("Data", [{**cell, "results": {**results, "native": {"a>b": {}}}}])
        assert table.rows == [["a → b", "linear", "**0.400**", "0.200", "**0.400**", "0.100"]]


@pytest.mark.slow
class TestCellsOfATable:
    CELLS = tuple(
        {"pair": pair, "anchors": anchors, "draw": draw}
        for anchors, draw, pairs in [(300, 0, 3), (300, 1, 1), (1000, 0, 3), (3000, 0, 2)]
        for pair in (["a", "b"], ["a", "c"], ["b", "c"])[:pairs]
    )

    def test_a_draw_that_some_pairs_lack_is_left_out(self):
        found = complete_draws(self.CELLS)
        assert {(cell["anchors"], cell["draw"]) for cell in found} == {(300, 0), (1000, 0)}
        assert len(found) == 6

    def test_one_number_of_anchors_stands_for_all(self):
        assert {cell["anchors"] for cell in at_full(self.CELLS)} == {1000}
        assert {cell["anchors"] for cell in at_full(self.CELLS[:4])} == {300}
        assert at_full([]) == []


def test_a_quick_run_prints_every_table(capsys):
    assert benchmark.main(["quality", "--quick"]) == 0
    printed = capsys.readouterr().out
    for title in ("one index for 2 encoders", "look for their document", "re-encoded", "each pair"):
        assert title in printed
    assert printed.count("shared space") >= 5


class TestPublished:
    def test_the_first_table_is_that_of_all_published_results(self):
        by_title = {
            source.title: list(cells.values())
            for name, source in SOURCES.items()
            if (cells := published_cells(MEASURED / f"{name}.jsonl"))
        }
        section = Section("quality")
        section.add(*choice_table(by_title))
        assert section.texts[0] in PAGE.read_text(encoding="utf-8")

    @pytest.mark.parametrize("path", sorted(MEASURED.glob("*.jsonl")), ids=lambda path: path.stem)
    def test_the_tables_are_those_of_the_published_results(self, path):
        source, section = SOURCES[path.stem], Section(path.stem)
        cells = list(published_cells(path).values())
        encoders = {name for cell in cells for name in cell.get("pair", cell.get("encoders"))}
        assert encoders == source.encoders.keys()
        add_tables(section, source.title, source.query, cells)
        assert "\n\n".join(section.texts) in PAGE.read_text(encoding="utf-8")


class TestSearches:
    def test_a_method_is_searched_about_the_mean_or_not_whichever_is_better_for_it(self):
        results = {
            "plain is better": {
                "a>b": {"R@1": 0.2, "R@1, raw": 0.3},
                "b>a": {"R@1": 0.5, "R@1, raw": 0.6},
            },
            "centred is better": {
                "a>b": {"R@1": 0.2, "R@1, raw": 0.3},
                "b>a": {"R@1": 0.5, "R@1, raw": 0.1},
            },
            "moves both": {"a>b": {"R@1": 0.4}, "b>a": {"R@1": 0.4}},
        }
        cell = {"pair": ["a", "b"], "anchors": 100, "draw": 0, "results": results}
        found = scores_of([cell], "R@1")
        assert {name: sorted(values.values()) for name, values in found.items()} == {
            "plain is better": [0.3, 0.6],
            "centred is better": [0.2, 0.5],
            "moves both": [0.4, 0.4],
        }


class TestLeads:
    def column(self, **scores):
        return {name.replace("_", ", "): dict(enumerate(found)) for name, found in scores.items()}

    def test_auto_is_ahead_if_it_leads_every_rival_by_more_than_one_error(self):
        column = self.column(auto_ranking=[0.5, 0.6], ortho=[0.4, 0.49], linear=[0.3, 0.3])
        lead, standing = least_lead(column, "auto, ranking")
        assert lead == pytest.approx(0.105)
        assert standing == "ahead"

    def test_one_rival_that_leads_is_enough_to_be_behind(self):
        column = self.column(auto_ranking=[0.5, 0.6], ortho=[0.51, 0.611], linear=[0.3, 0.3])
        assert least_lead(column, "auto, ranking")[1] == "behind"

    def test_within_one_error_they_are_level_and_our_own_maps_are_no_rivals(self):
        column = self.column(auto_ranking=[0.5, 0.6], ortho=[0.52, 0.57], kernel=[0.9, 0.9])
        assert least_lead(column, "auto, ranking")[1] == "level"

    def test_a_rival_with_fewer_draws_is_compared_on_those(self):
        column = self.column(auto_ranking=[0.5, 0.6, 0.0, 0.0], ortho=[0.4, 0.49])
        assert least_lead(column, "auto, ranking")[1] == "ahead"
