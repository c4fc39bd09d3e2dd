"""`reproduce.py migrate --quick`: stores are moved, killed twice on the way, and lose nothing."""

import re

import pytest
import reproduce

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning"),
]


def test_stores_and_files_are_moved_though_killed_twice_and_search_keeps_its_answers(capsys):
    kinds = ["sqlite", "qdrant", "faiss", "npy", "parquet"]
    assert reproduce.main(["migrate", "--quick", "--rows", "700", "--stores", *kinds]) == 0
    printed = capsys.readouterr().out
    lines = printed[printed.index("store  ") :].splitlines()[1:]
    cells = {row[0]: row[1:] for row in (re.split(r"  +", line) for line in lines)}
    files = ["FAISS, a file", "a `.npy` file", "a Parquet file"]
    assert list(cells) == ["SQLite", "Qdrant, a folder", *files, "encoding again"]
    del cells["encoding again"]
    for (
        rows,
        rounds,
        moving,
        rate,
        copied,
        share,
        clock,
        comparing,
        *shares,
        retention,
    ) in cells.values():
        assert (rows, rounds) == ("700", "1")
        assert all(re.fullmatch(r"[\d,.]+", cell) for cell in (moving, rate, copied, comparing))
        assert all(share.endswith(" %") for share in (share, clock, *shares))
        assert float(retention.split()[0]) > 0.9


def test_a_store_whose_client_is_not_there_is_refused(capsys):
    assert reproduce.main(["migrate", "--quick", "--stores", "oracle"]) == 1
    assert "got oracle" in capsys.readouterr().out
