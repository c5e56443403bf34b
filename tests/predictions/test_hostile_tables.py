"""Arrow streams and CSV that an attacker made: refused soon, within bounds, never our fault."""

import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from app.kernel.arrow.flatbuffer import Longs, Scalar, written
from app.kernel.arrow.stream import ArrowStream
from app.kernel.arrow.writer import stream_of
from app.kernel.errors import ServiceError
from app.predictions.arrow_input import read_arrow
from app.predictions.csv_input import read_csv
from app.predictions.media_types import ARROW, CSV
from tests.predictions.predicting import SIGNATURE
from tests.problems import assert_problem

STREAMS = Path(__file__).parents[1] / "kernel" / "arrow_streams"
MOST_ROWS, MOST_TEXT = 1000, 10**6
KIND = {"i": "integer", "f": "number", "d": "number", "b": "boolean", "m": "datetime"}
REFUSED = {400, 413, 415, 422}
HUGE = (2**62, 2**31 - 1, 2**24, -1, -(2**31), 255)


def inputs_of(stream):
    """A signature that takes the columns of a stream."""
    wanted = {"text": "string", "moment": "datetime", "boolean": "boolean", "integer": "integer"}
    return [
        {"name": field.name, "type": wanted.get(field.kind, "number"), "nullable": True}
        for field in stream.fields
    ]


