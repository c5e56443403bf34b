"""The short decoder: never another verdict or value than the strict reader's."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from app.kernel.errors import ServiceError
from app.kernel.http.bodies import decode_json
from app.predictions.decoder import RowsDecoder
from app.predictions.inputs import PARTS, read_rows
from app.predictions.schemas import PredictIn

MOST_ROWS = 5
INPUTS = [
    {"name": "mass", "type": "number", "nullable": True},
    {"name": "count:er", "type": "integer", "nullable": False},
    {"name": "é/~ ", "type": "string", "nullable": True},
    {"name": "wild", "type": "boolean", "nullable": True},
    {"name": "at", "type": "datetime", "nullable": True},
]
NAMES = [column["name"] for column in INPUTS]
ROW = [1.5, 2, "a:b", True, "2024-01-01T10:00:00Z"]
DECODER = RowsDecoder(INPUTS, MOST_ROWS)

numbers = st.one_of(
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 5.0, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 1e308]),
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", ":", '":', "a\\b", "\0", "\ud800", "漢字🎉", "2024-02-30", "2024-02-28"]),
)
anything = st.one_of(st.none(), st.booleans(), numbers, texts, st.just([]), st.just({}))
cells = [
    st.one_of(st.none(), numbers, anything),
    st.one_of(numbers, st.integers(-9, 9), anything),
    st.one_of(st.none(), texts, anything),
    st.one_of(st.none(), st.booleans(), anything),
    st.one_of(st.none(), st.sampled_from(["2024-01-01", "2024-01-01t10:00:00.5+05:30"]), anything),
]
KEPT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
sound = [
    st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-9, 9).map(float)),
    st.one_of(st.none(), st.text(KEPT, max_size=8)),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.sampled_from(["2024-01-01", "2024-01-01t10:00:00.5+05:30"])),
]
includes = st.lists(st.sampled_from([*PARTS, "other"]), max_size=8)


@st.composite
def bodies(draw, values):
    """A body of either form."""
    rows = draw(st.lists(st.tuples(*values), min_size=1, max_size=MOST_ROWS + 1))
    order = draw(st.permutations(range(len(NAMES))))
    if draw(st.booleans()):
        body = {"inputs": [{NAMES[place]: row[place] for place in order} for row in rows]}
    else:
        turned = [[row[place] for place in order] for row in rows]
        body = {"columns": [NAMES[place] for place in order], "rows": turned}
    return body if draw(st.booleans()) else {**body, "include": draw(includes)}


@st.composite
def texts_of_bodies(draw):
    """A body as clients write JSON, with something cut, doubled or put in here and there."""
    indent, escaped = draw(st.sampled_from([None, 1])), draw(st.booleans())
    text = json.dumps(draw(bodies(cells)), indent=indent, ensure_ascii=escaped)
    for _ in range(draw(st.integers(0, 2))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, ":", "1", ",", "NaN", '"mass": 1,']))
        text = text[:start] + piece + text[end:]
    return text.encode("utf-8", "surrogatepass")


def strictly(body):
    """What the strict reader makes of a body; None for what it refuses."""
    try:
        value = PredictIn().load(decode_json(body))
        return read_rows(value, INPUTS, MOST_ROWS)[0], value.get("include")
    except (ServiceError, ValidationError):
        return None


def shown(read):
    """Values with their types: 1, 1.0 and True are equal."""
    return repr(read)


@settings(max_examples=500, deadline=None)
@given(texts_of_bodies())
def test_what_it_takes_the_strict_reader_takes_as_the_same(body):
    found = DECODER.read(body)
    if found is not None:
        assert shown((found.columns, found.include)) == shown(strictly(body))


@settings(max_examples=150, deadline=None)
@given(bodies(sound).filter(lambda body: len(body.get("inputs") or body["rows"]) <= MOST_ROWS))
def test_it_takes_what_is_sound(body):
    if "include" in body and strictly(json.dumps(body).encode()) is None:
        return
    assert DECODER.read(json.dumps(body, ensure_ascii=False).encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": [ROW], "inputs": [ROW]}',
        '{"inputs": [{"mass": 1, MEMBERS}]}',
        '{"columns": COLUMNS, "columns": COLUMNS, "rows": [VALUES]}',
        '{"columns": COLUMNS, "rows": [VALUES], "rows": [VALUES]}',
        '{"inputs": [ROW], "include": ["label"], "include": ["label"]}',
        '{"inputs": [ROW], "include": []}',
        '{"inputs": [ROW], "columns": COLUMNS, "rows": [VALUES]}',
        '{"inputs": []}',
        '{"inputs": [ROW, ROW, ROW, ROW, ROW, ROW]}',
        '{"inputs": [ROW]} 1',
        '\ufeff{"inputs": [ROW]}',
        '{"columns": ["mass", "mass"], "rows": [[1, 2]]}',
        "[ROW]",
        "",
    ],
)
def test_what_the_strict_reader_refuses_is_left_to_it(text):
    row = json.dumps(dict(zip(NAMES, ROW, strict=True)))
    for name, value in {
        "ROW": row,
        "MEMBERS": row[1:-1],
        "COLUMNS": json.dumps(NAMES),
        "VALUES": json.dumps(ROW),
    }.items():
        text = text.replace(name, value)
    assert strictly(text.encode()) is None
    assert DECODER.read(text.encode()) is None


def test_a_column_whose_name_needs_escapes_is_left_to_the_strict_reader():
    with pytest.raises(ValueError, match="must not contain"):
        RowsDecoder([{"name": 'a"b', "type": "number", "nullable": True}], 5)
