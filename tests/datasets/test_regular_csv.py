"""Files of which all rows are as plain as the first are read a shorter way, with the same end."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.datasets.ingest import byte_source, inference, run, sampling
from app.datasets.ingest.regular import conversion, likely, regular_file
from app.datasets.ingest.regular.columns import Wanted, read_column
from app.datasets.ingest.regular.counts import TextCounts, ValueCounts, keep_within_memory
from app.datasets.ingest.regular.digits import decimal_words
from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.pieces import joined
from app.datasets.ingest.regular.text_blocks import TextBlock
from app.datasets.ingest.stored_table import StoredTable
from app.datasets.ingest.table_engine import open_tables
from tests.datasets.tables import Tables

CELLS = {
    "small": lambda draw: draw.choice(["0", "7", "-3", "12", "NA"]),
    "large": lambda draw: str(draw.randint(-(10**14), 10**15)),
    "wide": lambda draw: str(draw.randint(-(10**9), 10**9)),
    "price": lambda draw: draw.choice(["", "-0.0", "0.5", f"{draw.uniform(-1e4, 1e4):.4f}"]),
    "fine": lambda draw: f"{draw.random():.13f}",
    "word": lambda draw: draw.choice(["a", "bb", "Zürich", "x y", "None", "-", "8 chars!"]),
    "longer": lambda draw: draw.choice(["", "a word or two", "日本語のテキスト", "x" * 64, "abc"]),
    "flag": lambda draw: draw.choice(["true", "FALSE", "True", ""]),
    "day": lambda draw: draw.choice(["2020-02-29", "1999-12-31", "NaT", "2100-03-01"]),
    "moment": lambda draw: draw.choice(
        ["2020-02-29T10:30:01Z", "1066-10-14 23:59:59", "2020-02-29 10:30:01.25Z", ""]
    ),
}


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path)


@pytest.fixture
def ways(monkeypatch):
    """Which files were read the shorter way; any may be, in blocks of some hundred rows."""
    taken = []
    counted = conversion.RegularConversion.counted
    monkeypatch.setattr(
        conversion.RegularConversion,
        "counted",
        lambda self, engine: taken.append("shorter") or counted(self, engine),
    )
    monkeypatch.setattr(likely, "LEAST_BYTES", 0)
    monkeypatch.setattr(regular_file, "_SAMPLE_BYTES", 8_000)
    monkeypatch.setattr(regular_file, "_BLOCK", 20_000)
    return taken


def rows(count, seed=1):
    """CSV rows with a column of every kind."""
    draw = random.Random(seed)
    return [",".join(cell(draw) for cell in CELLS.values()) for _ in range(count)]


def both(tables, monkeypatch, text, **options):
    """A table read the shorter way, or if that is not possible with types guessed by its first
    rows; and the usual way, by all of its rows."""
    monkeypatch.setattr(inference, "_SAMPLE_ROWS", 100)
    shorter = tables.ingest(text, **options)
    monkeypatch.setattr(inference, "_SAMPLE_ROWS", 1_000_000)
    monkeypatch.setattr(run, "may_be_regular", lambda _request: False)
    usual = tables.ingest(text, **options)
    monkeypatch.undo()
    return shorter, usual


def same(shorter, usual):
    """Whether two tables are one; a table's bytes depend on how the engine got its rows."""
    told, wanted = shorter.result.as_json(), usual.result.as_json()
    del told["bytes"], wanted["bytes"]
    assert told == wanted
    for table in (shorter, usual):
        # The shorter way takes the digest of the text that it read, not of what was written.
        with open_tables([table.parquet], work=table.work, memory_bytes=256 << 20) as engine:
            assert StoredTable.open(engine, table.parquet).digest() == told["digest"]
    return True


@pytest.mark.parametrize("most_exact", [100_000, 1_000])
def test_a_regular_file_makes_the_same_table_profile_and_digest(
    tables, ways, monkeypatch, most_exact
):
    monkeypatch.setattr(sampling, "MOST_EXACT_ROWS", most_exact)
    text = "\n".join([",".join(CELLS), *rows(3_000)])

    shorter, usual = both(tables, monkeypatch, text)

    assert same(shorter, usual)
    assert ways == ["shorter"]
    assert shorter.profile("price")["sampled"] == (most_exact == 1_000)


