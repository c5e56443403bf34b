"""What went in comes out: row by row, and in every format with the same content digest."""

import csv
import io
import json
import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.export import export
from app.kernel.errors import Invalid
from tests.datasets.tables import Tables, ndjson


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


ODD = [
    "",
    "NA",
    "null",
    "?",
    "-",
    "a,b;c\td|e",
    'say "hi"',
    '"',
    '""',
    "two\nlines",
    "two\r\nlines",
    "\r",
    " padded ",
    "\t",
    "'apostrophe",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "007",
    "1e5",
    "true",
    "2020-01-01",
    "é\u2028🎉",
    "\ufeff",
    "\x1f\x7f",
    None,
    "last",
]


def types_of(table):
    """The columns of a table as rules that demand its types."""
    return {name: {"type": type_} for name, type_ in table.types.items()}


def again(tables, table, format_):
    """The table exported, and read again with its types."""
    return tables.ingest(table.exported(format_), format_, columns=types_of(table))


@pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet"])
def test_odd_strings_come_back_as_they_were(tables, format_):
    table = tables.ingest(ndjson([{"s": text, "n": 1} for text in ODD]), "ndjson")
    assert table.column("s") == ODD
    assert again(tables, table, format_).result.digest == table.result.digest
    alone = tables.ingest(ndjson([{"s": text} for text in ODD]), "ndjson")
    assert again(tables, alone, format_).result.digest == alone.result.digest


NAMES = st.text(st.sampled_from('aBé ,;|"=\t\n🎉'), min_size=1, max_size=5).map(
    lambda name: " ".join(name.split())
)
STRINGS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
STAMPS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001 (hypothesis wants it so)
    lambda stamp: stamp.replace(tzinfo=UTC).isoformat()
)
VALUES = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "string": STRINGS | st.sampled_from(ODD[:-2]),
    "datetime": STAMPS,
}


@st.composite
def columns(draw):
    """Columns of one length by name: a type, and values of which some are missing."""
    names = draw(st.lists(NAMES.filter(bool), min_size=1, max_size=4, unique_by=str.casefold))
    rows = draw(st.integers(1, 6))
    made = {}
    for name in names:
        type_ = draw(st.sampled_from(sorted(VALUES)))
        cells = st.lists(st.none() | VALUES[type_], min_size=rows, max_size=rows)
        made[name] = (type_, draw(cells))
    return made


def check_round_trips(made):
    """A table has the same digest after any export that is read again with its types."""
    count = len(next(iter(made.values()))[1])
    rows = [{name: cells[row] for name, (_, cells) in made.items()} for row in range(count)]
    rules = {name: {"type": type_} for name, (type_, _) in made.items()}
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(Path(folder))
        table = tables.ingest(ndjson(rows), "ndjson", columns=rules)
        for name, (type_, cells) in made.items():
            assert type_ == "datetime" or table.column(name) == cells
        for format_ in ("csv", "ndjson", "parquet"):
            assert again(tables, table, format_).result.digest == table.result.digest, format_


def check_inference(made):
    """Without rules, too, a table's NDJSON and Parquet forms are one table."""
    count = len(next(iter(made.values()))[1])
    rows = [{name: cells[row] for name, (_, cells) in made.items()} for row in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(Path(folder))
        table = tables.ingest(ndjson(rows), "ndjson")
        for format_ in ("ndjson", "parquet"):
            copy = tables.ingest(table.exported(format_), format_)
            assert copy.result.digest == table.result.digest, format_
            assert copy.result.columns == table.result.columns


@settings(max_examples=8, deadline=None)
@given(columns())
def test_any_table_has_the_same_digest_after_any_export(made):
    check_round_trips(made)


@settings(max_examples=8, deadline=None)
@given(columns())
def test_inferred_types_do_not_depend_on_the_format(made):
    check_inference(made)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
@settings(max_examples=100, deadline=None)
@given(columns())
def test_many_tables_round_trip_and_infer_alike(made):
    check_round_trips(made)
    check_inference(made)


def test_csv_is_what_other_programs_expect(tables):
    text = 'id,s,when,n,ok\n1,"a,b",2020-01-01T00:00:00.5Z,0.1,true\n2,,,,\n3,"",,1e+300,false\n'
    table = tables.ingest(text)
    assert table.exported("csv").decode() == text
    assert next(csv.DictReader(io.StringIO(text)))["s"] == "a,b"


def test_ndjson_is_strict_json_with_nulls(tables):
    table = tables.ingest('a,b\n1,"x""y"\n2.5,\n')
    lines = table.exported("ndjson").decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1.0, "b": 'x"y'}, {"a": 2.5, "b": None}]


