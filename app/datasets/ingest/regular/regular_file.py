"""A CSV file that seems regular, line by line."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from app.datasets.ingest.regular.likely import Irregular

_BLOCK = 1 << 20


@dataclass(frozen=True)
class RegularFile:
    """A file whose lines after the first ``header_bytes`` hold such columns: name and type."""

    path: Path
    header_bytes: int
    delimiter: str
    columns: tuple[tuple[str, str], ...]
    rows: int

    @property
    def row_bytes(self) -> int:
        """About the size of a line."""
        return self.path.stat().st_size // self.rows

    def blocks(self) -> Generator[tuple[int, bytes], None, None]:
        """Whole lines at a time, and how many came before them."""
        rows, rest = 0, b""
        with self.path.open("rb") as file:
            file.seek(self.header_bytes)
            while piece := file.read(_BLOCK):
                end = piece.rfind(b"\n") + 1
                text, rest = rest + piece[:end], piece[end:] if end else rest + piece
                if len(rest) > _BLOCK:
                    raise Irregular
                if end:
                    yield rows, text
                    rows += text.count(b"\n")
        if rest:
            yield rows, rest + b"\n"
