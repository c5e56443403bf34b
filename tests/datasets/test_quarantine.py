"""Bad rows put aside: the good ones make the table, the bad ones can be read and mended."""

import json

import pytest

from app.kernel.errors import Invalid
from tests.datasets.tables import Tables, ndjson


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


def test_bad_rows_of_csv_are_put_aside(tables):
    text = 'a,b\n1,x\n2\n3,y\n"4"z,5\nbad,w\n5,v\n'
    table = tables.ingest(text, columns={"a": {"type": "integer"}}, on_error="quarantine")
    assert table.rows == [{"a": 1, "b": "x"}, {"a": 3, "b": "y"}, {"a": 5, "b": "v"}]
    assert (table.result.rows, table.result.rejected_rows) == (3, 3)
    assert table.rejected == [
        {"row": 2, "column": None, "reason": "1 values, but there are 2 columns", "raw": "2"},
        {"row": 4, "column": None, "reason": "text after a closing quote", "raw": '"4"z,5'},
        {
            "row": 5,
            "column": "a",
            "reason": "not an integer of 64 bits",
            "raw": {"a": "bad", "b": "w"},
        },
    ]


def test_row_numbers_are_those_of_the_file_whatever_was_put_aside_before(tables):
    """The engine numbers the rows that are left: short rows must shift them back."""
    rows = [f"{number},x" for number in range(1, 2001)]
    short = {7, 8, 9, 500, 1999}
    wrong = {1, 10, 499, 501, 2000}
    for number in short:
        rows[number - 1] = "short"
    for number in wrong:
        rows[number - 1] = f"wrong{number},x"
    text = "a,b\n" + "\n".join(rows) + "\n"
    rule = {"a": {"type": "integer"}}
    table = tables.ingest(text, columns=rule, on_error="quarantine")
    assert [told["row"] for told in table.rejected] == sorted(short) + sorted(wrong)
    assert all(told["raw"]["a"] == f"wrong{told['row']}" for told in table.rejected[5:])
    assert table.result.rows == 2000 - len(short | wrong)


def test_bad_rows_of_json_are_put_aside(tables):
    good = [{"a": 1.5}, {"a": 2}]
    text = ndjson(good[:1]) + 'nonsense\n{"a": [1]}\n{"a": NaN}\n{"a": 1e999}\n' + ndjson(good[1:])
    table = tables.ingest(text, "ndjson", on_error="quarantine")
    assert table.column("a") == [1.5, 2.0]
    assert [(told["row"], told["column"]) for told in table.rejected] == [
        (2, None),
        (3, "a"),
        (4, "a"),
        (5, "a"),
    ]
    assert table.rejected[1]["raw"] == '{"a": [1]}'
    array = '[{"a": 1.5}, {"a": [1]}, 5, {"a": 2}]'
    assert tables.ingest(array, "json", on_error="quarantine").result.rejected_rows == 2


def test_bad_rows_of_parquet_are_put_aside(tables):
    sent = tables.parquet("SELECT * FROM (VALUES (1.5, 'x'), ('inf'::DOUBLE, 'y')) AS t(a, b)")
    table = tables.ingest(sent, "parquet", on_error="quarantine")
    assert table.rows == [{"a": 1.5, "b": "x"}]
    assert table.rejected[0]["raw"] == {"a": "inf", "b": "y"}


def test_a_row_that_is_bad_twice_counts_once(tables):
    rules = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    text = "a,b\nx,y\n1,2\n"
    table = tables.ingest(text, columns=rules, on_error="quarantine")
    assert (table.result.rejected_rows, len(table.rejected)) == (1, 1)
    with pytest.raises(Invalid) as refusal:
        tables.ingest(text, columns=rules)
    assert refusal.value.extra["bad_rows"] == 1
    assert [error.pointer for error in refusal.value.errors] == ["/rows/1/a", "/rows/1/b"]


def test_without_bad_rows_nothing_is_put_aside(tables):
    table = tables.ingest("a\n1\n", on_error="quarantine")
    assert table.result.rejected_rows == 0
    assert not table.rejects.exists()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a,b\n1\n2\n", {}),
        ("a,b\nx,1\ny,2\n", {"columns": {"a": {"type": "integer"}}}),
        ("nonsense\n", {"format_": "ndjson"}),
        ("a,b\n" + "1\n" * 20 + "1,2\n", {"limits": {"max_rejected_rows": 10}}),
        (
            "a,b\n" + "x,2\n" * 20 + "1,2\n",
            {"limits": {"max_rejected_rows": 10}, "columns": {"a": {"type": "integer"}}},
        ),
        ('a,b\n1,2\n3,"4\n', {}),
    ],
)
def test_when_too_little_is_good_all_is_refused(tables, text, options):
    with pytest.raises(Invalid):
        tables.ingest(text, on_error="quarantine", **options)
    assert tables.left() == []


def test_rejects_are_read_in_pages(tables):
    text = "a,b\n1,2\n" + "".join(f"{number}\n" for number in range(200))
    table = tables.ingest(text, on_error="quarantine")
    assert len(table.rejected) == 100
    lines = table.rejects.read_text().splitlines()
    assert [json.loads(line)["raw"] for line in lines] == [str(number) for number in range(200)]
