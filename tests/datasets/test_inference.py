"""Every column gets the narrowest type that loses nothing, from all of its cells."""

import pytest

from app.datasets.ingest.cell_words import NULL_WORDS, WEAK_NULL_WORDS
from app.datasets.ingest.inference import _observe
from app.kernel.errors import Invalid
from tests.datasets.tables import Tables, ndjson


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


def column(tables, *cells, **rule):
    """The column x of a CSV table with these cells, as (type, values, warning)."""
    csv = "id,x\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
    table = tables.ingest(csv, columns={"x": rule} if rule else None)
    return table.types["x"], table.column("x"), table.codes.get("x")


@pytest.mark.parametrize(
    ("cells", "type_", "values"),
    [
        (["1", "-2", "0", "+3"], "integer", [1, -2, 0, 3]),
        (["9223372036854775807", "-9223372036854775808"], "integer", [2**63 - 1, -(2**63)]),
        (["5.0", "7", "1e3", "-0.0"], "integer", [5, 7, 1000, 0]),
        (["5.5", "7", ".5", "1.", "-2.5e-3"], "number", [5.5, 7.0, 0.5, 1.0, -0.0025]),
        (["-0.0", "0.1"], "number", [0.0, 0.1]),
        (["true", "FALSE", "True"], "boolean", [True, False, True]),
        (["yes", "no"], "string", ["yes", "no"]),
        (["00123", "45"], "string", ["00123", "45"]),
        (["1_000", "2"], "string", ["1_000", "2"]),
        (["0x1f", "2"], "string", ["0x1f", "2"]),
        (["12%", "2"], "string", ["12%", "2"]),
        (["inf", "banana"], "string", ["inf", "banana"]),
        (["1", "", "NA"], "integer", [1, None, None]),
        (["1", '"NA"', '""'], "integer", [1, None, None]),
        ([" 1", "2 ", "\t3"], "integer", [1, 2, 3]),
        ([" a", "b "], "string", [" a", "b "]),
        (['"NA"', '""', "NA", ""], "string", ["NA", "", None, None]),
        (["1", "true"], "string", ["1", "true"]),
    ],
)
def test_type_of_csv_cells(tables, cells, type_, values):
    assert column(tables, *cells)[:2] == (type_, values)


