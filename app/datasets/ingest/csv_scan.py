"""CSV text checked row by row, and made plain where it isn't, so that any parser reads it alike.

The rules are RFC 4180's, with what is common beside it: LF, CRLF or CR end a line; blank lines are
skipped; a value that doesn't begin with a quote may contain quotes. Refused as rows: more or fewer
values than the header has, text after a closing quote, a carriage return outside quotes, NUL, what
isn't UTF-8. Refused as a whole: a quote that is never closed, a line over the limit.

As long as a file is plain (rows of one width, LF, strict quoting) nothing is written and the file
itself can be read; from the first deviation on a plain copy is made.
"""

from pathlib import Path
from typing import BinaryIO

from app.datasets.ingest.csv_rows import Record, RowShape, is_utf8
from app.datasets.ingest.open_file import HoldsFile
from app.datasets.ingest.row_errors import RowError, RowErrors, invalid_row
from app.datasets.ingest.table_source import check_names, check_width, column_name
from app.datasets.ingest_request import DELIMITERS, IngestLimits
from app.kernel.errors import Invalid, TooLarge

_SNIFFED_LINES = 50
_COPIED = 1 << 20


class PlainCopy(HoldsFile):
    """The plain text: the source itself up to the first change, a copy from then on."""

    def __init__(self, source: Path | None, copy: Path) -> None:
        self._source = source
        self._copy = copy
        self._kept = 0
        self._file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        """The file that holds the plain text."""
        return self._copy if self._file is not None or self._source is None else self._source

    @property
    def unchanged(self) -> bool:
        """Whether the source is plain as it is."""
        return self._file is None and self._source is not None

    def keep(self, text: bytes) -> None:
        """Take over the next bytes of the source."""
        if self._file is None and self._source is not None:
            self._kept += len(text)
        else:
            self.put(text)

    def put(self, text: bytes) -> None:
        """Write these instead of the next bytes of the source."""
        if self._file is None:
            self._file = self._copy.open("wb")
            if self._source is not None:
                self._copy_kept(self._source)
        self._file.write(text)

    def _copy_kept(self, source: Path) -> None:
        with source.open("rb") as original:
            remaining = self._kept
            while remaining and self._file is not None:
                piece = original.read(min(remaining, _COPIED))
                self._file.write(piece)
                remaining -= len(piece)


