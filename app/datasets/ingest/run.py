"""A client's file becomes checked Parquet with a digest and a profile.

In order: the bytes are read to their end and made a relation (csv_source, json_source,
parquet_source); every column gets the narrowest type that all of its cells allow, or the one that
the client demands (inference); cells that have no place in it are fatal, or their rows are put
aside; the rest is written (here), digested (stored_table) and profiled (profile).

Memory: the engine's ``memory_bytes`` and about 100 MB, however large the file and its rows. What
can't be done with that is refused as too large: thousands of columns, say.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import structlog

from app.datasets.ingest.byte_source import ByteSource
from app.datasets.ingest.csv_source import open_csv
from app.datasets.ingest.inference import Miscounted, TypedColumn, infer
from app.datasets.ingest.json_source import open_json
from app.datasets.ingest.parquet_source import not_parquet, open_parquet
from app.datasets.ingest.profile import profile
from app.datasets.ingest.regular.likely import Irregular, ReaderDied, may_be_regular
from app.datasets.ingest.row_errors import MOST_LISTED, RowError, RowErrors
from app.datasets.ingest.stored_table import StoredTable
from app.datasets.ingest.table_engine import TableEngine, identifier, literal, open_tables, select
from app.datasets.ingest.table_source import TableSource, column_name
from app.datasets.ingest_request import IngestRequest
from app.kernel.artifacts.stored import disk_errors
from app.kernel.errors import FieldError, Invalid, ServiceError, TooLarge, escape

Progress = Callable[[float, str], None]
_STEPS = {"reading": 0.0, "inferring": 0.15, "writing": 0.35, "digesting": 0.65, "profiling": 0.8}
_WIDE = 128  # columns: past that every further thread takes more memory than there is
_GROUP_ROWS, _GROUP_BYTES = 122_880, 1 << 24
log = structlog.get_logger("ingest")


@dataclass(frozen=True)
class IngestResult:
    """What became of a file. ``bytes`` are those of the Parquet file; ``columns`` are profiles."""

    rows: int
    bytes: int
    digest: str
    columns: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    rejected_rows: int

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def ingest(
    request: IngestRequest,
    *,
    parquet: Path,
    rejects: Path,
    work: Path,
    memory_bytes: int = 256 << 20,
    threads: int = 2,
    progress: Progress | None = None,
) -> IngestResult:
    """Turn a file into Parquet at ``parquet``; rows put aside go to ``rejects``, if there are any.

    ``progress`` gets the fraction done and the step, at least every few seconds; what it raises
    ends the ingest. Raises Invalid, TooLarge, Malformed, StorageFull; then neither file is left.
    """
    quarantine = rejects if request.on_error == "quarantine" else None
    try:
        with (
            disk_errors(),
            TemporaryDirectory(dir=work) as folder,
            RowErrors(quarantine, request.limits.max_rejected_rows) as errors,
        ):
            steps = _Steps(progress)
            run = _Ingest(request, parquet, Path(folder), errors, steps)
            result = run.result(memory_bytes, threads)
        _make_durable(parquet)
        if result.rejected_rows:
            _make_durable(rejects)
        else:
            rejects.unlink(missing_ok=True)
    except BaseException:
        parquet.unlink(missing_ok=True)
        rejects.unlink(missing_ok=True)
        raise
    return result


class _Steps:
    """Tells how far an ingest is."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._step, self._fraction = "reading", 0.0

    def begin(self, step: str) -> None:
        """Go on to a step; a step that is done once more is no step back."""
        self._step, self._fraction = step, max(self._fraction, _STEPS[step])
        self.beat()

    def beat(self) -> None:
        """Tell that it is still going on."""
        if self._progress is not None:
            self._progress(self._fraction, self._step)