@pytest.mark.parametrize(
    ("cell", "stamp"),
    [
        ("2020-02-29", "2020-02-29T00:00:00Z"),
        ("2020-02-29T10:30", "2020-02-29T10:30:00Z"),
        ("2020-02-29 10:30:01.25", "2020-02-29T10:30:01.25Z"),
        ("2020-02-29T10:30:01Z", "2020-02-29T10:30:01Z"),
        ("2020-02-29T10:30:01+02:00", "2020-02-29T08:30:01Z"),
        ("2020-02-29T22:30:01-0230", "2020-03-01T01:00:01Z"),
        ("2020-02-29 10:30:01+02", "2020-02-29T08:30:01Z"),
        ("2020-02-29T10:30:01.123456789Z", "2020-02-29T10:30:01.123456Z"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_datetimes_become_utc(tables, cell, stamp):
    assert column(tables, cell, "2000-01-01")[:2] == ("datetime", [stamp, "2000-01-01T00:00:00Z"])


@pytest.mark.parametrize(
    "cell",
    [
        "2021-02-29",
        "2020-13-01",
        "2020-01-01T24:00:00",
        "2020-01-01T10:00:60",
        "2020-01-01T10:00 Europe/Paris",
        "2020-1-1",
        "0000-01-01",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "20200101T10",
        "infinity",
        "10:30",
    ],
)
def test_what_is_no_datetime_stays_text(tables, cell):
    assert column(tables, cell, "2000-01-01")[:2] == ("string", [cell, "2000-01-01"])


def test_the_last_row_of_many_decides(tables):
    """A sample would have said integer, and the last row would have been an error or lost."""
    for last, type_ in [("1.5", "number"), ("x", "string"), ("12", "integer"), ("", "integer")]:
        csv = "x,y\n" + "7,a\n" * 30_000 + f"{last},b\n"
        assert tables.ingest(csv).types == {"x": type_, "y": "string"}


@pytest.mark.parametrize("word", sorted(set(NULL_WORDS) - {""}))
def test_null_words_are_missing_in_any_column(tables, word):
    assert column(tables, word, "a")[:2] == ("string", [None, "a"])
    assert column(tables, word, "1")[:2] == ("integer", [None, 1])


@pytest.mark.parametrize("word", WEAK_NULL_WORDS)
def test_weak_null_words_are_missing_only_beside_other_types(tables, word):
    assert column(tables, word, "a") == ("string", [word, "a"], None)
    assert column(tables, word, "1.5") == ("number", [None, 1.5], "read_as_missing")


def test_null_values_of_a_column_replace_the_default_ones_there_only(tables):
    csv = 'country,code,other\nNA,-999,NA\nDE,5,"NA"\n,,x\n'
    rules = {"country": {"null_values": ()}, "code": {"null_values": ("-999",)}}
    assert tables.ingest(csv, columns=rules).rows == [
        {"country": "NA", "code": None, "other": None},
        {"country": "DE", "code": 5, "other": "NA"},
        {"country": None, "code": None, "other": "x"},
    ]


def test_null_values_work_on_json_and_parquet_too(tables):
    rules = {"s": {"null_values": ("NA",)}, "n": {"null_values": ("-999",)}}
    rows = [{"s": "NA", "n": -999.0}, {"s": "x", "n": 5.0}]
    parquet = tables.parquet("SELECT * FROM (VALUES ('NA', -999::DOUBLE), ('x', 5)) AS t(s, n)")
    wanted = [{"s": None, "n": None}, {"s": "x", "n": 5}]
    assert tables.ingest(parquet, "parquet", columns=rules).rows == wanted
    rules["n"] = {"null_values": ("-999.0",)}
    assert tables.ingest(ndjson(rows), "ndjson", columns=rules).rows == wanted


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        (["00123", "45"], "digits_as_text"),
        (["12345678901234567890123456"], "digits_as_text"),
        (["9223372036854775808", "5"], "digits_as_text"),
        (["9007199254740993", "0.5"], "rounded"),
        (["9223372036854775808", "0.5"], "rounded"),
        (["-9223372036854775808", "0.5"], "rounded"),
        (["+9007199254740993", "0.5"], "rounded"),
        # All of these are floats to the last digit, and were told to be rounded.
        (["9007199254740992", "0.5"], None),
        (["-123456789012345", "+5", "0.5"], None),
        (["", "NA"], "no_values"),
        (["1", "2"], None),
        (["a"], None),
    ],
)
def test_the_client_is_told_when_digits_or_meaning_are_at_stake(tables, cells, warning):
    assert column(tables, *cells)[2] == warning


def test_a_zero_has_no_sign_however_it_is_written(tables):
    """``-0`` beside fractions was stored as a negative zero: the table had another digest."""
    digests = {
        tables.ingest(f"x,y\n1e-3,1\n{zero},2\n").result.digest
        for zero in ("0", "-0", "+0", "-0.0", "-0e5", "-1e-999")
    }
    assert len(digests) == 1


def test_integers_past_64_bits_keep_all_digits_as_text(tables):
    digits = "12345678901234567890123456"
    assert column(tables, digits, "5")[:2] == ("string", [digits, "5"])


@pytest.mark.parametrize(
    ("rule", "cells", "values"),
    [
        ({"type": "string"}, ["1", "007", "NA", '"NA"'], ["1", "007", None, "NA"]),
        ({"type": "number"}, ["1", "2.5", "-", ""], [1.0, 2.5, None, None]),
        ({"type": "integer"}, ["007", "5.0", " 9 "], [7, 5, 9]),
        ({"type": "boolean"}, ["yes", "N", "1", "off", ""], [True, False, True, False, None]),
        ({"type": "datetime"}, ["2020-01-01", "NA"], ["2020-01-01T00:00:00Z", None]),
        ({"format": "%d/%m/%Y"}, ["31/12/2020"], ["2020-12-31T00:00:00Z"]),
        ({"format": "%d.%m.%y %H:%M"}, ["31.12.20 08:05"], ["2020-12-31T08:05:00Z"]),
        ({"format": "%Y%m%dT%H%M%S%z"}, ["20201231T100000+0200"], ["2020-12-31T08:00:00Z"]),
    ],
)
def test_a_client_may_demand_a_type(tables, rule, cells, values):
    type_ = rule.get("type", "datetime")
    assert column(tables, *cells, **rule)[:2] == (type_, values)


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ({"type": "integer"}, "1.5"),
        ({"type": "integer"}, "9223372036854775808"),
        ({"type": "integer"}, "1_000"),
        ({"type": "number"}, "1,5"),
        ({"type": "number"}, "inf"),
        ({"type": "number"}, "1e999"),
        ({"type": "boolean"}, "maybe"),
        ({"type": "datetime"}, "2021-02-29"),
        ({"format": "%d/%m/%Y"}, "2020-12-31"),
        ({"format": "%d/%m/%Y"}, "31/02/2020"),
    ],
)
def test_a_cell_that_is_not_of_the_demanded_type_is_an_error_of_its_row(tables, rule, bad):
    with pytest.raises(Invalid) as refusal:
        column(tables, "", f'"{bad}"', **rule)
    (row,) = refusal.value.extra["rows"]
    assert (row["row"], row["column"], row["value"]) == (2, "x", bad)
    assert refusal.value.errors[0].pointer == "/rows/2/x"


