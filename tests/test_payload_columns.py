"""Payloads kept as Arrow columns are the objects that they stand for."""

import pyarrow as pa
import pytest

from hf_latent_bridge.vectors.stores.arrow_payload import Columns

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


N = 60
FIRST = pa.table(
    {
        "time": pa.array(range(N), pa.time64("ns")),
        "when": pa.array([10**18 + i for i in range(N)], pa.timestamp("ns")),
        "long": pa.array(range(1, N + 1), pa.duration("ns")),
        "far": pa.array([3_000_000 + i for i in range(N)], pa.int32()).cast(pa.date32()),
        "later": pa.array([400_000_000_000 + i for i in range(N)], pa.timestamp("s")),
        "part": pa.array(
            [{"x": i, "y": [float("nan")] * (i % 3)} if i % 5 else None for i in range(N)]
        ),
        "nan": [float("nan") if i % 2 else float(i) for i in range(N)],
        "kind": pa.array([f"c{i % 5}" for i in range(N)]).dictionary_encode(),
        "map": pa.array([[("k", i)] for i in range(N)], pa.map_(pa.string(), pa.int64())),
        "kinds": pa.ListArray.from_arrays(
            pa.array(range(N + 1), pa.int32()),
            pa.array([f"c{i % 7}" for i in range(N)]).dictionary_encode(),
        ),
        "bytes": pa.array([b"abcd"] * N, pa.binary(4)),
        "null": pa.nulls(N),
    }
)


def test_rows_from_several_pages_are_gathered_and_compared_without_python_objects():
    first, second = Columns(FIRST[:25]), Columns(FIRST[25:])
    again = Columns(FIRST.take(list(range(N - 1, -1, -1))))  # other dictionaries, other places
    places = [*((first, row) for row in range(25)), *((second, row) for row in range(N - 25))]
    assert Columns.gathered(places) == Columns(FIRST)
    assert Columns.gathered(places[::-1]) == again
    assert Columns(FIRST).take([7, 3]) == Columns.gathered([places[7], places[3]])
    assert len(Columns(FIRST).take([])) == 0


@pytest.mark.parametrize("name", ["time", "when", "long", "far", "later", "part", "kind", "map"])
def test_a_row_that_differs_in_one_value_of_arrow_is_found(name):
    rows = [*range(N)]
    rows[5] = 8
    other = FIRST.set_column(
        FIRST.schema.get_field_index(name), name, FIRST.column(name).take(rows)
    )
    ours, theirs = Columns(FIRST), Columns(other)
    assert ours.is_like(theirs)
    assert [row for row, other in enumerate(ours.differing(theirs)) if other] == [5]
    assert ours != theirs
