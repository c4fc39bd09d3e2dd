"""The cross-modality experiment: honest splits, scores as defined, and an order that is sane."""

from itertools import product

import numpy as np
import pytest
import reproduce
import torch
from experiments import cross_modality as script
from experiments.openclipart import halves_of_digits, hold_out
from experiments.results_page import PAGE

from hf_latent_bridge.metrics import counterpart_ranks, recall_at_k

pytestmark = pytest.mark.slow


def test_held_out_rows_are_of_folders_that_nothing_is_fitted_on():
    groups = np.array(list("aaaabbbccd") * 20)
    known, test = hold_out(groups, 50, seed=1)
    assert sorted([*known, *test]) == list(range(200))
    assert len(test) >= 50
    assert not set(groups[known]) & set(groups[test])
    again = hold_out(groups, 50, seed=1)
    assert all((a == b).all() for a, b in zip((known, test), again, strict=True))


def test_without_groups_exactly_as_many_rows_as_asked_for_are_held_out():
    known, test = hold_out(np.arange(90), 30, seed=0)
    assert (len(known), len(test)) == (60, 30)


def test_the_index_recalls_what_the_ranks_say():
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(80, 5, generator=draw)
    translated = target + torch.randn(80, 5, generator=draw)
    found = script.retrieval(translated, target)
    ranks = counterpart_ranks(translated, target)
    for k in script.RECALLS:
        assert found[f"R@{k}"] == recall_at_k(ranks, k)


def test_chance_is_what_unrelated_latents_score():
    draw = torch.Generator().manual_seed(0)
    found = script.retrieval(*torch.randn(2, 2000, 64, generator=draw))
    assert found == pytest.approx(script.chance(2000), abs=0.004)


def test_a_head_reads_the_largest_classes_alone():
    labels = np.array(["unsorted"] * 50 + [c for c in "abcdefghi" for _ in range(ord(c) - 90)])
    assert script.largest(labels) == list("ihgfedcb")
    head = script.train_head(torch.randn(len(labels), 3), labels)
    assert sorted(head.labels) == list("bcdefghi")


def test_every_translation_of_halves_of_digits_beats_none_and_chance():
    collection = halves_of_digits()
    scores = script.measure(collection, collection.folders, seeds=1, candidates=300)
    for direction in script.DIRECTIONS:
        heads = {
            row: cells[f"{direction}, accuracy"][0]
            for row, cells in scores.items()
            if row != script.SHARED
        }
        found = {row: cells.get(f"{direction}, R@10", [1])[0] for row, cells in scores.items()}
        for method in ("ortho", "linear", "l_ortho", "affine, alpha=0.1"):
            assert heads["native"] > heads[method] > 2 * heads["untranslated"]
            assert found[method] > 3 * max(found["untranslated"], found["chance"])
        assert found[script.SHARED] > max(found["ortho"], found["linear"])


def test_quick_prints_each_table_and_leaves_the_results_page_alone(capsys):
    before = PAGE.read_bytes() if PAGE.exists() else None
    assert reproduce.main(["cross-modality", "--quick", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    for direction, split in product(script.DIRECTIONS, (script.HONEST, script.LEAKY)):
        assert f"{direction}, {split}, 300 candidates" in printed
    assert (PAGE.read_bytes() if PAGE.exists() else None) == before


def test_encoders_of_one_modality_are_refused(capsys):
    assert reproduce.main(["cross-modality", "--encoders", "minilm", "mpnet"]) == 1
    assert "needs one of ['minilm', 'mpnet'] and one of ['mobilenet-v2'" in capsys.readouterr().err