def test_formulas_are_data_unless_the_file_is_for_a_spreadsheet(tables):
    """ASVS 1.2.10: a cell that begins with = + - @ or a tab may run when opened."""
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "fine", None]
    table = tables.ingest(ndjson([{"=f": text, "n": -5} for text in formulas]), "ndjson")
    plain = list(csv.reader(io.StringIO(table.exported("csv").decode(), newline="")))
    assert [row[0] for row in plain] == ["=f", *(text or "" for text in formulas)]
    assert table.column("=f") == formulas
    guarded = table.exported("csv", spreadsheet=True).decode()
    for name, number in list(csv.reader(io.StringIO(guarded, newline="")))[1:]:
        assert not name.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert number == "-5"
    assert guarded.startswith("'=f,n\n")


def test_an_unknown_format_is_refused(tables):
    with pytest.raises(Invalid):
        tables.ingest("a\n1\n").exported("xlsx")


def test_an_export_that_is_given_up_lets_go_of_everything(tables):
    table = tables.ingest("a,b\n" + "1,2\n" * 50_000)
    pieces = export(table.parquet, "csv", work=table.work)
    assert next(pieces) == b"a,b\n"
    assert b"1,2\n" in next(pieces)
    pieces.close()
    table.parquet.unlink()


def test_rows_are_read_in_pages(tables):
    table = tables.ingest("a,b,c\n" + "".join(f"{row},x{row},{row / 2}\n" for row in range(5000)))
    names, rows = table.page(offset=4000, limit=2, columns=["c", "a"])
    assert names == ["c", "a"]
    assert rows == [{"c": 2000.0, "a": 4000}, {"c": 2000.5, "a": 4001}]
    assert len(table.page(offset=4990, limit=100)[1]) == 10
    assert table.page(offset=5000, limit=100)[1] == []
    seen = [
        row["a"]
        for offset in range(0, 5000, 700)
        for row in table.page(offset=offset, limit=700, columns=["a"])[1]
    ]
    assert seen == list(range(5000))


def test_pages_of_large_rows_are_shorter_but_never_empty(tables):
    big = "x" * 3_000_000
    table = tables.ingest("a,b\n" + f"{big},1\n" * 10)
    pages = [len(table.page(offset=0, limit=limit)[1]) for limit in (1, 10)]
    assert pages == [1, 5]


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"offset": -1, "limit": 1}, "?limit"),
        ({"offset": 0, "limit": 0}, "?limit"),
        ({"offset": 0, "limit": 10_001}, "?limit"),
        ({"offset": 0, "limit": 1, "columns": ["a", "z"]}, "?columns"),
    ],
)
def test_pages_that_do_not_exist_are_refused(tables, asked, pointer):
    with pytest.raises(Invalid) as refusal:
        tables.ingest("a\n1\n").page(**asked)
    assert refusal.value.errors[0].pointer == pointer


def test_floats_keep_every_bit(tables):
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, -1e-7, 123456.789e-3]
    table = tables.ingest(ndjson([{"x": number} for number in numbers]), "ndjson")
    for format_ in ("csv", "ndjson"):
        assert again(tables, table, format_).column("x") == numbers
    assert all(map(math.isfinite, table.column("x")))


def test_wide_tables_come_back_whole(tables):
    header = ",".join(f"c{number}" for number in range(200))
    rows = "".join(
        ",".join(str(row * column) for column in range(200)) + "\n" for row in range(2100)
    )
    table = tables.ingest(f"{header}\n{rows}")
    assert table.exported("csv").decode() == f"{header}\n{rows}"
    assert again(tables, table, "ndjson").result.digest == table.result.digest