def mutated(data, chance):
    """Cut, flipped, doubled, or with other numbers where offsets and lengths may stand."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            size = chance.choice("iq")
            at -= at % 4
            number = chance.choice(HUGE) if chance.random() < 0.7 else chance.randrange(200)
            piece = struct.pack(f"<{size}", max(-(2**31), min(number, 2**31 - 1)))
            data[at : at + len(piece)] = piece
        elif kind == 3:
            del data[at : at + chance.choice((1, 8, len(data)))]
        else:
            data[at:at] = data[max(0, at - 64) : at]
        if not data:
            return b""
    return bytes(data)


@pytest.mark.parametrize("name", ["pyarrow", "polars", "compressed", "ours"])
def test_a_broken_stream_is_refused_or_read_whatever_was_broken(name):
    data = (STREAMS / f"{name}.arrows").read_bytes()
    if name == "compressed":
        inputs = [{"name": n, "type": t, "nullable": True} for n, t in (("text", "string"),)]
    else:
        inputs = inputs_of(ArrowStream(data, MOST_TEXT))
    chance, outcomes = random.Random(name), set()
    for _ in range(1500):
        try:
            columns = read_arrow(mutated(data, chance), inputs, MOST_ROWS, MOST_TEXT)
            assert len({len(column) for column in columns.values()}) == 1
            outcomes.add(200)
        except ServiceError as error:
            outcomes.add(error.status)
    assert outcomes & REFUSED
    assert outcomes <= REFUSED | {200}


def message(kind, head, body=b"", length=None):
    told = {
        0: Scalar("short", 4),
        1: Scalar("ubyte", kind),
        2: head,
        3: Scalar("long", len(body) if length is None else length),
    }
    metadata = written(told)
    return struct.pack("<Ii", 0xFFFFFFFF, len(metadata)) + metadata + body


UTF8 = (5, {})
VIEW = (24, {})
INT8 = (2, {0: Scalar("int", 8), 1: Scalar("ubyte", 1)})
NULL = (1, {})


def field(name="island", kind=UTF8, **more):
    slots = {0: name, 2: Scalar("ubyte", kind[0]), 3: kind[1]}
    if "coded" in more:
        slots[4] = {0: Scalar("long", 0), 1: INT8[1]}
    if "children" in more:
        slots[5] = more["children"]
    return slots


def schema(*fields, endian=0):
    return message(1, {0: Scalar("short", endian), 1: list(fields)})


def batch(rows, buffers, body=b"", columns=1, **more):
    head = {0: Scalar("long", rows), 1: Longs([(rows, 0)] * columns), 2: Longs(buffers)}
    if "views" in more:
        head[4] = Longs([(more["views"],)])
    return head, body


def rows_of(*args, **more):
    head, body = batch(*args, **more)
    return message(3, head, body)


def dictionary(*args, delta=0, **more):
    head, body = batch(*args, **more)
    return message(2, {0: Scalar("long", 0), 1: head, 2: Scalar("ubyte", delta)}, body)


def offsets(*numbers, text=b"a" * 100_000):
    """The body of a column of texts, and its buffers."""
    told = struct.pack(f"<{len(numbers)}i", *numbers)
    told += bytes(-len(told) % 8)
    return [(0, 0), (0, 4 * len(numbers)), (len(told), len(text))], told + text


def texts(*numbers, rows=None, **more):
    buffers, body = offsets(*numbers, **more)
    return rows_of(len(numbers) - 1 if rows is None else rows, buffers, body)


VIEWED = struct.pack("<iiii", 100_000, 0, 0, 0) * 1000
CODES = bytes(1000)
BOMBS = {
    "not a stream": (b"ARROW1\0\0", 400),
    "nothing": (b"", 400),
    "only an end": (struct.pack("<Ii", 0xFFFFFFFF, 0), 400),
    "no rows": (schema(field()), 422),
    "a message longer than the body": (struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 8), 400),
    "a body longer than the body": (message(1, {1: [field()]}, length=2**62), 400),
    "a body of negative length": (message(1, {1: [field()]}, length=-8), 400),
    "rows before the schema": (texts(0, 1), 400),
    "big-endian": (schema(field(), endian=1) + texts(0, 1), 400),
    "more rows than values": (schema(field()) + texts(0, 1, rows=900), 400),
    "very many rows": (schema(field()) + texts(0, 1, rows=2**62), 413),
    "very many rows of nothing": (schema(field(kind=NULL)) + rows_of(2**62, []), 413),
    "less than no rows": (schema(field()) + texts(0, 1, rows=-1), 400),
    "rows that make up for others": (schema(field()) + texts(0, rows=-5) + texts(*range(9)), 400),
    "offsets that go back": (schema(field()) + texts(0, 50_000, 0, 50_000), 400),
    "offsets below zero": (schema(field()) + texts(-4, 10), 400),
    "offsets past the text": (schema(field()) + texts(0, 100_001), 400),
    "a buffer past the body": (schema(field()) + rows_of(1, [(0, 0), (0, 8), (2**62, 8)]), 400),
    "a buffer before the body": (schema(field()) + rows_of(1, [(0, 0), (-8, 8), (0, 0)]), 400),
    "no buffers": (schema(field()) + rows_of(1, []), 400),
    "no columns": (schema() + rows_of(1, [], columns=0), 422),
    "columns within a column": (schema(field(children=[field()])) + texts(0, 1), 400),
    "text that is no text": (schema(field()) + texts(0, 2, text=b"\xff\xfe"), 400),
    "many columns": (schema(*[field()] * 10_001) + texts(0, 1), 413),
    "a name without an end": (schema(field("n" * 5000)) + texts(0, 1), 400),
    "views of one text": (
        schema(field(kind=VIEW))
        + rows_of(1000, [(0, 0), (0, 16_000), (16_000, 10**5)], VIEWED + b"a" * 10**5, views=1),
        413,
    ),
    "views of no buffer": (
        schema(field(kind=VIEW)) + rows_of(1000, [(0, 0), (0, 16_000)], VIEWED, views=0),
        413,
    ),
    "more buffers than there are": (
        schema(field(kind=VIEW)) + rows_of(1, [(0, 0), (0, 16)], VIEWED[:16], views=2**62),
        400,
    ),
    "codes of one long text": (
        schema(field(coded=True))
        + dictionary(1, *offsets(0, 100_000))
        + rows_of(1000, [(0, 0), (0, 1000)], CODES),
        413,
    ),
    "codes of no dictionary": (
        schema(field(coded=True)) + rows_of(8, [(0, 0), (0, 8)], bytes(8)),
        400,
    ),
    "codes of no text": (
        schema(field(coded=True))
        + dictionary(1, *offsets(0, 1))
        + rows_of(8, [(0, 0), (0, 8)], b"\x01" * 8),
        400,
    ),
    "codes below zero": (
        schema(field(coded=True))
        + dictionary(1, *offsets(0, 1))
        + rows_of(8, [(0, 0), (0, 8)], b"\xff" * 8),
        400,
    ),
    "dictionaries in deltas": (
        schema(field(coded=True))
        + dictionary(1, *offsets(0, 1), delta=1)
        + rows_of(8, [(0, 0), (0, 8)], bytes(8)),
        415,
    ),
    "very many dictionaries": (
        schema(field(coded=True))
        + dictionary(2**62, *offsets(0, 1))
        + rows_of(8, [(0, 0), (0, 8)], bytes(8)),
        400,
    ),
    "very many messages": (schema(field()) + rows_of(0, [(0, 0), (0, 0), (0, 0)]) * 10_001, 413),
    "bytes behind the end": (
        stream_of({"island": np.array(["a"], dtype=object)}) + bytes(8),
        400,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_forged_stream_is_refused_soon_and_takes_no_memory(name):
    data, status = BOMBS[name]
    island = [{"name": "island", "type": "string", "nullable": True}]
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(ServiceError) as refused:
            read_arrow(data, island, MOST_ROWS, MOST_TEXT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.status == status, refused.value.detail
    assert peak < 20 * 10**6 + 5 * len(data)
    assert time.monotonic() - started < 15


def test_columns_that_share_their_bytes_are_not_multiplied():
    """The same text in a thousand columns would be a thousand times as long, written out."""
    names = [f"c{number}" for number in range(1000)]
    buffers, body = offsets(0, 100_000)
    data = schema(*map(field, names)) + rows_of(1, buffers * 1000, body, columns=1000)
    inputs = [{"name": name, "type": "string", "nullable": True} for name in names]
    with pytest.raises(ServiceError, match="written out"):
        read_arrow(data, inputs, MOST_ROWS, MOST_TEXT)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\n\n", 400),
        (b"mass,island\n", 422),
        (b"mass,island\n1,a\0b\n", 400),
        (b"mass,island\n1,\xff\n", 400),
        (b'mass,island\n1,"a\n', 400),
        (b'mass,island\n1,"a"b\n', 400),
        (b"mass,island\n1," + b"a" * 200_000 + b"\n", 400),
        (b"mass,island\n1\n", 422),
        (b"mass,island\n1,a,2\n", 422),
        (b"mass\n1\n", 422),
        (b"mass,island,wing\n1,a,2\n", 422),
        (b"mass,island,mass\n1,a,2\n", 422),
        (b"," * 100_000 + b"\n1,a\n", 422),
        (b"mass,island\n1e999,a\n", 422),
        (b"mass,island\n0x10,a\n", 422),
        (b"mass,island\n1_0,a\n", 422),
        (b"mass,island\ninf,a\n", 422),
        (b"mass,island\n" + "\u0663".encode() + b",a\n", 422),
        (b"mass,island\n1,\n", 422),
        (b"mass,island\n" + b"1,a\n" * 1001, 413),
        (b"mass,island\n" + b'","' * 100_000, 400),
        (b"mass,island\n" + b'"' * 300_001, 400),
    ],
)
def test_csv_that_does_not_fit_is_refused_soon(body, status):
    started = time.monotonic()
    with pytest.raises(ServiceError) as refused:
        read_csv(body, SIGNATURE["inputs"], MOST_ROWS)
    assert refused.value.status == status
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("model", ["fast", "slow"])
@pytest.mark.parametrize(("kind", "body"), [(ARROW, BOMBS["not a stream"][0]), (CSV, b"\0")])
def test_what_is_broken_is_a_problem_over_http_too(predicting, model, kind, body):
    path = f"/api/v1/models/{model}/predict"
    assert_problem(predicting.client().post(path, data=body, content_type=kind), 400)
