"""CSV that any parser reads alike, and how the engine is to read it.

Reading a file from its beginning to its end, the engine takes 2,048 rows before it goes on,
whatever their size, but never rows of two files at once. So large rows are read from many files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.datasets.ingest.table_engine import Beat, literal, literals

_BUFFER = 1 << 23
_PIECE = 1 << 23
_LARGE_ROW = 1 << 13
_RECORDS = re.compile(rb'(?:[^"\n]*+(?:"(?:[^"]++|"")*+"[^"\n]*+)*+\n)*+')


@dataclass(frozen=True)
class PlainCsv:
    """Files of strictly quoted CSV rows with LF as line end, and how the engine is to read them.

    ``longest`` bounds the bytes of a record. ``padded``: rows may be short; what is left out is
    missing. ``parallel`` reading fails, loudly, where records span lines.
    """

    paths: tuple[Path, ...]
    width: int
    longest: int
    delimiter: str = ","
    header: bool = True
    padded: bool = False
    parallel: bool = False

    def relation(self, nulls: tuple[str, ...], *, quoted_nulls: bool = False) -> str:
        """SQL of a relation with the text columns c0, c1, ..; ``nulls`` are NULL."""
        columns = ", ".join(f"c{number}: 'VARCHAR'" for number in range(self.width))
        longest = self.longest + 16
        options = (
            f"[{', '.join(literal(str(path)) for path in self.paths)}]",
            f"columns = {{{columns}}}",
            f"delim = {literal(self.delimiter)}",
            """quote = '"', escape = '"', comment = '', new_line = '\\n', encoding = 'utf-8'""",
            f"header = {self.header}",
            f"nullstr = [{literals(nulls)[1:-1]}]",
            f"allow_quoted_nulls = {quoted_nulls}",
            f"max_line_size = {longest}",
            f"buffer_size = {max(_BUFFER, 4 * longest)}",
            f"null_padding = {self.padded}",
            f"parallel = {self.parallel}",
            "auto_detect = false, strict_mode = true, hive_partitioning = false",
        )
        return f"read_csv({', '.join(options)})"


def in_pieces(csv: PlainCsv, row_bytes: int, *, work: Path, beat: Beat) -> PlainCsv:
    """The same rows in files of some megabytes in ``work`` if they are large, else ``csv``."""
    if row_bytes <= _LARGE_ROW:
        return csv
    (whole,) = csv.paths
    paths = []
    for number, piece in enumerate(_pieces(whole, header=csv.header)):
        paths.append(work / f"piece-{number}.csv")
        paths[-1].write_bytes(piece)
        beat()
    if whole.is_relative_to(work):
        whole.unlink()
    return replace(csv, paths=tuple(paths), header=False)


def _pieces(whole: Path, *, header: bool) -> Iterator[bytes]:
    """Whole records together, without the header, which is one line."""
    rest = b""
    with whole.open("rb") as file:
        if header:
            file.readline()
        while piece := file.read(_PIECE):
            rest += piece
            match = _RECORDS.match(rest)
            end = 0 if match is None else match.end()
            if end:
                yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest
