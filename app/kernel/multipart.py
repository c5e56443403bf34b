"""``multipart/form-data`` read as it arrives: its file goes straight to the disk, never to memory.

Werkzeug's own form parser copies a file twice, and answers a form without its parts or its end as
an empty one. Here a form that ends before its final boundary is malformed, and a part that is not
expected, or comes twice, is an error.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

from app.kernel.bodies import escape
from app.kernel.errors import FieldError, Invalid, Malformed, TooLarge

MOST_TEXT = 500_000
MOST_PARTS = 100
_MOST_BOUNDARY = 70
_MOST_LISTED = 20


@dataclass
class Form:
    """What a form held: its texts, and what its file part said of itself."""

    texts: dict[str, str] = field(default_factory=dict)
    has_file: bool = False
    filename: str | None = None
    file_type: str = ""


class FormReader:
    """Reads one form whose texts are ``texts`` and whose file is the part named ``file``."""

    def __init__(self, texts: frozenset[str], write: Callable[[bytes], None]) -> None:
        self._expected = texts
        self._write = write
        self._form = Form()
        self._errors: list[FieldError] = []
        self._seen: set[str] = set()
        self._text: bytearray | None = None
        self._text_name = ""
        self._in_file = False

    def read(self, pieces: Iterable[bytes], boundary: str | None) -> Form:
        """Read the form to its end.

        Raises Malformed for what is no form or has no end, TooLarge for too many or too large
        texts, Invalid for parts that are unknown, missing or there twice.
        """
        try:
            for event in _events(pieces, _boundary(boundary)):
                self._take(event)
        except RequestEntityTooLarge as error:
            raise TooLarge(
                f"A form may have {MOST_PARTS} parts and {MOST_TEXT} bytes of text"
            ) from error
        if not self._form.has_file and "file" not in self._seen:
            self._errors.append(FieldError("/file", "required", "The form has no part `file`"))
        if self._errors:
            raise Invalid("The form is not valid", errors=self._errors[:_MOST_LISTED])
        return self._form

    def _take(self, event: Event) -> None:
        if isinstance(event, Field | File):
            self._begin(event)
        elif isinstance(event, Data):
            if self._in_file:
                self._write(event.data)
            elif self._text is not None:
                self._add_text(event)

    def _begin(self, part: Field | File) -> None:
        name = part.name
        if not isinstance(name, str):
            raise Malformed("A part of the form has no name")
        self._in_file, self._text = False, None
        if name in self._seen:
            self._refuse(name, "twice", "The form has this part twice")
        elif name == "file" and isinstance(part, File):
            self._in_file = self._form.has_file = True
            self._form.filename = part.filename
            self._form.file_type = parse_options_header(part.headers.get("Content-Type"))[0].lower()
        elif name == "file":
            self._refuse(name, "invalid", "The part `file` must have a filename")
        elif name not in self._expected:
            self._refuse(name, "unknown_field", "The form has no such part")
        else:
            # A text may come as a file, too: `curl -F columns=@columns.json`.
            self._text, self._text_name = bytearray(), name
        self._seen.add(name)

    def _add_text(self, event: Data) -> None:
        if self._text is None:
            return
        self._text += event.data
        if len(self._text) > MOST_TEXT:
            raise TooLarge(f"A text of a form may have {MOST_TEXT} bytes")
        if not event.more_data:
            try:
                self._form.texts[self._text_name] = self._text.decode()
            except UnicodeDecodeError:
                self._refuse(self._text_name, "invalid_text", "Not UTF-8")

    def _refuse(self, name: str, code: str, detail: str) -> None:
        self._errors.append(FieldError(f"/{escape(name[:100])}", code, detail))


def _boundary(sent: str | None) -> bytes:
    if not sent or len(sent) > _MOST_BOUNDARY or not sent.isascii():
        raise Malformed("multipart/form-data needs a boundary of 1 to 70 ASCII characters")
    return sent.encode()


def _events(pieces: Iterable[bytes], boundary: bytes) -> Iterator[Event]:
    """The decoder's events up to the form's end; raises Malformed where there is none."""
    # The decoder holds one piece and what may be the beginning of a boundary.
    decoder = MultipartDecoder(boundary, max_form_memory_size=MOST_TEXT, max_parts=MOST_PARTS)
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue):
            yield event
    except ValueError as error:
        raise Malformed("The form can't be read, or ends before its final boundary") from error
