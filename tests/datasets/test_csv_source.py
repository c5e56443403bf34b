"""CSV as it comes: delimiters, quotes, line ends; what any parser would read, row by row."""

import csv
import io
import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app.datasets.ingest import plain_csv
from app.datasets.ingest.csv_scan import CsvScan, PlainCopy
from app.datasets.ingest.plain_csv import PlainCsv
from app.datasets.ingest.row_errors import RowErrors
from app.datasets.ingest_request import IngestLimits
from app.kernel.errors import ServiceError
from tests.datasets.tables import Tables, ndjson, zipped


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tables, delimiter):
    cells = [["a", "b", "c"], ["1,5", "x;y", "p|q"], ["2", "z", "r\ts"]]
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in cells]
    text = "".join(delimiter.join(row) + "\n" for row in quoted)
    names, *rows = cells
    found = tables.ingest(text, columns={"a": {"type": "string"}}).rows
    assert found == [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a", ["a"]),
        ('"a;b"', ["a;b"]),
        ('"a;b","c;d"', ["a;b", "c;d"]),
        ("a;b,c;d", ["a;b", "c;d"]),
        (' a ,"b"', ["a", "b"]),
        ("e\u0301,=x", ["é", "=x"]),
        ('say "hi",b', ['say "hi"', "b"]),
        ('"""q""",b', ['"q"', "b"]),
        ("file_row_number,rowid,c0,filename", ["file_row_number", "rowid", "c0", "filename"]),
        ("'x', $1, %s", ["'x'", "$1", "%s"]),
    ],
)
def test_names(tables, header, names):
    row = ",".join("1" for _ in names)
    assert list(tables.ingest(f"{header}\n{row}\n").types) == names


def test_an_explicit_delimiter_wins(tables):
    table = tables.ingest("a;b,c\n1;2,3\n", delimiter=",")
    assert table.rows == [{"a;b": "1;2", "c": 3}]


TEXT = 'a,b\n1,"x\ny"\n\n2,""\n3,5" wide\n4, "q"\n5,\n'
KEPT = ["x\ny", "", '5" wide', ' "q"', None]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_lines_quotes_and_blank_lines(tables, end, tail, bom):
    text = bom + TEXT.removesuffix("\n").replace("\n", end) + tail
    found = tables.ingest(text).column("b")
    assert found == [KEPT[0].replace("\n", end), *KEPT[1:]]


def test_lone_carriage_returns_end_lines_where_there_is_nothing_else(tables):
    assert tables.ingest("a,b\r1,x\r2,y\r").rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_mixed_line_ends(tables):
    assert tables.ingest('a,b\r\n1,"x\r\ny"\n2,z\r\n3,"\r"\n').column("b") == ["x\r\ny", "z", "\r"]


def test_quoted_line_ends_at_the_borders_of_the_engines_buffers(tables):
    """Parallel reading fails there; it must not be used, or be given up."""
    value = 'line one\nline "two"\n' * 20
    quoted = value.replace('"', '""')
    text = "a,b\n" + "".join(f'{number},"{quoted}"\n' for number in range(30_000))
    table = tables.ingest(text)
    assert table.result.rows == 30_000
    assert (table.profile("b")["distinct"], table.profile("b")["missing"]) == (1, 0)
    assert table.profile("a")["distinct"] == 30_000
    assert table.rows[0]["b"] == value


