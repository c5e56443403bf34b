"""Ingesting small tables in a folder of one test, and looking at what came out."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb

from app.datasets.export import export, read_rejects, read_rows
from app.datasets.ingest.run import IngestResult, ingest
from app.datasets.ingest_request import ColumnRule, IngestLimits, IngestRequest


@dataclass
class Ingested:
    """A table that was ingested."""

    result: IngestResult
    parquet: Path
    rejects: Path
    work: Path

    @property
    def types(self):
        """The type of each column."""
        return {column["name"]: column["type"] for column in self.result.columns}

    @property
    def rows(self):
        """The first rows."""
        return self.page(offset=0, limit=100)[1]

    def page(self, **window):
        """The names of columns, and some rows."""
        return read_rows(self.parquet, work=self.work, **window)

    @property
    def rejected(self):
        """The rows that were put aside."""
        return read_rejects(self.rejects, offset=0, limit=100)[1]

    @property
    def codes(self):
        """What the client is warned of, by column."""
        return {told["column"]: told["code"] for told in self.result.warnings}

    def column(self, name):
        """The values of a column."""
        return [row[name] for row in self.rows]

    def profile(self, name):
        """The profile of a column."""
        return next(column for column in self.result.columns if column["name"] == name)

    def exported(self, format_, **options):
        """The whole table in a format."""
        return b"".join(export(self.parquet, format_, work=self.work, **options))


class Tables:
    """Makes tables in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self._count = 0

    def ingest(
        self,
        content,
        format_="csv",
        *,
        columns=None,
        limits=None,
        progress=None,
        memory_bytes=256 << 20,
        **options,
    ):
        """Ingest text or bytes; ``columns`` are rules by name, each a mapping."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        source = folder / "source"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        rules = {name: ColumnRule(**rule) for name, rule in (columns or {}).items()}
        request = IngestRequest(
            source, format_, columns=rules, limits=IngestLimits(**(limits or {})), **options
        )
        return self.ingest_request(request, progress=progress, memory_bytes=memory_bytes)

    def ingest_request(self, request, **options):
        """Ingest a file by a request."""
        folder = request.source.parent
        parquet, rejects, work = folder / "table.parquet", folder / "rejects", folder / "work"
        work.mkdir()
        # Through JSON, as it reaches the process that ingests.
        request = IngestRequest.from_json(json.loads(json.dumps(request.as_json())))
        result = ingest(request, parquet=parquet, rejects=rejects, work=work, **options)
        assert not list(work.iterdir())
        return Ingested(result, parquet, rejects, work)

    def left(self):
        """The files that lie in the folder, the sources aside."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return [path.name for path in files if path.name != "source"]

    def parquet(self, query, options=""):
        """The bytes of a Parquet file with the rows of a query, as another program writes it."""
        path = self.folder / "foreign"
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{options})")
        return path.read_bytes()


def ndjson(rows):
    """Rows as NDJSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def zipped(content):
    """Bytes or text as gzip, the same at any time: it names tests, and processes collect them."""
    return gzip.compress(content if isinstance(content, bytes) else content.encode(), mtime=0)