@pytest.mark.parametrize("bad", ["1e999", "-1e999", "inf", "-Infinity", "INF"])
def test_infinities_among_numbers_are_errors_of_their_rows(tables, bad):
    with pytest.raises(Invalid) as refusal:
        column(tables, "1.5", "2", bad)
    (row,) = refusal.value.extra["rows"]
    assert (row["row"], row["column"], row["value"]) == (3, "x", bad)


def test_decimal_commas(tables):
    table = tables.ingest("a;b\n1,5;1.000\n-,5;2.000\n2;3\n", decimal=",")
    assert table.types == {"a": "number", "b": "string"}
    assert table.column("a") == [1.5, -0.5, 2.0]


def test_an_unknown_column_in_the_rules_is_refused(tables):
    with pytest.raises(Invalid) as refusal:
        tables.ingest("a,b\n1,2\n", columns={"c": {"type": "string"}})
    (error,) = refusal.value.errors
    assert (error.pointer, error.allowed) == ("/columns/c", ["a", "b"])


@pytest.mark.parametrize(
    ("values", "type_", "kept", "warning"),
    [
        ([1, 2], "integer", [1, 2], None),
        ([1, 2.5], "number", [1.0, 2.5], None),
        ([5.0, 7.0], "integer", [5, 7], None),
        ([1e300, 1], "number", [1e300, 1.0], None),
        ([2**63, 5], "string", [str(2**63), "5"], "digits_as_text"),
        (["1", "2"], "string", ["1", "2"], None),
        (["NA", "", None], "string", ["NA", "", None], None),
        (["2020-01-01", "2020-01-02T00:00:00+01:00"], "datetime", None, None),
        ([True, None], "boolean", [True, None], None),
        ([1, "a", True, None], "string", ["1", "a", "true", None], "mixed_types"),
        ([True, 1], "string", ["true", "1"], "mixed_types"),
        ([None, None], "string", [None, None], "no_values"),
    ],
)
def test_types_of_json_values(tables, values, type_, kept, warning):
    table = tables.ingest(ndjson([{"x": value, "id": 1} for value in values]), "ndjson")
    assert (table.types["x"], table.codes.get("x")) == (type_, warning)
    assert kept is None or table.column("x") == kept