@pytest.mark.parametrize(
    ("type_", "cells"),
    [
        ("integer", "8.5|-0|007|-05|-|--1|+8| 8|12345678901234567|1_0|?|8:|/8|1e3|x|NAN"),
        ("number", "1e3|00.5|-00.5|5.|.5|.|1.2.3|1234567.1.2345|123456789012.5678|-.5"),
        ("number", "1234567890123456|-|--1.5|+1.5| 1.5|1.5 |0x1f|inf|1,5|1.23456789012345678"),
        ("datetime", "2021-02-29|2020-02-29Z|2020-02-29T10:30:01+02:00|2020-02-29T24:00:00"),
        ("datetime", "2020-13-01|2020-00-01|2020-01-00|0999-01-01|9999-01-01|2020-02-2|2020-2-29"),
        ("datetime", "2020-02-29T10:30|2020-02-29T10:30:01.|2020-02-29T10:30:01.1234567"),
        ("datetime", "2020-02-29x10:30:01|2020-02-29T10:60:01|2020-02-29T10:30:60|2020/02/29"),
        ("boolean", "yes|1|t| true|truetruetrue"),
        ("string", "a longer text".ljust(65, ".")),
    ],
)
def test_a_cell_that_may_mean_something_else_is_not_read(type_, cells):
    usual = {"integer": "7", "number": "2.5", "datetime": "2020-02-29", "boolean": "true"}
    for cell in cells.split("|"):
        text = f"1;{usual.get(type_, 'abc')}\n1;{cell}\n1;\n".encode()
        with pytest.raises(Irregular):
            read_column(TextBlock(text, 2, ord(";")), 1, type_, Wanted(None))


@pytest.mark.parametrize(
    ("usual", "late"),
    [
        ("7", "8.5"),
        ("2.5", "1e3"),
        ("2020-02-29", "2021-02-29"),
        ("a", '"a""b"'),
        ("2.5", "-0\n1,1e3"),
    ],
)
def test_a_cell_that_is_not_regular_counts_as_ever(tables, ways, monkeypatch, usual, late):
    text = "id,x\n" + f"1,{usual}\n" * 4_000 + f"1,{late}\n"

    assert same(*both(tables, monkeypatch, text))
    assert ways == []


@pytest.mark.parametrize(
    "late", ["1\n", "1,2,3\n", "1,b\0\n", "1,\xff\n", '1,"b\n', "1,a\rb\n", "\n", "1,2,3\n4\n"]
)
def test_a_bad_row_far_below_is_refused_or_skipped_as_ever(tables, ways, late):
    text = b"id,x\n" + b"1,abc\n" * 4_000 + late.encode("latin-1")
    if late == "\n":
        assert tables.ingest(text).result.rows == 4_000
    else:
        with pytest.raises(run.Invalid) as caught:
            tables.ingest(text)
        assert caught.value.errors[0].pointer.startswith("/rows/4001")
    assert ways == []


@pytest.mark.parametrize("late", ["-0", "-0.00", "-123456789012345"])
def test_a_number_far_below_counts_as_ever(tables, ways, monkeypatch, late):
    """One of 15 digits and a sign was "rounded" the usual way alone, which warned of it."""
    assert same(*both(tables, monkeypatch, "id,x\n" + "1,2.5\n" * 4_000 + f"1,{late}\n"))
    assert ways == ["shorter"]