class _Ingest:
    """One ingest under way."""

    def __init__(
        self, request: IngestRequest, parquet: Path, work: Path, errors: RowErrors, steps: _Steps
    ) -> None:
        self._request = request
        self._parquet = parquet
        self._work = work
        self._errors = errors
        self._steps = steps
        self._rules = {column_name(name): rule for name, rule in request.columns.items()}

    def result(self, memory_bytes: int, threads: int) -> IngestResult:
        """Do all of it."""
        self._steps.begin("reading")
        if self._request.format == "parquet":
            sent = self._inflated()
            with self._engine(sent, memory_bytes, threads) as engine:
                source = open_parquet(engine, self._request, self._rules, str(sent))
                try:
                    return self._convert(engine, source, threads)
                except duckdb.Error as error:
                    raise not_parquet(error, str(sent)) from error
        if may_be_regular(self._request):
            # Blocks and counts take memory beside the engine; where the rest doesn't suffice, the
            # usual way has all of it.
            try:
                return self._regular(memory_bytes * 5 // 8, threads)
            except ReaderDied:
                log.warning("reader_died", consequence="the file is read the slower way")
            except (Irregular, TooLarge):
                pass
        opened = open_csv if self._request.format == "csv" else open_json
        source = opened(
            self._request, self._errors, self._rules, work=self._work, beat=self._steps.beat
        )
        self._errors.settle()
        with self._engine(self._request.source, memory_bytes, threads) as engine:
            try:
                return self._convert(engine, source, threads)
            except duckdb.Error as error:
                raise ServiceError("A file that was found sound could not be read") from error

    def _regular(self, memory_bytes: int, threads: int) -> IngestResult:
        """The shorter way, for files that are alike to their end; raises Irregular."""
        from app.datasets.ingest.regular.conversion import RegularConversion
        from app.datasets.ingest.regular.regular_file import detect

        with self._engine(self._request.source, memory_bytes, threads) as engine:
            self._steps.begin("inferring")
            file = detect(engine, self._request, work=self._work, beat=self._steps.beat)
            self._steps.begin("writing")
            conversion = RegularConversion(file, threads)
            # One thread takes a stream of pieces in order: a second would only have them copied.
            engine.use_threads(1)
            with closing(conversion.stream()) as stream:
                engine.offer("pieces", stream)
                try:
                    self._copy(engine, select(["*"], "pieces"), file.row_bytes, file.rows)
                except (duckdb.Error, Miscounted) as error:
                    raise stream.failure or Irregular from error
            engine.use_threads(threads)
            self._steps.begin("digesting")
            table = StoredTable.open(engine, self._parquet)
            self._steps.begin("profiling")
            return IngestResult(
                rows=file.rows,
                bytes=self._parquet.stat().st_size,
                digest=conversion.digest,
                columns=profile(table, threads, conversion.counted(engine)),
                warnings=[],
                rejected_rows=0,
            )

    @contextmanager
    def _engine(self, sent: Path, memory_bytes: int, threads: int) -> Iterator[TableEngine]:
        with open_tables(
            [sent, self._parquet],
            work=self._work,
            memory_bytes=memory_bytes,
            threads=threads,
            beat=self._steps.beat,
        ) as engine:
            yield engine

    def _inflated(self) -> Path:
        """The Parquet file as it is when decompressed."""
        if not self._request.gzip:
            return self._request.source
        path = self._work / "sent.parquet"
        with path.open("wb") as file:
            for piece in ByteSource(self._request):
                file.write(piece)
                self._steps.beat()
        return path

    def _convert(self, engine: TableEngine, source: TableSource, threads: int) -> IngestResult:
        threads = threads if len(source.columns) <= _WIDE else 1
        engine.use_threads(threads)
        self._check_rules(source)
        if not source.rows:
            raise Invalid.at("", "no_rows", "No row is good")
        rows, columns = self._typed(engine, source)
        table = StoredTable.open(engine, self._parquet)
        self._steps.begin("digesting")
        digest = table.digest()
        self._steps.begin("profiling")
        warnings = [warning for column in columns for warning in column.warnings]
        return IngestResult(
            rows=rows,
            bytes=self._parquet.stat().st_size,
            digest=digest,
            columns=profile(table, threads),
            warnings=warnings,
            rejected_rows=self._errors.rows,
        )

    def _check_rules(self, source: TableSource) -> None:
        names = [column.name for column in source.columns]
        unknown = [
            FieldError(f"/columns/{escape(name)}", "unknown_column", "No such column", names[:100])
            for name in self._rules
            if name not in names
        ]
        if unknown:
            raise Invalid("Some columns don't exist", errors=unknown[:20])

    def _typed(self, engine: TableEngine, source: TableSource) -> tuple[int, list[TypedColumn]]:
        """Find the types, and write; the number of rows.

        The first rows mostly tell the types: then the others are checked while they are written.
        """
        self._steps.begin("inferring")
        with suppress(duckdb.Error, Miscounted):
            columns = infer(engine, source, self._rules, guessing=True)
            if _refused(columns) is None:
                return self._write(engine, source, columns), columns
        source, columns = self._inferred(engine, source)
        return self._write(engine, source, columns), columns

    def _inferred(
        self, engine: TableEngine, source: TableSource
    ) -> tuple[TableSource, list[TypedColumn]]:
        """The types, and the relation that can be read to its end."""
        self._steps.begin("inferring")
        try:
            return source, infer(engine, source, self._rules)
        except (duckdb.Error, Miscounted):
            if source.cautious is None:
                raise
            return self._inferred(engine, source.cautious)

    def _write(
        self, engine: TableEngine, source: TableSource, columns: Sequence[TypedColumn]
    ) -> int:
        """Write the rows whose cells all fit; the number of them."""
        self._steps.begin("writing")
        refused = _refused(columns)
        expected = source.rows
        if refused is not None:
            expected -= self._refuse(engine, source, columns, refused)
            if not expected:
                raise Invalid.at("", "no_rows", "No row is good")
        values = [f"{column.value} AS {identifier(column.name)}" for column in columns]
        kept = None if refused is None else f"NOT ({refused})"
        self._copy(engine, select(values, source.relation, where=kept), source.row_bytes, expected)
        return expected

    def _copy(self, engine: TableEngine, query: str, row_bytes: int, rows: int) -> None:
        """Write what a query gives; raises Miscounted unless it is so many rows."""
        group = max(2048, min(_GROUP_ROWS, _GROUP_BYTES // max(1, row_bytes)))
        options = (
            "FORMAT parquet, USE_TMP_FILE false, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            f"WRITE_BLOOM_FILTER false, DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE {group}"
        )
        (written,) = engine.row(f"COPY ({query}) TO {literal(str(self._parquet))} ({options})")
        if written != rows:
            raise Miscounted(f"{written} rows were written, not {rows}")

    def _refuse(
        self,
        engine: TableEngine,
        source: TableSource,
        columns: Sequence[TypedColumn],
        refused: str,
    ) -> int:
        """Put rows with bad cells aside, or raise Invalid; the number of them."""
        suspects = [column for column in columns if column.bad is not None]
        shown = columns if self._errors.quarantine else suspects
        numbered = select(["row_number() OVER () AS row_number", "*"], source.relation)
        asked = [
            "row_number",
            *(f"({column.bad})" for column in suspects),
            *(column.text for column in shown),
        ]
        limit = None if self._errors.quarantine else MOST_LISTED
        (total,) = engine.row(select(["count(*)"], source.relation, where=refused))
        listed = 0
        for rows in engine.stream(select(asked, f"({numbered})", where=refused, limit=limit)):
            for number, *cells in rows:
                listed += 1
                bad, texts = cells[: len(suspects)], cells[len(suspects) :]
                raw = dict(zip((column.name for column in shown), texts, strict=True))
                original = self._errors.original(number)
                found = [
                    RowError(original, column.name, column.code, column.reason, raw[column.name])
                    for column, is_bad in zip(suspects, bad, strict=True)
                    if is_bad
                ]
                self._errors.add(found, raw)
        self._errors.count(total - listed)
        self._errors.raise_if_fatal()
        return int(total)


def _refused(columns: Sequence[TypedColumn]) -> str | None:
    """SQL of whether a row has a bad cell; None where no row has."""
    bad = [f"coalesce({column.bad}, false)" for column in columns if column.bad is not None]
    return " OR ".join(bad) or None


def _make_durable(path: Path) -> None:
    with disk_errors(), path.open("rb") as file:
        os.fsync(file.fileno())
