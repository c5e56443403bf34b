"""``multipart/form-data`` (RFC 7578) read as it arrives: its file goes straight to the disk.

Not by Werkzeug: its parser copies a file twice and answers a form without its end as an empty one,
and its decoder adds a carriage return to a file when a piece ends one byte after the boundary.
Here a form that ends before its final boundary is malformed, and a part that is not expected, or
comes twice, is an error.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from werkzeug.http import parse_options_header

from app.kernel.errors import FieldError, Invalid, Malformed, TooLarge, escape

MOST_TEXT = 500_000
MOST_PARTS = 100
_MOST_BOUNDARY = 200  # by the RFC 70, but Werkzeug's own client goes past that now and then
_MOST_HEAD = 16_384
_MOST_LISTED = 20


@dataclass
class Form:
    """What a form held: its texts, and what its file part said of itself."""

    texts: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    file_type: str = ""


@dataclass(frozen=True)
class Part:
    """The beginning of a part: what its headers say."""

    name: str
    filename: str | None
    content_type: str


class FormReader:
    """Reads one form whose texts are ``texts`` and whose file is the part named ``file``."""

    def __init__(self, texts: frozenset[str], write: Callable[[bytes], None]) -> None:
        self._expected = texts
        self._write = write
        self._form = Form()
        self._errors: list[FieldError] = []
        self._seen: set[str] = set()

    def read(self, pieces: Iterable[bytes], boundary: str | None) -> Form:
        """Read the form to its end.

        Raises Malformed for what is no form or has no end, TooLarge for too many or too large
        texts, Invalid for parts that are unknown, missing or there twice.
        """
        for count, (part, content) in enumerate(parts(pieces, boundary), start=1):
            if count > MOST_PARTS:
                raise TooLarge(f"A form may have {MOST_PARTS} parts")
            self._take(part, content)
            self._seen.add(part.name)
        if "file" not in self._seen:
            self._refuse("file", "required", "The form has no part `file`")
        if self._errors:
            raise Invalid("The form is not valid", errors=self._errors[:_MOST_LISTED])
        return self._form

    def _take(self, part: Part, content: Iterator[bytes]) -> None:
        if part.name in self._seen:
            self._refuse(part.name, "twice", "The form has this part twice")
        elif part.name == "file":
            self._take_file(part, content)
        elif part.name in self._expected:
            # A text may come as a file, too: `curl -F columns=@columns.json`.
            self._take_text(part, content)
        else:
            self._refuse(part.name, "unknown_field", "The form has no such part")

    def _take_file(self, part: Part, content: Iterator[bytes]) -> None:
        if part.filename is None:
            self._refuse("file", "invalid", "The part `file` must have a filename")
            return
        self._form.filename, self._form.file_type = part.filename, part.content_type
        for piece in content:
            self._write(piece)

    def _take_text(self, part: Part, content: Iterator[bytes]) -> None:
        text = bytearray()
        for piece in content:
            text += piece
            if len(text) > MOST_TEXT:
                raise TooLarge(f"A text of a form may have {MOST_TEXT} bytes")
        try:
            self._form.texts[part.name] = text.decode()
        except UnicodeDecodeError:
            self._refuse(part.name, "invalid_text", "Not UTF-8")

    def _refuse(self, name: str, code: str, detail: str) -> None:
        self._errors.append(FieldError(f"/{escape(name[:100])}", code, detail))


def parts(pieces: Iterable[bytes], boundary: str | None) -> Iterator[tuple[Part, Iterator[bytes]]]:
    """The parts of a form, each with its content, which is skipped where it is not taken.

    Raises Malformed.
    """
    if not boundary or len(boundary) > _MOST_BOUNDARY or not boundary.isascii():
        raise Malformed(f"A form needs a boundary of at most {_MOST_BOUNDARY} ASCII characters")
    # A form may begin with its boundary: the line break before it is put there for it.
    stream = _Stream(pieces, b"\r\n")
    delimiter = b"\r\n--" + boundary.encode()
    before = 0
    for piece in stream.until(delimiter):
        before += len(piece)
        if before > _MOST_HEAD:
            raise Malformed("The form does not begin with its boundary")
    while not stream.starts_with(b"--"):
        if stream.line(_MOST_HEAD).strip(b" \t"):
            raise Malformed("The form's boundary is part of its content")
        content = stream.until(delimiter)
        yield _part(stream), content
        for _ in content:
            pass
    stream.exhaust()


class _Stream:
    """Bytes that come in pieces, of which no more are kept than a search needs."""

    def __init__(self, pieces: Iterable[bytes], head: bytes) -> None:
        self._pieces = iter(pieces)
        self._kept = bytearray(head)

    def _more(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise Malformed("The form ends before its final boundary")
        self._kept += piece

    def until(self, mark: bytes) -> Iterator[bytes]:
        """The bytes before a mark, which is taken off, too."""
        while (at := self._kept.find(mark)) < 0:
            # The mark may have begun within the last bytes.
            if sure := max(0, len(self._kept) - len(mark) + 1):
                yield bytes(self._kept[:sure])
                del self._kept[:sure]
            self._more()
        if at:
            yield bytes(self._kept[:at])
        del self._kept[: at + len(mark)]

    def line(self, most: int) -> bytes:
        """The bytes before the next line break, which is taken off, too."""
        line = b""
        for piece in self.until(b"\r\n"):
            line += piece
            if len(line) > most:
                raise TooLarge(f"The head of a part may have {most} bytes")
        return line

    def starts_with(self, mark: bytes) -> bool:
        """Whether these bytes come next; they stay."""
        while len(self._kept) < len(mark):
            self._more()
        return self._kept.startswith(mark)

    def exhaust(self) -> None:
        """Take what is left, for nothing."""
        self._kept.clear()
        for _ in self._pieces:
            pass


def _part(stream: _Stream) -> Part:
    """What the headers before a part's content say; raises Malformed, TooLarge."""
    disposition, content_type, room = "", "", _MOST_HEAD
    while line := stream.line(room):
        room -= len(line)
        try:
            name, _, value = line.decode().partition(":")
        except UnicodeDecodeError as error:
            raise Malformed("The head of a part is not UTF-8") from error
        if name.strip().lower() == "content-disposition":
            disposition = value.strip()
        elif name.strip().lower() == "content-type":
            content_type = parse_options_header(value.strip())[0].lower()
    kind, told = parse_options_header(disposition)
    if kind != "form-data" or "name" not in told:
        raise Malformed("A part of the form has no name")
    return Part(told["name"], told.get("filename"), content_type)
