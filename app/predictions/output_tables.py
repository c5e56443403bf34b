"""Outputs as tables: an Arrow stream or CSV, with the columns of ``output_columns``."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from app.kernel.arrow.writer import stream_of
from app.predictions.csv_input import NULL_WORDS
from app.predictions.media_types import ARROW, CSV
from app.scoring.scores import Array

Table = Mapping[str, Array]


def csv_of(columns: Table) -> bytes:
    """CSV with a header and LF as line end; texts that would read as missing are in quotes."""
    cells = [_written(column) for column in columns.values()]
    lines = map(",".join, zip(*cells, strict=True))
    return "\n".join([",".join(map(_quoted, columns)), *lines, ""]).encode()


def _written(column: Array) -> list[str]:
    values: list[Any] = column.tolist()
    if column.dtype.kind == "b":
        return ["true" if value else "false" for value in values]
    if column.dtype.kind != "O":
        return list(map(repr, values))
    # Texts are labels: few, and many times the same.
    known: dict[str, str] = {value: _quoted(value) for value in set(values)}
    return [known[value] for value in values]


def _quoted(text: str) -> str:
    if text in NULL_WORDS or any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


WRITERS: Final[Mapping[str, Callable[[Table], bytes]]] = {ARROW: stream_of, CSV: csv_of}