@pytest.mark.parametrize(
    ("sql", "type_", "value"),
    [
        ("5::TINYINT", "integer", 5),
        ("5::UINTEGER", "integer", 5),
        ("18446744073709551615::UBIGINT", "string", "18446744073709551615"),
        ("5::UBIGINT", "integer", 5),
        ("5::DOUBLE", "integer", 5),
        ("0.1::FLOAT", "number", 0.1),
        ("1.10::DECIMAL(10, 2)", "number", 1.1),
        ("7::DECIMAL(18, 3)", "integer", 7),
        ("DATE '2020-02-29'", "datetime", "2020-02-29T00:00:00Z"),
        ("TIMESTAMP '2020-02-29 10:00:00.5'", "datetime", "2020-02-29T10:00:00.5Z"),
        ("TIMESTAMPTZ '2020-02-29 10:00:00+02'", "datetime", "2020-02-29T08:00:00Z"),
        ("TIMESTAMP_MS '2020-02-29 10:00:00.123'", "datetime", "2020-02-29T10:00:00.123Z"),
        ("TIMESTAMP_NS '1969-12-31 23:59:59.9999999'", "datetime", "1969-12-31T23:59:59.999999Z"),
        ("true", "boolean", True),
        ("'NA'", "string", "NA"),
        ("'2020-02-29'", "datetime", "2020-02-29T00:00:00Z"),
        ("'a'::ENUM('a', 'b')", "string", "a"),
        (
            "UUID '12345678-1234-1234-1234-123456789abc'",
            "string",
            "12345678-1234-1234-1234-123456789abc",
        ),
        ("'NaN'::DOUBLE", "string", None),
        ("NULL::BIGINT", "string", None),
        ("NULL::BOOLEAN", "string", None),
        ("NULL::TIMESTAMP", "string", None),
    ],
)
def test_types_of_parquet_columns(tables, sql, type_, value):
    table = tables.ingest(tables.parquet(f"SELECT {sql} AS x"), "parquet")
    assert (table.types, table.rows) == ({"x": type_}, [{"x": value}])
    demanded = tables.ingest(
        tables.parquet(f"SELECT {sql} AS x"), "parquet", columns={"x": {"type": "string"}}
    )
    assert demanded.types == {"x": "string"}


@pytest.mark.parametrize(
    ("usual", "late"),
    [
        ("7", ["8"]),
        ("7", ["-0"]),
        ("7", ["+8"]),
        ("7", ["8.5"]),
        ("7", ["007"]),
        ("7", [" 8"]),
        ("7", ["?"]),
        ("7", ['""']),
        ("7", ["9223372036854775807"]),
        ("7", ["9223372036854775808"]),
        ("7", ["1_000"]),
        ("7", ["abc"]),
        ("2.5", ["0.0", "-0.0", "5", "7.0"]),
        ("2.5", ["1e3"]),
        ("2.5", ["12345678901234567"]),
        ("2.5", ["00.5"]),
        ("2.5", ["-"]),
        ("2.5", ["0x1f"]),
        ("2020-02-29", ["2020-02-29T10:30:01+02:00"]),
        ("2020-02-29", ["2021-02-29"]),
        ("2020-02-29", ["2020-02-29 24:00"]),
        ("2020-02-29", ["7"]),
    ],
)
def test_a_cell_far_below_the_first_rows_counts_as_if_it_stood_among_them(tables, usual, late):
    type_, values, code = column(tables, usual, "", *late)
    csv = "id,x\n" + f"1,{usual}\n" * 10_000 + "1,\n" + "".join(f"1,{cell}\n" for cell in late)

    table = tables.ingest(csv)

    last = table.page(offset=10_000, limit=10)[1]
    assert (table.types["x"], table.codes.get("x")) == (type_, code)
    assert [row["x"] for row in last] == values[1:]
    assert table.result.rows == 10_001 + len(late)


def test_a_file_of_which_many_rows_are_alike_is_read_once_to_its_end(tables, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "app.datasets.ingest.inference._observe",
        lambda *question: asked.append(question) or _observe(*question),
    )
    csv = "a,b,c,d\n" + "7,2.5,2020-02-29T10:30Z,abc\n" * 10_001

    table = tables.ingest(csv)

    assert list(table.types.values()) == ["integer", "number", "datetime", "string"]
    assert len(asked) == 1
