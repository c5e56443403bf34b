"""JSON text cut into its records: the lines of NDJSON, or the elements of one array.

Strict JSON in UTF-8, never held whole. A bad line of NDJSON is a bad row; after a syntax error
within an array nobody can say where the next element begins, so that is the end.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.datasets.ingest.byte_source import TextSource
from app.datasets.ingest.row_errors import invalid_row
from app.datasets.ingest.table_engine import Beat
from app.datasets.ingest_request import IngestRequest
from app.kernel.errors import Invalid

_SPACE = re.compile(r"[ \t\n\r]*+")


@dataclass(frozen=True)
class Element:
    """A record: its text and its value, in which an object is a tuple of key-value pairs."""

    text: str
    value: Any


@dataclass(frozen=True)
class Constant:
    """NaN or an infinity, which Python would read although they aren't JSON."""

    name: str


class BadRow(Exception):
    """Why a row is refused, and its text where there is no element."""

    def __init__(self, code: str, reason: str, column: str | None = None, text: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.column = None if column is None else column.encode(errors="replace").decode()
        self.text = text


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=Constant)


def read_lines(request: IngestRequest, beat: Beat) -> Iterator[Element | BadRow]:
    """The records of NDJSON; blank lines are none. Raises Invalid for a line over the limit."""
    most = request.limits.max_line_bytes
    count = 0
    carry = b""
    for piece in TextSource(request):
        beat()
        *lines, carry = (carry + piece).split(b"\n")
        for line in (*lines, carry) if len(carry) > most else lines:
            if len(line) > most:
                raise _too_long(count, most)
            if line.strip():
                count += 1
                yield _line(line)
    if carry.strip():
        yield _line(carry)


def _line(line: bytes) -> Element | BadRow:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return BadRow("not_utf8", "not UTF-8", text=line.decode(errors="backslashreplace"))
    try:
        return Element(text, _DECODER.decode(text))
    except (ValueError, RecursionError) as error:
        return BadRow("not_json", f"not JSON: {_why(error)}", text=text)


def read_array(request: IngestRequest, beat: Beat) -> Iterator[Element]:
    """The records of an array of objects. Raises Invalid at the first syntax error."""
    text = _ArrayText(request, beat)
    if text.mark() != "[":
        raise Invalid.at("", "not_an_array", "The JSON must be an array of objects")
    text.skip()
    if text.mark() == "]":
        text.skip()
    else:
        while True:
            yield text.element()
            mark = text.mark()
            text.skip()
            if mark == "]":
                break
            if mark != ",":
                raise text.broken("a comma or the array's end is missing")
    if text.mark():
        raise text.broken("there is something after the array")


class _ArrayText:
    """The text of an array, of which a window is held."""

    def __init__(self, request: IngestRequest, beat: Beat) -> None:
        self._pieces = iter(TextSource(request))
        self._beat = beat
        self._most = request.limits.max_line_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._window = ""
        self._position = 0
        self._ended = False
        self._count = 0

    def mark(self) -> str:
        """The next character that isn't space; empty at the end."""
        while True:
            space = _SPACE.match(self._window, self._position)
            self._position = self._position if space is None else space.end()
            if self._position < len(self._window) or self._ended:
                return self._window[self._position : self._position + 1]
            self._read(1)

    def skip(self) -> None:
        """Go past the next character."""
        self._position += 1

    def element(self) -> Element:
        """The next element."""
        self.mark()
        while True:
            held = len(self._window) - self._position
            try:
                value, end = _DECODER.raw_decode(self._window, self._position)
            except (ValueError, RecursionError) as error:
                if self._ended or isinstance(error, RecursionError):
                    raise self.broken(_why(error)) from error
            else:
                # A number may go on in what isn't read yet.
                if end < len(self._window) or self._ended:
                    text = self._window[self._position : end]
                    self._position = end
                    self._count += 1
                    return Element(text, value)
            if held > self._most:
                raise _too_long(self._count, self._most)
            self._read(held)

    def broken(self, why: str) -> Invalid:
        """The error of an array that can't be read on."""
        shown = self._window[self._position : self._position + 100]
        return invalid_row(self._count + 1, "not_json", f"not JSON: {why}", shown)

    def _read(self, characters: int) -> None:
        """Hold so many characters more, or all there are."""
        window = [self._window[self._position :]]
        self._position = 0
        added = 0
        while added < characters and not self._ended:
            self._beat()
            piece = next(self._pieces, None)
            self._ended = piece is None
            try:
                window.append(self._utf8.decode(piece or b"", final=self._ended))
            except UnicodeDecodeError as error:
                raise invalid_row(self._count + 1, "not_utf8", "not UTF-8") from error
            added += len(window[-1])
        self._window = "".join(window)


def _too_long(count: int, most: int) -> Invalid:
    return invalid_row(count + 1, "long_line", f"the row has more than {most} bytes")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
