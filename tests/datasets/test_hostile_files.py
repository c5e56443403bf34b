"""Files that attack or are broken: refused fast, with row and reason, and nothing is left."""

import json
import time

import duckdb
import pytest

from app.datasets.ingest.table_engine import open_tables
from app.kernel.errors import Invalid, Malformed, TooLarge
from tests.datasets.tables import Tables, ndjson, zipped


@pytest.fixture
def tables(tmp_path):
    """A maker of tables; whatever was refused has left nothing behind."""
    made = Tables(tmp_path)
    yield made
    assert made.left() == []


def refused(tables, content, format_="csv", error=Invalid, **options):
    """The error with which a file is refused."""
    with pytest.raises(error) as refusal:
        tables.ingest(content, format_, **options)
    assert type(refusal.value) is error
    return refusal.value


def code(error):
    """The code of an error that has one reason."""
    (reason,) = error.errors
    return reason.code


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        ("\n\n \r\n", "empty_name"),
        ("\n\n", "empty"),
        ("a,b\n", "no_rows"),
        ("a,b", "no_rows"),
        ("a,b\n\n\r\n", "no_rows"),
        ("a,,b\n1,2,3\n", "empty_name"),
        ("a, ,b\n1,2,3\n", "empty_name"),
        ("a,b,a\n1,2,3\n", "duplicate_name"),
        ("a,b,A\n1,2,3\n", "duplicate_name"),
        ("é,e\u0301\n1,2\n", "duplicate_name"),
        ("a,b\x07\n1,2\n", "control_character"),
        ('a,"b\nc"\n1,2\n', "header"),
        (f"a,{'b' * 201}\n1,2\n", "long_name"),
        ("a,b\0\n1,2\n", "header"),
        (b"a,b\xff\n1,2\n", "header"),
        (zipped("a,b\n1,2\n"), "not_text"),
        (b"PAR1....", "not_text"),
        (b"PK\x03\x04....", "not_text"),
        ("a,b\n1,2\n".encode("utf-16"), "not_utf8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "not_utf8"),
    ],
)
def test_csv_that_is_no_table(tables, content, expected):
    assert code(refused(tables, content)) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1", "ragged"),
        ("1,2,3", "ragged"),
        ('"1"x,2', "text_after_quote"),
        ('"1" ,2', "text_after_quote"),
        ("1,2\0", "nul"),
        ('1,"\0"', "nul"),
        (b"1,\xff", "not_utf8"),
        (b'1,"\xc3"', "not_utf8"),
        ("1,a\rb", "carriage_return"),
    ],
)
@pytest.mark.parametrize("before", [0, 30_000])
def test_a_bad_row_of_csv_is_told_with_its_number(tables, row, expected, before):
    row = row if isinstance(row, bytes) else row.encode()
    content = b"a,b\n" + b'7,"x"\n\n' * before + b"1,2\n" + row + b"\n3,4\n"
    error = refused(tables, content)
    assert code(error) == expected
    assert error.extra["bad_rows"] == 1
    assert error.extra["rows"][0]["row"] == before + 2
    assert error.errors[0].pointer == f"/rows/{before + 2}"


def test_all_bad_rows_are_counted_and_the_first_listed(tables):
    error = refused(tables, "a,b\n" + "1\n" * 5000)
    assert error.extra["bad_rows"] == 5000
    assert len(error.errors) == 100
    assert [row["row"] for row in error.extra["rows"]] == list(range(1, 101))
    error = refused(tables, "a,b\n" + "x,2\n" * 5000, columns={"a": {"type": "number"}})
    assert (error.extra["bad_rows"], len(error.errors)) == (5000, 100)


def test_excerpts_of_values_are_short(tables):
    error = refused(tables, f"a,b\n{'x' * 100_000}\n")
    assert len(json.dumps([error.extra, error.errors[0].as_dict()])) < 1000


@pytest.mark.parametrize(
    ("begun", "piece", "times", "format_"),
    [
        (b'a,b\n1,"', b"x", 20_000_000, "csv"),
        (b'a,b\n1,"', b"x\n", 10_000_000, "csv"),
        (b'a,b\n1,"', b'""', 10_000_000, "csv"),
        (b'a,b\n"1","2"\n3,"', b'x\n""', 5_000_000, "csv"),
        (b"a,b\n1,", b"x", 100_000_000, "csv"),
        (b"", b"a", 100_000_000, "csv"),
        (b"c", b",c%d", 1_000_000, "csv"),
        (b"", b",", 9_000_000, "csv"),
        (b'[{"a": "', b"x", 100_000_000, "json"),
        (b'{"a": "', b"x", 100_000_000, "ndjson"),
        (b"", b"[", 50_000_000, "json"),
        (b'[{"a":', b"[", 50_000_000, "json"),
        (b'{"a":', b"[", 10_000_000, "ndjson"),
    ],
)
def test_endless_lines_quotes_and_headers_are_refused_fast(tables, begun, piece, times, format_):
    pieces = (piece % n for n in range(times)) if b"%d" in piece else [piece * times]
    content = begun + b"".join(pieces) + (b"\n" if b"," in piece else b"")
    start = time.process_time()
    assert len(refused(tables, content, format_).errors) <= 100
    assert time.process_time() - start < 5


