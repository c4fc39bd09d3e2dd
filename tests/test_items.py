"""Columns of items in files: every value as it stands there, or a refusal that names the row."""

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from vector_files import cells, content, gzipped, lines

from hf_latent_bridge.cli.items import read_columns
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError

ROWS = [{"id": "007", "text": "NA"}, {"id": "1e3", "text": "2024-01-31"}, {"id": "8", "text": ""}]
TABLE = [["id", "text"], *(list(row.values()) for row in ROWS)]
READ = {
    "a.jsonl": lines(ROWS),
    "a[1].ndjson": lines(ROWS),
    "a.jsonl.gz": gzipped(lines(ROWS)),
    "lines.json": lines(ROWS),
    "array.json": content(str(ROWS).replace("'", '"')),
    "a.csv": cells(TABLE),
    "a.CSV": cells(TABLE),
    "semicolons.csv": cells(TABLE, ";"),
    "a.tsv": cells(TABLE, "\t"),
    "a.parquet": lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
}
REFUSED = {
    "half.jsonl": (content('{"text": "a"}\n{"text": "b"\n'), 'row 1 is not JSON: \'{"text": "b"\''),
    "list.jsonl": (lines([["a"]]), "row 0 is not an object, but"),
    "none.jsonl": (content(""), "has no rows"),
    "none.csv": (content("text\n"), "has no rows"),
    "none.txt": (content(""), "has no rows"),
    "more.csv": (content("text,id\na,1\nb, or not,2\n"), "row 1 has 3 cells, it must have 2"),
    "latin.csv": (content("text\né\n".encode("latin-1")), "must be UTF-8: save it so"),
    "cut.parquet": (content(b"PAR1"), "not a whole parquet file"),
    "other.csv": (content("id,body\n1,a\n"), r"has the columns \['id', 'body'\], got 'text'"),
    "object.json": (content('{"data": [{"text": "a"}]}'), r"has the columns \['data'\]"),
    "a.pkl": (content(b"\x80"), r"items are read from \.jsonl, .*, got a\.pkl"),
}


@pytest.mark.parametrize("name", READ)
def test_texts_and_ids_are_read_as_they_stand_there(name, tmp_path):
    READ[name](tmp_path / name)
    texts, ids = read_columns(str(tmp_path / name), None, ["text", "id"])
    assert texts == [row["text"] for row in ROWS]
    assert ids == [row["id"] for row in ROWS]


def test_each_line_of_a_text_file_is_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa\r\n\nb\u2028, c".encode())
    assert read_columns(str(tmp_path / "a.txt"), None, ["text"]) == [["a", "", "b\u2028, c"]]


def test_a_value_that_is_missing_is_none(tmp_path):
    lines([{"text": "a"}, {"id": 2}, {"text": None}])(tmp_path / "a.jsonl")
    assert read_columns(str(tmp_path / "a.jsonl"), None, ["text"]) == [["a", None, None]]


def test_pictures_in_a_parquet_file_are_decoded(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    rows = {"image": [Image.new("RGB", (3, 2), "red")]}
    datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "a.parquet"))
    ((picture,),) = read_columns(str(tmp_path / "a.parquet"), None, ["image"])
    assert picture.size == (3, 2)
    assert picture.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_and_the_row_named(name, tmp_path):
    write, telling = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises((InvalidPairsError, InvalidLatentsError), match=telling) as refusal:
        read_columns(str(tmp_path / name), None, ["text"])
    assert name in str(refusal.value)
