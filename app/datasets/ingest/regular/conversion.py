"""A regular CSV file on its way to Parquet: read once, in blocks, by some readers.

Each block is split, read, counted and put as canonical text by one of them. One after the other
they go to the digest and to the engine, which writes them.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue

from app.datasets.ingest.profile import CountedColumn
from app.datasets.ingest.regular.arrow_stream import ArrowStream, Buffers
from app.datasets.ingest.regular.block_reader import BlockReader, Lines, ReadBlock
from app.datasets.ingest.regular.columns import BlockColumn
from app.datasets.ingest.regular.counted_tables import counted_column
from app.datasets.ingest.regular.counts import TextCounts, ValueCounts, keep_within_memory
from app.datasets.ingest.regular.reading_process import ReadingProcess
from app.datasets.ingest.regular.regular_file import RegularFile
from app.datasets.ingest.sampling import is_sampled, spread_threshold
from app.datasets.ingest.stored_table import digest_header
from app.datasets.ingest.table_engine import TableEngine

Read = Callable[[Lines], ReadBlock]
_WORTH_PROCESSES = 64 << 20  # bytes: to start them takes as long as to read some megabytes
_AHEAD = 3  # blocks per reader, while the engine is busy compressing


class RegularConversion:
    """One file being read; ``stream`` once, then what was found."""

    def __init__(self, file: RegularFile, threads: int) -> None:
        self._file = file
        self._threads = threads
        self._sampling = is_sampled(file.rows)
        self._sha256 = hashlib.sha256(digest_header(file.columns))
        types = [type_ for _, type_ in file.columns]
        self._missing = [0] * len(types)
        self._counts = [TextCounts() if type_ == "string" else ValueCounts() for type_ in types]
        self._sampled = [
            ValueCounts() if self._sampling and _has_order(type_) else None for type_ in types
        ]

    @property
    def digest(self) -> str:
        """The digest of the whole content."""
        return f"sha-256:{self._sha256.hexdigest()}"

    def stream(self) -> ArrowStream:
        """The table as the engine reads it. Raises Irregular, as its ``failure``, where a block
        isn't regular."""
        return ArrowStream(self._file.columns, self._pieces())

    def _pieces(self) -> Iterator[tuple[int, list[Buffers]]]:
        waiting: deque[Future[ReadBlock]] = deque()
        with (
            self._readers() as readers,
            ThreadPoolExecutor(self._threads, "regular") as pool,
            closing(self._file.blocks()) as blocks,
        ):
            try:
                for first_row, text in blocks:
                    counting = [not counts.given_up for counts in self._counts]
                    waiting.append(pool.submit(_read, readers, Lines(first_row, text, counting)))
                    if len(waiting) > self._threads * _AHEAD:
                        yield self._taken(waiting.popleft().result())
                while waiting:
                    yield self._taken(waiting.popleft().result())
            finally:
                for future in waiting:
                    future.cancel()

    @contextmanager
    def _readers(self) -> Iterator["SimpleQueue[Read]"]:
        """As many as there are threads, in processes where the file is worth these."""
        types = tuple(type_ for _, type_ in self._file.columns)
        threshold = spread_threshold(self._file.rows) if self._sampling else None
        reader = BlockReader(types, self._file.delimiter, threshold)
        readers: SimpleQueue[Read] = SimpleQueue()
        with ExitStack() as stack:
            for _ in range(self._threads):
                if self._file.size < _WORTH_PROCESSES:
                    readers.put(reader.read)
                else:
                    readers.put(stack.enter_context(ReadingProcess(reader)).read)
            yield readers

    def _taken(self, block: ReadBlock) -> tuple[int, list[Buffers]]:
        self._sha256.update(block.text.data)
        for number, column in enumerate(block.columns):
            self._missing[number] += column.missing
            self._add_counts(number, column)
        keep_within_memory([*self._counts, *(one for one in self._sampled if one is not None)])
        return block.rows, [column.buffers for column in block.columns]

    def _add_counts(self, number: int, column: BlockColumn) -> None:
        counts, sampled = self._counts[number], self._sampled[number]
        if column.counts is not None and not counts.given_up:
            counts.add(column.counts)
        if sampled is not None and column.sampled is not None and not sampled.given_up:
            sampled.add(column.sampled)

    def counted(self, engine: TableEngine) -> dict[str, CountedColumn]:
        """The columns that were counted, as relations of the engine."""
        found = {}
        for number, (name, type_) in enumerate(self._file.columns):
            counts, sampled = self._counts[number], self._sampled[number]
            if not counts.given_up and (sampled is None or not sampled.given_up):
                found[name] = counted_column(
                    engine, number, type_, counts, sampled, self._missing[number]
                )
        return found


def _read(readers: "SimpleQueue[Read]", lines: Lines) -> ReadBlock:
    read = readers.get()
    try:
        return read(lines)
    finally:
        readers.put(read)


def _has_order(type_: str) -> bool:
    return type_ in {"integer", "number", "datetime"}
