"""A regular CSV file on its way to Parquet: read once, in blocks, by some threads.

Each block is split, read, counted and put as canonical text by one thread. One after the other they
go to the digest and to the engine, which writes them.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from app.datasets.ingest.csv_rows import is_utf8
from app.datasets.ingest.profile import (
    SPREAD,
    SPREAD_END,
    CountedColumn,
    is_sampled,
    spread_threshold,
)
from app.datasets.ingest.regular.arrow_stream import ArrowStream, Buffers
from app.datasets.ingest.regular.columns import BlockColumn, Wanted, read_column
from app.datasets.ingest.regular.counted_tables import counted_column
from app.datasets.ingest.regular.counts import TextCounts, ValueCounts, keep_within_memory
from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.pieces import Piece, joined
from app.datasets.ingest.regular.regular_file import RegularFile
from app.datasets.ingest.regular.text_blocks import Mask, TextBlock
from app.datasets.ingest.stored_table import digest_header
from app.datasets.ingest.table_engine import TableEngine


@dataclass(frozen=True)
class _Block:
    rows: int
    text: bytes
    columns: list[BlockColumn]


class RegularConversion:
    """One file being read; ``pieces`` once, then what was found."""

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
        waiting: deque[Future[_Block]] = deque()
        with (
            ThreadPoolExecutor(self._threads, "regular") as pool,
            closing(self._file.blocks()) as blocks,
        ):
            try:
                for first_row, text in blocks:
                    waiting.append(pool.submit(self._read, first_row, text))
                    if len(waiting) > self._threads:
                        yield self._taken(waiting.popleft().result())
                while waiting:
                    yield self._taken(waiting.popleft().result())
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, first_row: int, text: bytes) -> _Block:
        if not is_utf8(text):
            raise Irregular
        columns = self._file.columns
        block = TextBlock(text, len(columns), ord(self._file.delimiter))
        chosen = self._chosen(first_row, block.rows)
        found = [
            read_column(block, number, type_, Wanted(chosen, not self._counts[number].given_up))
            for number, (_, type_) in enumerate(columns)
        ]
        pieces: list[Piece | bytes] = []
        for column in found:
            pieces += [*column.text, b","]
        pieces[-1] = b"\n"
        return _Block(block.rows, joined(pieces, block.rows), found)

    def _chosen(self, first_row: int, rows: int) -> Mask | None:
        if not self._sampling:
            return None
        numbers = np.arange(first_row + 1, first_row + rows + 1, dtype=np.int64)
        # The end is a power of two.
        return (numbers * SPREAD) & (SPREAD_END - 1) < spread_threshold(self._file.rows)

    def _taken(self, block: _Block) -> tuple[int, list[Buffers]]:
        self._sha256.update(block.text)
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


def _has_order(type_: str) -> bool:
    return type_ in {"integer", "number", "datetime"}
