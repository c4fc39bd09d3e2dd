"""What the scripts of the experiments share: tables, the page they write, methods and scores."""

import numpy as np
import pytest
import reproduce
import torch
from benchmarks.engines import Timing, cost_of
from benchmarks.engines import table_of as table_of_engines
from common import ROOT, Table
from experiments import methods
from experiments.crossing import accuracy, majority, recall_at_1
from experiments.migrate import Shown, short_table, table_of
from experiments.results_page import Section, write_section
from experiments.views import digit_views, load_views
from tiny_models import bert_repo, sentence_repo, text_dataset_repo


def test_a_table_shows_mean_and_sample_deviation_of_several_seeds():
    values = [0.9, 0.92, 0.97]
    table = Table(["method", "accuracy", "note"])
    table.add("ortho", [values, "three"])
    table.add("native", [0.95, ""])
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert str(table).splitlines() == [
        "method       accuracy   note",
        f"ortho   {mean:.3f} ± {deviation:.3f}  three",
        "native          0.950",
    ]
    assert (
        table.to_markdown().splitlines()[2] == f"| ortho | {mean:.3f} ± {deviation:.3f} | three |"
    )


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match=r"needs 2 cells under \['a', 'b'\], got 1"):
        Table(["", "a", "b"]).add("row", [0.5])


def test_a_section_replaces_what_stands_between_its_own_markers_only(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nBy hand.\n")
    write_section(page, "first", "old")
    write_section(page, "second", "kept")
    page.write_text(page.read_text() + "\nBelow, by hand.\n")
    write_section(page, "first", "new")
    assert page.read_text() == (
        "# Results\n\nBy hand.\n\n<!-- begin first -->\nnew\n<!-- end first -->\n\n"
        "<!-- begin second -->\nkept\n<!-- end second -->\n\nBelow, by hand.\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin a -->\n",
        "<!-- end a -->\n",
        "<!-- end a -->\n<!-- begin a -->\n",
        "<!-- begin a -->\n<!-- end a -->\n" * 2,
    ],
)
def test_a_page_with_broken_markers_is_refused_and_left_alone(tmp_path, text):
    page = tmp_path / "results.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="once"):
        write_section(page, "a", "new")
    assert page.read_text() == text


def test_a_written_section_tells_how_to_print_it_again(tmp_path, capsys):
    section = Section("made-up")
    table = Table(["", "accuracy"])
    table.add("ortho", [0.5])
    section.add("From a to b", table)
    section.write("python scripts/made_up.py --write", page=tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text()
    assert "ortho     0.500" in capsys.readouterr().out
    for part in ("| ortho | 0.500 |", "`python scripts/made_up.py --write`", "hf_latent_bridge 0."):
        assert part in text


def test_quick_numbers_cannot_be_written():
    with pytest.raises(SystemExit):
        reproduce.main(["generation", "--quick", "--write"])


def test_anchors_are_drawn_without_replacement_and_the_smaller_draw_begins_the_larger():
    few, many = (methods.draw_anchors(100, n, seed=3) for n in (10, 60))
    assert len(set(many.tolist())) == 60
    assert torch.equal(few, many[:10])
    with pytest.raises(ValueError, match="101 anchors need as many rows"):
        methods.draw_anchors(100, 101, seed=0)


def test_relative_representations_do_not_change_when_the_space_is_turned_and_scaled():
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(
        methods.relative(x, x[:5]), methods.relative(3 * x @ turn, 3 * x[:5] @ turn)
    )
    assert methods.relative(x, x[:5]).diagonal().tolist() == pytest.approx([1] * 5)


def test_untranslated_latents_are_padded_or_cut():
    x = torch.ones(2, 3)
    assert methods.untranslated(x, 4).tolist() == [[1, 1, 1, 0]] * 2
    assert methods.untranslated(x, 2).tolist() == [[1, 1]] * 2


def test_every_method_recovers_a_turned_space_and_the_scores_say_so():
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    y = x @ turn
    fitted = methods.fit_all(x[:300], y[:300])
    assert recall_at_1(fitted.pop("affine").transform(x[300:]), y[300:]) > 0.2  # 300 steps
    for name, method in fitted.items():
        assert recall_at_1(method.transform(x[300:]), y[300:]) > 0.9, name
    assert recall_at_1(x[300:], y[300:]) < 0.2


@pytest.mark.slow
def test_accuracy_equals_scikit_learns_and_chance_is_the_most_frequent_label():
    from sklearn.metrics import accuracy_score

    from hf_latent_bridge import fit_head

    train, test = digit_views()
    latents = test.latents["wide"]
    head = fit_head(train.latents["wide"], train.labels)
    answers = [answer["label"] for answer in head(latents)]
    expected = accuracy_score(test.labels, answers)
    assert accuracy(head, latents, test.labels) == pytest.approx(expected)
    assert majority([1, 2, 2, 3]) == 0.5
    assert expected > 0.8 > majority(test.labels)


@pytest.mark.slow
def test_views_are_the_same_rows_by_each_encoder_and_come_from_the_cache(tmp_path, monkeypatch):
    from hf_latent_bridge import load_encoder

    monkeypatch.setenv("LATENT_BRIDGE_CACHE", str(tmp_path))
    encoders = {"plain": load_encoder(bert_repo()), "sentence": load_encoder(sentence_repo())}
    views = load_views(text_dataset_repo(), "train", "text", encoders, size=50)
    assert len(views) == 50
    assert {name: tuple(x.shape) for name, x in views.latents.items()} == {
        "plain": (50, 16),
        "sentence": (50, 16),
    }
    for encoder in encoders.values():
        monkeypatch.setattr(type(encoder), "encode", None)
    again = load_views(text_dataset_repo(), "train", "text", encoders, size=50)
    assert torch.equal(again.latents["plain"], views.latents["plain"])
    assert again.labels == views.labels


def test_columns_of_cpu_time_are_called_so_in_every_page_with_the_table():
    moved = [Shown("npy", 2, 4.0, 3.0, 1.0, (0.9, 0.8, 1.0), 7.0, (1.0, 1.0, 1.0))]
    timed = {"command line": [Timing(11_000, 5, 7)]}
    whole, short, engines = table_of(moved), short_table(moved), table_of_engines(timed)
    assert [(n, c) for n, c in zip(whole.header, whole.rows[0], strict=True) if "CPU" in n] == [
        ("moving, CPU s", "4.0"),
        ("rows/CPU s", "0"),
        ("bare copy, rows/CPU s", "1"),
        ("comparing, CPU s", "1.0"),
    ]
    for table, pages in (
        (whole, ["docs/migrating.md", "docs/results.md"]),
        (short, ["README.md"]),
        (engines, ["docs/scale.md"]),
        (cost_of(timed), ["docs/scale.md"]),
    ):
        columns = table.to_markdown().splitlines()[0].replace(" ", "")
        for page in pages:
            lines = (ROOT / page).read_text(encoding="utf-8").replace(" ", "").splitlines()
            assert columns in lines, page
    assert "rows/CPU s" in short.header
    assert "rows/CPU s" in engines.header