def test_too_many_columns(tables):
    header = ",".join(f"c{number}" for number in range(11))
    rows = [{f"c{number}": 1} for number in range(11)]
    many = foreign(tables, "SELECT " + ", ".join(f"{number} AS c{number}" for number in range(11)))
    for content, format_ in [
        (f"{header}\n{header}\n", "csv"),
        (ndjson(rows), "ndjson"),
        (json.dumps(rows), "json"),
        (many, "parquet"),
    ]:
        error = refused(tables, content, format_, limits={"max_columns": 10})
        assert code(error) == "too_many_columns"


def test_too_many_rows(tables):
    parquet = foreign(tables, "SELECT range AS a FROM range(11)")
    array = json.dumps([{"a": 1}] * 11)
    for content, format_ in [
        ("a\n" + "1\n" * 11, "csv"),
        ('{"a": 1}\n' * 11, "ndjson"),
        (array, "json"),
        (parquet, "parquet"),
    ]:
        refused(tables, content, format_, TooLarge, limits={"max_rows": 10})


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        ("csv", b"a,b\n" + b"1,2\n" * 100_000),
        ("ndjson", b'{"a": 1}\n' * 100_000),
        ("json", b'[{"a": 1}' + b',{"a": 2}' * 100_000 + b"]"),
        ("parquet", b"PAR1" * 100_000),
    ],
)
def test_gzip_that_is_cut_damaged_or_followed_by_something(tables, format_, content):
    whole = zipped(content)
    damaged = whole[:200] + b"\xa5\x5a" + whole[202:]
    for sent in (whole[:-4], whole[:-200], whole[:5], whole + b"garbage", damaged, content):
        refused(tables, sent, format_, Malformed, gzip=True)


def test_an_empty_gzip_is_an_empty_file(tables):
    assert code(refused(tables, zipped(""), gzip=True)) == "empty"
    assert code(refused(tables, b"", gzip=True)) == "empty"


@pytest.mark.parametrize(
    ("format_", "head", "row"),
    [
        ("csv", b"a,b\n", b"1,2\n"),
        ("ndjson", b"", b'{"a": 1}\n'),
        ("json", b"[", b'{"a": 1},'),
        ("parquet", b"", b"\0"),
    ],
)
def test_a_gzip_bomb_is_stopped_at_the_limit(tables, format_, head, row):
    bomb = zipped(head + row * (30_000_000 // len(row)))
    assert len(bomb) < 100_000
    start = time.process_time()
    limits = {"max_expanded_bytes": 1_000_000}
    error = refused(tables, bomb, format_, TooLarge, gzip=True, limits=limits)
    assert error.extra == {"limit": 1_000_000}
    assert time.process_time() - start < 3


def test_size_is_bounded_without_gzip_too(tables):
    limits = {"max_expanded_bytes": 1000}
    refused(tables, "a\n" + "1\n" * 1000, error=TooLarge, limits=limits)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT repeat('x', 10000) AS a FROM range(20000)",
        "SELECT 1 AS a, 2 AS b FROM range(3000000)",
        "SELECT NULL::VARCHAR AS a FROM range(15000000)",
    ],
)
def test_a_parquet_bomb_is_refused_before_it_is_read(tables, query):
    bomb = foreign(tables, query)
    assert len(bomb) < 1_000_000
    start = time.process_time()
    limits = {"max_expanded_bytes": 10_000_000}
    refused(tables, bomb, "parquet", TooLarge, limits=limits)
    assert time.process_time() - start < 3


def foreign(tables, query):
    """The bytes of a Parquet file of another program."""
    content = tables.parquet(query)
    (tables.folder / "foreign").unlink()
    return content


@pytest.mark.parametrize(
    "sql",
    [
        "[1, 2]",
        "{'a': 1}",
        "MAP {'a': 1}",
        "'x'::BLOB",
        "TIME '10:00'",
        "INTERVAL 1 DAY",
    ],
)
def test_parquet_types_that_are_not_taken_are_refused_by_name(tables, sql):
    error = refused(tables, foreign(tables, f"SELECT 1 AS fine, {sql} AS odd"), "parquet")
    assert (code(error), error.errors[0].pointer) == ("unknown_type", "/columns/odd")


