"""Payloads kept as Arrow columns are the objects that they stand for."""

import pyarrow as pa
import pytest

from hf_latent_bridge.vectors.stores.json_payload import Columns

FIELDS = {"text": ["a", "b", "c"], "n": [1, None, 3]}
OBJECTS = [{"text": "a", "n": 1}, {"text": "b", "n": None}, {"text": "c", "n": 3}]
JSON = {"payload": ['{"text": "a"}', None, "no JSON"]}
UNPACKED = [{"text": "a"}, {"payload": None}, {"payload": "no JSON"}]


@pytest.mark.parametrize(("columns", "objects"), [(FIELDS, OBJECTS), (JSON, UNPACKED)])
def test_columns_are_read_as_a_list_of_objects_is(columns, objects):
    payloads = Columns(pa.table(columns))
    assert list(payloads) == objects
    assert [payloads[row] for row in (0, 2, -3)] == [objects[row] for row in (0, 2, -3)]
    assert payloads[1:] == objects[1:]
    assert len(payloads) == 3
    with pytest.raises(IndexError):
        payloads[3]


def test_rows_without_any_field_are_as_many():
    assert list(Columns(pa.table(FIELDS).select([]))) == [{}, {}, {}]


def test_columns_are_equal_where_their_objects_are():
    payloads = Columns(pa.table(FIELDS))
    as_large = pa.table({**FIELDS, "text": pa.array(FIELDS["text"], pa.large_string())})
    assert payloads == OBJECTS
    assert payloads == Columns(pa.table(FIELDS))
    assert payloads == Columns(as_large)
    assert payloads != Columns(pa.table({**FIELDS, "n": [1, 2, 3]}))
    assert payloads != OBJECTS[:2]