class CsvScan:
    """Reads pieces of CSV text with ``feed``, then ``finish``; tells what it saw.

    ``longest`` is a bound for the bytes of a record; ``multiline`` says that one spans lines.
    """

    def __init__(
        self, plain: PlainCopy, errors: RowErrors, limits: IngestLimits, delimiter: str | None
    ) -> None:
        self._plain = plain
        self._errors = errors
        self._limits = limits
        self._carry = b""
        self._lone_returns: bool | None = None
        self._record: Record | None = None
        self._delimiter = b"" if delimiter is None else delimiter.encode()
        self._shape = RowShape(b",", 1)
        self.names: list[str] = []
        self.rows = 0
        self.longest = 0
        self.multiline = False

    @property
    def delimiter(self) -> str:
        """What separates values: as requested, or as found."""
        return self._delimiter.decode()

    @property
    def is_plain(self) -> bool:
        """Whether the file itself is plain, a record a line."""
        return self._plain.unchanged and not self.multiline

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        text = self._carry + piece
        if self._lone_returns is None:
            self._lone_returns = _has_lone_returns(text)
        if self._lone_returns:
            text = text.replace(b"\r", b"\n")
        end = text.rfind(b"\n") + 1
        self._carry = text[end:]
        if end:
            self._take(text[:end])
        if len(self._carry) > self._limits.max_line_bytes:
            raise self._too_long()

    def finish(self) -> None:
        """Take the end of the text. Raises Invalid when there are no rows."""
        if self._carry:
            self._take(self._carry + b"\n")
            self._carry = b""
        if self._record is not None:
            raise self._never_closed()
        if not self.names:
            raise Invalid.at("", "empty", "The file has no header")
        if not self.rows:
            raise Invalid.at("", "no_rows", "The file has a header but no rows")

    def _take(self, block: bytes) -> None:
        """Take whole lines."""
        if self._lone_returns:
            # The source has other line ends: nothing of it can be kept.
            self._plain.put(b"")
        if not self.names:
            block = self._take_header(block)
        plain = None if self._record is not None else self._shape.plain(block)
        if plain is None or len(block) > self._limits.max_line_bytes:
            start = 0
            while start < len(block):
                start = self._take_line(block, start)
        else:
            self._count(plain.count(b"\n"))
            self.longest = max(self.longest, len(block))
            if plain is block:
                self._plain.keep(block)
            else:
                self._plain.put(plain)

    def _take_header(self, block: bytes) -> bytes:
        """Take the first line that isn't blank; returns what follows it."""
        lines = block.split(b"\n")
        blank = 0
        while blank < len(lines) and not lines[blank].rstrip(b"\r"):
            blank += 1
        if blank == len(lines):
            self._plain.put(b"")
            return b""
        line = lines[blank]
        if not self._delimiter:
            sample = lines[blank : blank + _SNIFFED_LINES]
            self._delimiter = _sniff(sample, self._limits.max_columns)
        check_width(line.count(self._delimiter) + 1, self._limits.max_columns)
        self.names = _names(line, self._delimiter)
        self._shape = RowShape(self._delimiter, len(self.names))
        self.longest = len(line) + 1
        if blank or line.endswith(b"\r"):
            self._plain.put(line.rstrip(b"\r") + b"\n")
        else:
            self._plain.keep(line + b"\n")
        return b"\n".join(lines[blank + 1 :])

    def _take_line(self, block: bytes, start: int) -> int:
        """Take the line that starts there, or a whole record; returns where the next starts."""
        if self._record is None:
            end = block.index(b"\n", start)
            line = block[start:end]
            text = line.removesuffix(b"\r")
            if not text:
                self._plain.put(b"")
                return end + 1
            if len(text) > self._limits.max_line_bytes:
                raise self._too_long()
            if self._shape.is_row(text):
                self._accept(text, changed=len(text) < len(line))
                return end + 1
            self._record = Record(self._delimiter)
        record = self._record
        after = record.add(block, start)
        if not record.open:
            self._record = None
            self._complete(record)
        elif len(record.text) > self._limits.max_line_bytes:
            raise self._never_closed()
        return after

    def _complete(self, record: Record) -> None:
        fault = record.fault or self._shape.fault(record)
        if fault is None:
            self.multiline = self.multiline or record.multiline or b"\r" in record.text
            self._accept(record.plain(), changed=record.carriage_return or record.loose)
            return
        self._count(1)
        self._plain.put(b"")
        raw = bytes(record.text).decode(errors="backslashreplace")
        code, reason = fault
        self._errors.add([RowError(self.rows, None, code, reason, raw)], raw)

    def _accept(self, text: bytes, *, changed: bool) -> None:
        self._count(1)
        self.longest = max(self.longest, len(text) + 1)
        if changed:
            self._plain.put(text + b"\n")
        else:
            self._plain.keep(text + b"\n")

    def _count(self, rows: int) -> None:
        self.rows += rows
        if self.rows > self._limits.max_rows:
            raise TooLarge(f"A table may have {self._limits.max_rows} rows")

    def _too_long(self) -> Invalid:
        most = self._limits.max_line_bytes
        return invalid_row(self.rows + 1, "long_line", f"the line has more than {most} bytes")

    def _never_closed(self) -> Invalid:
        text = b"" if self._record is None else bytes(self._record.text[:400])
        shown = text.decode(errors="backslashreplace")
        return invalid_row(self.rows + 1, "open_quote", "a quote is never closed", shown)


def _has_lone_returns(text: bytes) -> bool | None:
    """Whether the first line ends with CR and no LF; None where that can't be seen yet."""
    first = text.find(b"\r")
    if b"\n" in text[: first + 2] or (first < 0 and b"\n" in text):
        return False
    return True if 0 <= first < len(text) - 1 else None


def _names(line: bytes, delimiter: bytes) -> list[str]:
    record = Record(delimiter)
    record.add(line + b"\n")
    text = bytes(record.text)
    if record.open or record.fault is not None or b"\0" in text or not is_utf8(text):
        why = "a quote is never closed" if record.open else "it isn't valid UTF-8 CSV"
        raise Invalid.at("/columns", "header", f"The header can't be read: {why}")
    names = [column_name(value.decode()) for value in record.values()]
    check_names(names)
    return names


def _sniff(lines: list[bytes], most: int) -> bytes:
    """The delimiter that splits most lines as it does the header, into the most values."""
    candidates = [delimiter.encode() for delimiter in DELIMITERS]
    for delimiter in candidates:
        if lines[0].count(delimiter) >= most:
            return delimiter

    def score(delimiter: bytes) -> tuple[int, int]:
        widths = []
        for line in lines:
            record = Record(delimiter)
            record.add(line + b"\n")
            widths.append(0 if record.open or record.fault else len(record.fields))
        alike = widths.count(widths[0]) if widths[0] > 1 else 0
        return alike, lines[0].count(delimiter)

    return max(candidates, key=score)