def documents(count, size):
    """Rows that hold long texts of many lines."""
    line = 'he said "no",\n' * (size // 14)
    return [{"n": number, "text": f"{number}{line}"} for number in range(count)]


def as_csv(rows):
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("format_", ["csv", "ndjson"])
def test_large_rows_are_not_held_all_at_once(tables, monkeypatch, format_):
    """The engine takes 2,048 rows of a file at once, whatever their size."""
    monkeypatch.setattr(plain_csv, "_PIECE", 1 << 20)
    monkeypatch.setattr(plain_csv, "_BUFFER", 1 << 20)
    rows = documents(1000, 20_000)
    content = as_csv(rows) if format_ == "csv" else ndjson(rows)
    table = tables.ingest(content, format_, memory_bytes=44 << 20)
    assert table.result.rows == 1000
    assert table.rows[:20] == rows[:20]


@pytest.mark.parametrize("format_", ["csv", "ndjson"])
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_file_cut_into_pieces_is_the_same_table(tables, monkeypatch, format_, end):
    rows = documents(50, 100)
    content = as_csv(rows) if format_ == "csv" else ndjson(rows)
    whole = tables.ingest(content, format_)
    monkeypatch.setattr(plain_csv, "_LARGE_ROW", 0)
    for piece in (1, 64, 100, 117, 1000, 1 << 20):
        monkeypatch.setattr(plain_csv, "_PIECE", piece)
        assert tables.ingest(content.rstrip() + end, format_).result == whole.result


def test_rows_keep_their_order_where_several_threads_read(tables):
    """The engine looked words up by a join, and the join mixed up what two threads had read."""
    text = "n,a,t\n" + "".join(
        f"{row},{row if row % 100 else '-'},{'x' * 900}\n" for row in range(12_000)
    )
    table = tables.ingest(text)
    assert table.types["a"] == "integer"
    lines = table.exported("csv").decode().splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == [str(row) for row in range(12_000)]


@pytest.mark.parametrize(
    "failing",
    ["read_csv('nowhere')", "(SELECT * FROM {0} LIMIT 1)", "(FROM {0} UNION ALL FROM {0})"],
    ids=["fails", "loses rows", "repeats rows"],
)
def test_when_reading_in_parallel_goes_wrong_it_is_given_up(tables, monkeypatch, failing):
    whole = PlainCsv.relation

    def relation(csv, nulls, **options):
        sound = whole(csv, nulls, **options)
        return failing.format(sound) if csv.parallel else sound

    monkeypatch.setattr(PlainCsv, "relation", relation)
    text = "a,b\n1,x\n2,y\n"
    assert tables.ingest(text).rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    monkeypatch.setattr(PlainCsv, "relation", lambda *_, **__: "read_csv('nowhere')")
    with pytest.raises(ServiceError) as error:
        tables.ingest(text)
    assert error.value.status == 500
    assert tables.left().count("table.parquet") == 1


def test_a_file_that_is_plain_is_not_copied(tmp_path):
    source, copy = tmp_path / "plain.csv", tmp_path / "copy.csv"
    for text, copied in [
        ('a,b\n1,"x"\n2,"y,""z"""\n', False),
        ("a,b\n1,x", False),
        ('a,b\n1,"x\ny"\n', False),
        ("a,b\n1,x\n\n", True),
        ("a,b\r\n1,x\r\n", True),
        ('a,b\n1,5" x\n', True),
        ("\na,b\n1,x\n", True),
    ]:
        source.write_text(text, newline="")
        scan(source, copy)
        assert copy.exists() == copied, text
        copy.unlink(missing_ok=True)


def scan(source, copy, pieces=None):
    """Scan a file in pieces of so many bytes; the rows it has, and the plain text."""
    content = source.read_bytes()
    size = pieces or len(content)
    with RowErrors(None, 0) as errors, PlainCopy(source, copy) as plain:
        reader = CsvScan(plain, errors, IngestLimits(), None)
        for start in range(0, len(content), size):
            reader.feed(content[start : start + size])
        reader.finish()
    errors.raise_if_fatal()
    return reader, plain.path.read_bytes().removesuffix(b"\n") + b"\n"


CELLS = st.text(st.sampled_from('ab,;"\n\r\té \\'), max_size=6)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    pieces=st.integers(1, 40),
)
def test_the_scan_splits_rows_as_pythons_reader_does(tmp_path, rows, end, quoting, pieces):
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerow(["one", "two"])
    writer.writerows(rows)
    # Python leaves a carriage return bare that isn't part of its line end.
    assume("\r" not in re.sub('"[^"]*"', "", text.getvalue()).replace(end, ""))
    source, copy = tmp_path / "source.csv", tmp_path / "copy.csv"
    copy.unlink(missing_ok=True)
    source.write_text(text.getvalue(), newline="", encoding="utf-8")
    read = list(csv.reader(io.StringIO(text.getvalue(), newline="")))
    reader, plain = scan(source, copy, pieces)
    assert reader.rows == len(rows)
    assert list(csv.reader(io.StringIO(plain.decode(), newline=""))) == read


def test_a_table_of_one_column(tables):
    assert tables.ingest('a\n1\n\nNA\n"2"\n').column("a") == [1, None, 2]


def test_gzip_of_several_members_is_one_file(tables):
    assert tables.ingest(zipped("a,b\n1,") + zipped("2\n3,4\n"), gzip=True).column("b") == [2, 4]


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [
        ("utf-8", "utf-8"),
        ("UTF-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("latin-1", "latin-1"),
        ("windows-1252", "cp1252"),
    ],
)
def test_encodings(tables, encoding, codec):
    text = "näme,b\n" + "é,1\n" * 100_000
    table = tables.ingest(text.encode(codec), encoding=encoding)
    assert (table.result.rows, table.rows[99]) == (100_000, {"näme": "é", "b": 1})