ODD = (
    "-0|+0|-0.0|+5|007|00.5|.5|5.|1e3|-1e-999|1e999|inf|-Infinity|nan|0x1f|1_000|1,5|--5|-|.|?|NA|"
    "-123456789012345|1234567890123456|9007199254740993|9223372036854775807|-9223372036854775808|"
    "9223372036854775808|0.12345678901234567|123456789012345.6|\u0663|\u20095|\u00a05| 5|5\t|"
    "0001-01-01|9999-12-31T23:59:59-12:00|2020-02-29T24:00|2020-02-29T23:59:60|2020-02-29T10:30|"
    '2020-02-29 10:30:01+0230|2020-02-29T10:30:01.1234567Z|2020-02-29z|TRUE|yes|"NA"|""|"a""b"|a"b|'
    "\ufeff|\u2028|\x1f|\\N|"
)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_cells_make_the_same_table_either_way(tmp_path_factory, data):
    cell = data.draw(
        st.sampled_from(
            [
                st.integers(-(10**17), 10**17).map(str),
                st.decimals(-(10**8), 10**8, allow_nan=False, places=3).map(str),
                st.floats(allow_nan=False, allow_infinity=False).map(repr),
                st.datetimes().map(str),
                st.text("aé ~-0123456789.:Te+NA", max_size=20),
                st.sampled_from(["true", "false", "", "NA", "1", "x"]),
            ]
        )
    )
    usual = data.draw(st.lists(cell, min_size=1, max_size=8))
    late = data.draw(st.lists(cell | st.sampled_from(ODD.split("|")), max_size=3))
    end = data.draw(st.sampled_from(["\n", "\n", "\r\n"]))
    lines = [f"1;{text}" for text in [*usual * (600 // len(usual)), *late, *usual]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likely, "LEAST_BYTES", 0)
        patch.setattr(regular_file, "_SAMPLE_BYTES", 2_000)
        patch.setattr(regular_file, "_BLOCK", data.draw(st.integers(100, 3_000)))
        patch.setattr(byte_source, "PIECE", data.draw(st.integers(50, 3_000)))
        folder = Tables(tmp_path_factory.mktemp("any"))
        assert same(*both(folder, patch, end.join(["id;x", *lines]), on_error="quarantine"))


def test_columns_of_too_many_values_are_counted_in_the_table(tables, ways, monkeypatch):
    monkeypatch.setattr("app.datasets.ingest.regular.counts._MOST_BYTES", 30_000)
    lines = [f"{number * 7},{number % 3},n{number},{number / 8}" for number in range(5_000)]

    assert same(*both(tables, monkeypatch, "\n".join(["a,b,c,d", *lines])))
    assert ways == ["shorter"]


def test_what_takes_most_memory_is_given_up_first():
    few, many, texts = ValueCounts(), ValueCounts(), TextCounts()
    for _ in range(12):
        few.add((np.arange(3), np.ones(3, np.int64)))
        many.add((np.arange(100_000), np.ones(100_000, np.int64)))
        texts.add({b"a text of some length": 2})
        keep_within_memory([few, many, texts])
    assert few.total()[1].tolist() == [12, 12, 12]
    assert texts.total() == {b"a text of some length": 24}
    assert not many.given_up
    for part in range(40):
        many.add((np.arange(100_000) + part * 100_000, np.ones(100_000, np.int64)))
        keep_within_memory([few, many, texts])
    assert (few.given_up, many.given_up, texts.given_up) == (False, True, False)


def test_what_a_progress_raises_ends_the_shorter_way(tables, ways):
    def cancel(fraction, step):
        if step == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.ingest("\n".join(["a,b", *["1,2"] * 5_000]), progress=cancel)
    assert tables.left() == []


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1))
def test_integers_are_written_as_their_digits(numbers):
    text = joined([*decimal_words(np.array(numbers, np.int64)), b"\n"], len(numbers))
    assert text.decode().split() == [str(number) for number in numbers]


_MEASURED = """
import sys
from pathlib import Path
from app.datasets.ingest.run import ingest
from app.datasets.ingest_request import IngestRequest
from benchmarks.measured import own_peak
source, work = map(Path, sys.argv[1:])
request = IngestRequest(source, "csv")
with own_peak() as held:
    ingest(request, parquet=work / "table", rejects=work / "rejects", work=work)
print(held.bytes)
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_large_files_of_different_values_take_little_memory(tmp_path):
    source = tmp_path / "source.csv"
    with source.open("w") as file:
        file.write("id,half,name,moment\n")
        for number in range(3_000_000):
            second = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
            file.write(f"{number * 97},{number / 2},name {number},2020-01-02T{second}Z\n")

    command = [sys.executable, "-c", _MEASURED, str(source), str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)

    # The engine takes a program without a file for a person at a terminal: its bar comes before.
    assert int(told.stdout.split()[-1]) <= 400 << 20
