"""What a row of CSV is: walked value by value, or matched against the shape it should have."""

import re
from dataclasses import dataclass

_QUOTED_REST = re.compile(rb'(?:[^"]++|"")*+("?)')


@dataclass(frozen=True)
class Field:
    """Where a value lies in its record, quotes included, and whether it begins with one."""

    start: int
    end: int
    quoted: bool


class Record:
    """One record, walked value by value; it may go on over several lines."""

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._bare = re.compile(rb"[^%s]*+" % re.escape(delimiter))
        self._position = 0
        self._start = 0
        self.text = bytearray()
        self.open = False
        self.loose = False
        self.multiline = False
        self.carriage_return = False
        self.fault: tuple[str, str] | None = None
        self.fields: list[Field] = []

    def add(self, block: bytes, start: int = 0) -> int:
        """Take what belongs to the record from whole lines; returns where the next one starts.

        Afterwards the record is complete, or ``open`` at the end of the lines.
        """
        while True:
            # Within quotes lines mean nothing: on to the line in which the quotes end.
            inside = _QUOTED_REST.match(block, start) if self.open else None
            end = block.find(b"\n", start if inside is None else max(start, inside.end() - 1))
            if inside is not None and not inside[1]:
                end = len(block) - 1
            line = block[start:end]
            self.text += line.removesuffix(b"\r")
            self.carriage_return = len(line) > 0 and line.endswith(b"\r")
            self._walk()
            start = end + 1
            if not self.open:
                return start
            self.text += b"\r\n" if self.carriage_return else b"\n"
            self._position = len(self.text)
            self.multiline = True
            if start >= len(block):
                return start

    def _walk(self) -> None:
        delimited = True
        while delimited and self.fault is None:
            if self.open or self.text.startswith(b'"', self._position):
                self._walk_quoted()
            else:
                self._walk_bare()
            if self.open:
                return
            delimited = self._position < len(self.text)
            self._position += 1

    def _walk_quoted(self) -> None:
        if not self.open:
            self._start = self._position
            self._position += 1
        match = _QUOTED_REST.match(self.text, self._position)
        end = len(self.text) if match is None else match.end()
        self._position, self.open = end, match is None or not match[1]
        if self.open:
            return
        self.fields.append(Field(self._start, end, quoted=True))
        if end < len(self.text) and not self.text.startswith(self._delimiter, end):
            self.fault = ("text_after_quote", "text after a closing quote")

    def _walk_bare(self) -> None:
        match = self._bare.match(self.text, self._position)
        end = len(self.text) if match is None else match.end()
        value = self.text[self._position : end]
        if b"\r" in value:
            self.fault = ("carriage_return", "a carriage return outside quotes")
        self.loose = self.loose or b'"' in value
        self.fields.append(Field(self._position, end, quoted=False))
        self._position = end

    def plain(self) -> bytes:
        """The record in strict quoting."""
        if not self.loose:
            return bytes(self.text)
        values = []
        for field in self.fields:
            value = bytes(self.text[field.start : field.end])
            strict = field.quoted or b'"' not in value
            values.append(value if strict else b'"%s"' % value.replace(b'"', b'""'))
        return self._delimiter.join(values)

    def values(self) -> list[bytes]:
        """The values, unquoted."""
        return [
            bytes(self.text[field.start + 1 : field.end - 1]).replace(b'""', b'"')
            if field.quoted
            else bytes(self.text[field.start : field.end])
            for field in self.fields
        ]


class RowShape:
    """What strictly quoted rows of one width look like."""

    def __init__(self, delimiter: bytes, width: int) -> None:
        quoted = rb'"(?:[^"\n\r\0]++|"")*+"'
        value = rb'(?:[^"\n\r\0%s]*+|%s)' % (re.escape(delimiter), quoted)
        row = rb"(?:%s%s){%d}%s" % (value, re.escape(delimiter), width - 1, value)
        self._width = width
        self._row = re.compile(row)
        self._rows = re.compile(rb"(?:%s\n)*+" % row)
        self._others = bytes(set(range(256)) - set(delimiter + b"\n"))
        self._separators = delimiter * (width - 1) + b"\n"

    def plain(self, block: bytes) -> bytes | None:
        """Whole lines with LF as their end if all are strict rows within one line, else None."""
        text = block.replace(b"\r\n", b"\n") if b"\r" in block else block
        blank = self._width == 1 and (text.startswith(b"\n") or b"\n\n" in text)
        if blank or b"\0" in text or not is_utf8(text):
            return None
        if b'"' in text or b"\r" in text:
            return text if self._rows.fullmatch(text) else None
        separators = text.translate(None, self._others)
        return text if separators == self._separators * text.count(b"\n") else None

    def is_row(self, line: bytes) -> bool:
        """Whether a line is a strict row."""
        return self._row.fullmatch(line) is not None and is_utf8(line)

    def fault(self, record: Record) -> tuple[str, str] | None:
        """What is wrong with a complete record."""
        if b"\0" in record.text:
            return "nul", "a NUL byte"
        if not is_utf8(record.text):
            return "not_utf8", "not UTF-8"
        if len(record.fields) != self._width:
            return "ragged", f"{len(record.fields)} values, but there are {self._width} columns"
        return None


def is_utf8(text: bytes | bytearray) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
