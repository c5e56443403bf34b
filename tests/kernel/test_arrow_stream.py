"""Arrow's streams: read as pyarrow and polars write them, written as those read them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.kernel.arrow.stream import ArrowStream
from app.kernel.arrow.texts import Room, read_texts
from app.kernel.arrow.writer import stream_of
from app.kernel.errors import UnsupportedMediaType
from app.kernel.repeated import Repeated, array_of

STREAMS = Path(__file__).parent / "arrow_streams"
MOST_TEXT = 1000
DAYS = ["2024-02-29", "1970-01-01", "1969-12-31"]
SECONDS = np.array([1, 0, -1])
ALL = {
    "int8": [1, None, -3],
    "uint64": [1, None, 2**63 - 1],
    "int64": [2**60, 1, None],
    "half": [1.5, None, 2.0],
    "float": [1.5, None, 2.0],
    "double": [0.1, None, -2.5],
    "bool": [True, None, False],
    "text": ["a", "", None],
    "large": ["é漢", "x", None],
    "view": ["more than twelve bytes", "x", None],
    "coded": ["b", "a", None],
    "decimal": [125, None, -350],
    "wide": [125, None, -350],
    "date32": np.array(DAYS, dtype="M8[us]"),
    "date64": np.array(DAYS, dtype="M8[us]"),
    "seconds": SECONDS.astype("M8[s]").astype("M8[us]"),
    "zoned": SECONDS.astype("M8[us]"),
    "nanos": SECONDS.astype("M8[ns]").astype("M8[us]"),
    "nothing": [None, None, None],
}


def read(name):
    return ArrowStream((STREAMS / f"{name}.arrows").read_bytes(), MOST_TEXT)


def told(column):
    """A column's values, None where one is missing; moments in microseconds."""
    values, gone = array_of(column.values), column.missing
    if values.dtype.kind == "M":
        values = values.astype("M8[us]")
    return [
        None if gone is not None and gone[row] else value
        for row, value in enumerate(values.tolist())
    ]


def expected(name):
    values = ALL[name]
    if not isinstance(values, np.ndarray):
        return values
    return [None if row == 1 else value for row, value in enumerate(values.tolist())]


@pytest.mark.parametrize("name", ["pyarrow", "polars"])
def test_what_others_write_is_read(name):
    stream = read(name)
    columns = {column.field.name: told(column) for column in stream.read()}
    for column, values in columns.items():
        again = expected(column)[1:] if name == "pyarrow" else []
        assert values == expected(column) + again, column
    assert list(columns) == [name for name in ALL if name in columns]
    assert (stream.rows, len(columns)) == {"pyarrow": (5, 19), "polars": (3, 15)}[name]


def test_types_that_are_not_read_are_told_by_name():
    assert [field.kind for field in read("refused").fields] == [
        *("list", "struct", "map", "binary", "time of day", "duration", "dictionary of integer"),
    ]


def test_compressed_buffers_are_refused_before_they_are_expanded():
    with pytest.raises(UnsupportedMediaType):
        read("compressed")


def test_what_is_written_is_what_pyarrow_and_polars_were_seen_to_read():
    columns = {
        "prediction": np.array(["a", "é漢", ""], dtype=object),
        "probability_a": np.array([0.1, 0.2, 1.0]),
        "cluster": np.array([1, -2, 3]),
        "outlier": np.array([True, False, True]),
    }
    assert stream_of(columns) == (STREAMS / "ours.arrows").read_bytes()


ROWS = st.integers(0, 20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def tables(draw):
    rows = draw(ROWS)
    objects = arrays.arrays(object, rows, elements=TEXTS)
    plain = [arrays.arrays(kind, rows) for kind in (np.int64, np.float64, np.bool_)]
    return draw(st.dictionaries(TEXTS, st.one_of(objects, *plain), min_size=1, max_size=5))


@settings(max_examples=100, deadline=None)
@example({"": np.array(["\0"], dtype=object)})
@given(tables())
def test_what_is_written_is_read_again(table):
    stream = ArrowStream(stream_of(table), 10**6)
    found = {column.field.name: column.values for column in stream.read()}
    assert stream.rows == len(next(iter(table.values())))
    assert list(found) == list(table)
    for name, values in table.items():
        np.testing.assert_array_equal(array_of(found[name]), values)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_few_different_texts_are_what_they_would_be_one_by_one(data):
    different = data.draw(st.lists(TEXTS | st.text("aé漢\0", max_size=4), min_size=1, max_size=4))
    rows = data.draw(st.lists(st.sampled_from(different), min_size=1, max_size=60))
    missing = np.array([data.draw(st.booleans()) for _ in rows])
    lengths = [len(text.encode()) for text in rows]
    offsets, body = np.cumsum([3, *lengths]), ("xyz" + "".join(rows) + "z").encode()

    found = read_texts(offsets, memoryview(body), Room(MOST_TEXT * 10))

    short = max(lengths) <= 8 and "\0" not in "".join(rows)
    assert isinstance(found, Repeated) == (short and len(set(rows)) * 4 <= len(rows))
    if isinstance(found, Repeated):
        assert sorted(found.values) == sorted(set(rows))
        assert found.array().tolist() == rows
        gone = [None if here else text for text, here in zip(rows, missing, strict=True)]
        assert found.without(missing).array().tolist() == gone
    else:
        assert found == rows


def test_a_dictionary_is_few_texts():
    coded = {column.field.name: column for column in read("polars").read()}["coded"]
    assert isinstance(coded.values, Repeated)
    assert coded.values.array().tolist() == list(coded.values) == told(coded)


def test_a_dictionary_may_use_all_numbers_of_its_codes():
    """A row without a text was given a number more, which codes of eight bits don't have."""
    (column,) = read("full").read()
    assert told(column) == ["0", None, "127"] * 50
    assert isinstance(column.values, Repeated)