def test_broken_parquet(tables):
    whole = foreign(tables, "SELECT range AS a, random() AS b FROM range(10000)")
    hurt = bytearray(whole)
    hurt[1000:30_000] = b"\xa5" * 29_000
    for content in (b"", b"PAR1", b"PAR1" * 100, whole[:-10], whole[100:], whole[:5000], hurt):
        error = refused(tables, bytes(content), "parquet")
        assert code(error) in {"not_parquet", "empty"}
        assert str(tables.folder) not in error.detail


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 'a' || chr(0) AS x", "nul"),
        ("SELECT 'infinity'::DOUBLE AS x UNION ALL SELECT 1", "not_number"),
        ("SELECT 'infinity'::TIMESTAMP AS x", "not_datetime"),
        ("SELECT TIMESTAMP '12345-01-01' AS x", "not_datetime"),
        ("SELECT DATE '0044-03-15 (BC)' AS x", "not_datetime"),
    ],
)
def test_parquet_values_that_have_no_place_are_errors_of_their_rows(tables, sql, expected):
    error = refused(tables, foreign(tables, sql), "parquet")
    assert code(error) == expected
    assert error.errors[0].pointer == "/rows/1/x"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 AS a WHERE false", "no_rows"),
        ('SELECT 1 AS " "', "empty_name"),
        ('SELECT 1 AS é, 2 AS "e\u0301"', "duplicate_name"),
    ],
)
def test_parquet_that_is_no_table(tables, sql, expected):
    assert code(refused(tables, foreign(tables, sql), "parquet")) == expected


BAD_JSON_ROWS = [
    ("{", "not_json"),
    ("nonsense", "not_json"),
    ('{"a": 1,}', "not_json"),
    ('{"a": "\t"}', "not_json"),
    ('{"a": ' + "9" * 5000 + "}", "not_json"),
    ("5", "not_an_object"),
    ('"x"', "not_an_object"),
    ("[1]", "not_an_object"),
    ("null", "not_an_object"),
    ('{"a": {"b": 1}}', "nested"),
    ('{"a": [1]}', "nested"),
    ('{"a": {}}', "nested"),
    ('{"a": 1, "a": 2}', "key_twice"),
    ('{"a": NaN}', "not_finite"),
    ('{"a": -Infinity}', "not_finite"),
    ('{"a": 1e999}', "not_number"),
    ('{"a": "x\\u0000"}', "nul"),
    ('{"a": "\\ud800"}', "lone_surrogate"),
]


@pytest.mark.parametrize(("row", "expected"), BAD_JSON_ROWS)
@pytest.mark.parametrize("format_", ["ndjson", "json"])
def test_a_bad_row_of_json_is_told_with_its_number(tables, row, expected, format_):
    good = '{"a": 1, "b": "x"}'
    content = f"{good}\n\n{row}\n{good}\n" if format_ == "ndjson" else f"[{good},{row},{good}]"
    error = refused(tables, content, format_)
    assert code(error) == expected
    assert error.extra["rows"][0]["row"] == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        ("  ", "not_an_array"),
        ('{"a": 1}', "not_an_array"),
        ("[]", "no_rows"),
        ("[{}, {}]", "no_rows"),
        ('[{"a": 1}', "not_json"),
        ('[{"a": 1},]', "not_json"),
        ('[{"a": 1}] x', "not_json"),
        ('[{"a": 1} {"a": 2}]', "not_json"),
        ('[{"a": 1}, {"a', "not_json"),
        (b'[{"a": "\xff"}]', "not_utf8"),
        ('[{"": 1}]', "empty_name"),
        ('[{"a": 1}, {"A": 1}]', "duplicate_name"),
        ('[{"\\ud800": 1}]', "control_character"),
        ('[{"a\\u0000": 1}]', "control_character"),
    ],
)
def test_json_that_is_no_table(tables, content, expected):
    assert code(refused(tables, content, "json")) == expected


def test_ndjson_that_is_no_table(tables):
    for content, expected in [("", "empty"), ("\n \n", "no_rows"), ("{}\n{}\n", "no_rows")]:
        assert code(refused(tables, content, "ndjson")) == expected


def test_what_needs_more_memory_than_there_is_is_too_large(tables):
    """How many rows two threads hold is a matter of chance, but one row is held as a whole."""
    row = f'1,"{"x" * 15_000_000}"\n'
    refusal = refused(tables, f"a,b\n{row}", error=TooLarge, memory_bytes=24 << 20)
    assert refusal.extra == {"memory_bytes": 24 << 20}


def test_the_engine_touches_nothing_but_its_files(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "mine.csv").write_text("a\n1\n")
    (tmp_path / "work").mkdir()
    with open_tables(
        [tmp_path / "mine.csv"], work=tmp_path / "work", memory_bytes=32 << 20
    ) as engine:
        assert engine.rows(f"SELECT * FROM read_csv('{tmp_path}/mine.csv')") == [(1,)]
        for query in [
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"SELECT * FROM read_csv('{tmp_path}/work/../secret.csv')",
            f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
            f"SELECT * FROM glob('{tmp_path}/*')",
            f"ATTACH '{tmp_path}/new.db'",
            "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
            "INSTALL httpfs",
            "SET memory_limit = '1GB'",
            "SET enable_external_access = true",
        ]:
            with pytest.raises(duckdb.Error):
                engine.rows(query)


def test_reasons_tell_no_paths(tables):
    for content, format_ in [("a\n1,2\n", "csv"), ("x", "json"), ("x", "ndjson"), ("x", "parquet")]:
        error = refused(tables, content, format_)
        told = json.dumps(
            [error.detail, error.extra, [reason.as_dict() for reason in error.errors]]
        )
        assert str(tables.folder) not in told
