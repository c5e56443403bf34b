"""DuckDB, confined: bounded memory, named files only, no extensions, settings locked.

Text with an offset from UTC must go through TIMESTAMPTZ: DuckDB's cast to TIMESTAMP drops the
offset without a word.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from app.kernel.errors import StorageFull, TooLarge

Beat = Callable[[], None]
Result = TypeVar("Result")
_BEAT_SECONDS = 1.0
_STREAMED_ROWS, _STREAMED_BYTES = 4096, 1 << 21


class TableEngine:
    """One connection. ``beat`` is called every second while a query runs; what it raises ends it.

    Raises TooLarge when the memory doesn't suffice, StorageFull when the disk doesn't, and
    ``duckdb.Error`` for what is wrong with a file.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, beat: Beat, memory_bytes: int
    ) -> None:
        self._connection = connection
        self._beat = beat
        self._memory = memory_bytes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duckdb")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._run(lambda: self._connection.execute(sql).fetchall())

    def row(self, sql: str) -> tuple[Any, ...]:
        """The only row of a query."""
        (found,) = self.rows(sql)
        return found

    def stream(self, sql: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query in their order, in pieces, without holding them all.

        Large rows come in short pieces.
        """
        self._run(lambda: self._connection.execute(sql))
        count = 1
        while rows := self._run(partial(self._connection.fetchmany, count)):
            yield rows
            size = sum(len(value) for row in rows for value in row if isinstance(value, str))
            count = max(
                1, min(_STREAMED_ROWS, 2 * count, _STREAMED_BYTES * len(rows) // (size + 1))
            )

    def offer(self, name: str, stream: Any) -> None:
        """Let queries read an Arrow stream as a relation, in place of an earlier one."""
        self._connection.register(name, stream)

    def use_threads(self, threads: int) -> None:
        """Let queries use so many threads from now on."""
        self.rows(f"SET threads = {threads}")

    def close(self) -> None:
        """Let go of the thread; the connection belongs to ``open_tables``."""
        self._thread.shutdown()

    def _run(self, work: Callable[[], Result]) -> Result:
        future = self._thread.submit(work)
        try:
            while not wait([future], timeout=_BEAT_SECONDS).done:
                self._beat()
            return future.result()
        except duckdb.OutOfMemoryException as error:
            if "max_temp_directory_size" in str(error):
                raise StorageFull("No space left for intermediate results") from error
            raise TooLarge(
                "The table needs more memory than there is: it has too many columns, "
                "or its values are too long",
                extra={"memory_bytes": self._memory},
            ) from error
        except duckdb.IOException as error:
            if "No space left" in str(error) or "Could not write" in str(error):
                raise StorageFull("No space left to keep it") from error
            raise
        finally:
            if not future.done():
                self._connection.interrupt()
                wait([future])


@contextmanager
def open_tables(
    files: Sequence[Path],
    *,
    work: Path,
    memory_bytes: int,
    threads: int = 1,
    beat: Beat = lambda: None,
) -> Iterator[TableEngine]:
    """An engine that may touch these files, and whatever lies in the folder ``work``."""
    spill = work / "spill"
    settings: dict[str, Any] = {
        "allow_community_extensions": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,
        "memory_limit": f"{memory_bytes}B",
        "threads": threads,
        "temp_directory": str(spill),
    }
    with duckdb.connect(config=settings) as connection:
        for setting in (
            "TimeZone = 'UTC'",
            "parquet_metadata_cache = true",
            # It makes a join of IN with many literals, and a join of two threads mixes the rows up.
            "disabled_optimizers = 'in_clause'",
            "allowed_configs = ['threads']",
            f"allowed_paths = [{', '.join(map(literal, map(str, files)))}]",
            f"allowed_directories = [{literal(str(work))}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        engine = TableEngine(connection, beat, memory_bytes)
        try:
            yield engine
        finally:
            engine.close()


def select(
    values: Sequence[str],
    relation: str,
    *,
    where: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> str:
    """A query. Its parts are SQL already: names and texts pass through the functions below."""
    condition = "" if where is None else f" WHERE {where}"
    bound = "" if limit is None else f" LIMIT {limit} OFFSET {offset}"
    return f"SELECT {', '.join(values)} FROM {relation}{condition}{bound}"  # noqa: S608


def stacked(columns: Sequence[Mapping[str, str]], relation: str) -> str:
    """A query of many columns' cells below each other: ``number`` is the column's place.

    Each column gives the SQL of what a row is to hold, by name; of one type in all columns. What is
    asked of them then stands in a query once: asked of each column by itself, it takes the engine
    longer to understand than to answer.
    """
    if len(columns) == 1:
        return select(["0 AS number", *_named(columns[0], "{1} AS {0}")], relation)
    cells = (
        ", ".join([f"number: {number}", *_named(column, "{0}: {1}")])
        for number, column in enumerate(columns)
    )
    listed = ", ".join(f"{{{cell}}}" for cell in cells)
    return select([f"unnest([{listed}], recursive := true)"], relation)


def _named(column: Mapping[str, str], form: str) -> list[str]:
    return [form.format(name, sql) for name, sql in column.items()]


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literals(texts: Sequence[str]) -> str:
    """Texts as a SQL list to be put after IN; never empty."""
    return f"({', '.join(map(literal, texts))})"
