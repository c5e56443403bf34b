"""The short way to read records says what the strict one says, or nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from app.kernel.errors import ServiceError
from app.kernel.http.bodies import decode_json
from app.streams.records.decoding import new_record, plain_records
from app.streams.records.schemas import RecordsIn

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
TEXTS = st.text(max_size=5) | st.sampled_from(["", "a", "x" * 201, "x" * 1001, "AA==", "A"])
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "value": JSON,
        "value_base64": TEXTS,
        "key": TEXTS | st.none(),
        "key_base64": TEXTS,
        "headers": st.dictionaries(st.sampled_from(["a", "a-b", "a b", "", "ü"]), TEXTS),
        "id": TEXTS | st.none(),
        "partition": st.sampled_from([None, 0, 63, 64, -1, 1.0, True, "1"]),
        "timestamp": st.sampled_from(["2013-01-01T00:00:00Z", "2013-01-01", "0001-01-01T00:00Z"]),
        "other": JSON,
    },
)


def strictly(body):
    """The records by the strict reader and the schema; None: refused."""
    try:
        told = decode_json(body)
        loaded = RecordsIn().load(told if isinstance(told, dict) else {})
    except (ServiceError, ValidationError):
        return None
    return [new_record(record) for record in loaded["records"]]


def agree(body):
    plain = plain_records(body)
    if plain is not None:
        assert plain == strictly(body), body
    return plain is not None


@given(st.fixed_dictionaries({"records": st.lists(RECORD, max_size=3)}), st.booleans())
def test_what_the_short_way_reads_is_what_the_strict_one_reads(body, escaped):
    agree(json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "value",
    [
        r'{"a": 1, "a": 2}',
        r'{"a": 1, "a": "\u003a"}',
        r'{"a\u0000": 1}',
        '"\\ud800"',
        "9223372036854775808",
        "-9223372036854775809",
        "1e999",
        "NaN",
        "[" * 99 + "]" * 99,
        '{"a":' * 99 + "1" + "}" * 99,
        '"\t"',
        "1 2",
        "",
    ],
)
def test_what_the_strict_reader_refuses_is_left_to_it(value):
    body = b'{"records": [{"value": ' + value.encode() + b"}]}"

    assert strictly(body) is None
    assert plain_records(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"records": [{"value": 1}], "records": [{"value": 2}]}',
        b'{"records": [{"value": 1, "value": 2}]}',
        b'{"records": [{"value": 1}], "more": 1}',
        b"[]",
        b'{"records": {}}',
        b'\xff{"records": [{"value": 1}]}',
    ],
)
def test_a_body_of_another_shape_is_left_to_the_strict_reader(body):
    assert plain_records(body) is None


def test_usual_bodies_go_the_short_way():
    records = [
        {"value": {"a": 1.5, "b": [None, "é:"]}, "key": "JFK", "headers": {"a": "b"}, "id": "1"},
        {"value": None, "key": None, "timestamp": "2013-01-01T00:00:00+02:00"},
        {"value_base64": "AAA=", "key_base64": "", "partition": 3},
    ]
    for escaped in (True, False):
        assert agree(json.dumps({"records": records}, ensure_ascii=escaped).encode())
