"""Whole lines of a regular file made columns: the part of a conversion that blocks don't share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.datasets.ingest.csv_rows import is_utf8
from app.datasets.ingest.regular.columns import BlockColumn, Wanted, read_column
from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.pieces import Piece, joined
from app.datasets.ingest.regular.text_blocks import Bytes, Mask, TextBlock
from app.datasets.ingest.sampling import SPREAD, SPREAD_END


@dataclass(frozen=True)
class Lines:
    """Whole lines, how many came before them, and of which columns the values are counted."""

    first_row: int
    text: bytes
    counting: Sequence[bool]


@dataclass(frozen=True)
class ReadBlock:
    """What was read: the canonical text of all rows, and the columns without theirs."""

    rows: int
    text: Bytes
    columns: list[BlockColumn]


@dataclass(frozen=True)
class BlockReader:
    """Reads lines of columns of such types; ``threshold`` tells the sample's rows (``sampling``),
    None if there is no sample."""

    types: tuple[str, ...]
    delimiter: str
    threshold: int | None

    def read(self, lines: Lines) -> ReadBlock:
        """Raises Irregular."""
        if not is_utf8(lines.text):
            raise Irregular
        block = TextBlock(lines.text, len(self.types), ord(self.delimiter))
        chosen = self._chosen(lines.first_row, block.rows)
        columns, pieces = [], list[Piece | bytes]()
        for number, (type_, counting) in enumerate(zip(self.types, lines.counting, strict=True)):
            column = read_column(block, number, type_, Wanted(chosen, counting))
            pieces += [*column.text, b","]
            columns.append(replace(column, text=()))
        pieces[-1] = b"\n"
        text = np.frombuffer(joined(pieces, block.rows), np.uint8)
        return ReadBlock(block.rows, text, columns)

    def _chosen(self, first_row: int, rows: int) -> Mask | None:
        if self.threshold is None:
            return None
        numbers = np.arange(first_row + 1, first_row + rows + 1, dtype=np.int64)
        # The end is a power of two.
        return (numbers * SPREAD) & (SPREAD_END - 1) < self.threshold
