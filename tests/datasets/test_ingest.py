"""One table gives one digest and one profile, however it was written."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.datasets.ingest_request import IngestRequest
from app.kernel.errors import Invalid
from tests.datasets.tables import Tables, ndjson, zipped

CSV = (
    "name,age,mass,alive,born\n"
    "Ann,41,61.5,true,1980-05-01T10:00:00Z\n"
    '"Bö ""b"", jr",,70,false,1990-01-31T23:30:00+02:00\n'
    "NA,7,0.25,TRUE,2015-12-24\n"
)
ROWS = [
    {"name": "Ann", "age": 41, "mass": 61.5, "alive": True, "born": "1980-05-01T10:00:00Z"},
    {"name": 'Bö "b", jr', "age": None, "mass": 70, "alive": False, "born": "1990-01-31T21:30:00Z"},
    {"name": None, "age": 7, "mass": 0.25, "alive": True, "born": "2015-12-24T00:00:00Z"},
]


@pytest.fixture
def tables(tmp_path):
    """A maker of tables."""
    return Tables(tmp_path)


def forms(tables):
    """The same table in every format."""
    query = """
        SELECT * FROM (VALUES
            ('Ann', 41::DOUBLE, 61.5::FLOAT, true, TIMESTAMPTZ '1980-05-01 10:00:00+00'),
            ('Bö "b", jr', NULL, 70, false, TIMESTAMPTZ '1990-01-31 23:30:00+02'),
            (NULL, 7, 0.25, true, TIMESTAMPTZ '2015-12-24 00:00:00+00')
        ) AS t(name, age, mass, alive, born)"""
    return [
        (CSV, "csv", {}),
        (zipped(CSV), "csv", {"gzip": True}),
        (CSV.replace("\n", "\r\n"), "csv", {}),
        (CSV.encode("utf-16"), "csv", {"encoding": "utf-16"}),
        (CSV.encode("latin-1"), "csv", {"encoding": "latin-1"}),
        (CSV.encode("utf-8-sig"), "csv", {}),
        (ndjson(ROWS), "ndjson", {}),
        (zipped(ndjson(ROWS)), "ndjson", {"gzip": True}),
        (json.dumps(ROWS, indent=2), "json", {}),
        (tables.parquet(query), "parquet", {}),
        (zipped(tables.parquet(query)), "parquet", {"gzip": True}),
        (tables.parquet(query, ", COMPRESSION snappy, PARQUET_VERSION v2"), "parquet", {}),
    ]


def test_every_format_gives_the_same_digest_profile_and_rows(tables):
    results = [tables.ingest(body, name, **options) for body, name, options in forms(tables)]
    assert {found.result.digest for found in results} == {results[0].result.digest}
    assert [found.result.columns for found in results[1:]] == [results[0].result.columns] * 11
    assert all(found.rows == ROWS for found in results)
    assert results[0].types == {
        "name": "string",
        "age": "integer",
        "mass": "number",
        "alive": "boolean",
        "born": "datetime",
    }


def test_the_digest_knows_names_types_values_and_order(tables):
    digests = {
        tables.ingest(csv, **options).result.digest
        for csv, options in [
            ("a,b\n1,x\n2,y\n", {}),
            ("a,c\n1,x\n2,y\n", {}),
            ("a,b\n2,y\n1,x\n", {}),
            ("a,b\n1,x\n2,z\n", {}),
            ("a,b\n1,x\n2,y\n", {"columns": {"a": {"type": "number"}}}),
            ("a,b\n1,\n2,y\n", {}),
            ('a,b\n1,""\n2,y\n', {}),
        ]
    }
    assert len(digests) == 7


def test_the_digest_is_what_its_description_says(tables):
    """Nobody may change the canonical form without seeing that all digests change."""
    table = tables.ingest('i,n,b,s,t\n-5,0.5,true,"x,""",2020-01-01\n6,2.5,false,,1970-01-01\n')
    text = (
        '[["i","integer"],["n","number"],["b","boolean"],["s","string"],["t","datetime"]]\n'
        '-5,4602678819172646912,1,3:x,",1577836800000000\n'
        "6,4612811918334230528,0,,0\n"
    )
    assert table.result.digest == f"sha-256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_result_counts_rows_and_bytes(tables):
    table = tables.ingest(CSV)
    assert (table.result.rows, table.result.rejected_rows) == (3, 0)
    assert table.result.bytes == table.parquet.stat().st_size
    assert not table.rejects.exists()


def test_progress_is_told_and_what_it_raises_ends_the_ingest(tables):
    told = []
    tables.ingest(CSV, progress=lambda fraction, step: told.append((fraction, step)))
    assert [step for _, step in dict.fromkeys(told)] == [
        "reading",
        "inferring",
        "writing",
        "digesting",
        "profiling",
    ]
    assert told == sorted(told)

    def cancel(fraction, step):
        if step == "digesting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.ingest(CSV, progress=cancel)
    assert tables.left().count("table.parquet") == 1


def test_several_threads_ingest_at_once(tables):
    """The ingest process runs each in a thread of its own."""
    texts = [f"a,b\n{number},x\n" * 1 + f"{number},y\n" * 20_000 for number in range(4)]
    sources = []
    for number, text in enumerate(texts):
        (tables.folder / f"t{number}").mkdir()
        sources.append(tables.folder / f"t{number}" / "source")
        sources[-1].write_text(text)
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda path: tables.ingest_request(IngestRequest(path, "csv")), sources)
        )
    alone = [tables.ingest(text).result for text in texts]
    assert [table.result for table in made] == alone


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"format": "xlsx"}, "?format"),
        ({"delimiter": "::"}, "?delimiter"),
        ({"decimal": "'"}, "?decimal"),
        ({"encoding": "ebcdic"}, "?encoding"),
        ({"on_error": "ignore"}, "?on_error"),
        ({"columns": {"a/b": {"type": "int"}}}, "/columns/a~1b/type"),
        ({"columns": {"a": {"type": "number", "format": "%Y"}}}, "/columns/a/format"),
        ({"columns": {"a": {"format": "%Q %Y"}}}, "/columns/a/format"),
        ({"columns": {"a": {"null_values": ["x" * 300]}}}, "/columns/a/null_values"),
    ],
)
def test_what_is_not_offered_is_refused_with_its_place(tables, wrong, pointer):
    options = {"format": "csv", **wrong}
    with pytest.raises(Invalid) as refusal:
        tables.ingest(CSV, options.pop("format"), **options)
    assert [error.pointer for error in refusal.value.errors] == [pointer]
