"""The bytes of a file as UTF-8 text or as they are: inflated, transcoded, bounded by size.

Compression is what the request says, never what a name or the bytes suggest.
"""

import codecs
import zlib
from collections.abc import Iterator
from pathlib import Path

from app.datasets.ingest_request import IngestRequest
from app.kernel.errors import Invalid, Malformed, TooLarge

PIECE = 1 << 18
_GZIP = 31  # zlib's window bits for the gzip format
_KNOWN = {
    b"\x1f\x8b": "gzip: send it with Content-Encoding: gzip",
    b"PAR1": "Parquet: send it as application/vnd.apache.parquet",
    b"PK\x03\x04": "a ZIP file or a spreadsheet: export it as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: export it as CSV",
    b"BZh": "bzip2: use gzip",
    b"\xfd7zXZ": "xz: use gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard: use gzip",
}
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class ByteSource:
    """A file's bytes after decompression. Raises TooLarge, Malformed (gzip) or Invalid (empty)."""

    def __init__(self, request: IngestRequest) -> None:
        self._request = request
        self.expanded = 0

    def __iter__(self) -> Iterator[bytes]:
        pieces = _pieces(self._request.source)
        for piece in _inflate(pieces) if self._request.gzip else pieces:
            self.expanded += len(piece)
            most = self._request.limits.max_expanded_bytes
            if self.expanded > most:
                raise TooLarge(
                    f"A table may have {most} bytes when expanded", extra={"limit": most}
                )
            yield piece
        if not self.expanded:
            raise Invalid.at("", "empty", "The file is empty")


class TextSource:
    """A file's text as UTF-8 bytes without a byte order mark; UTF-8 itself is not yet checked.

    ``verbatim`` says, once iteration has begun, whether they are the bytes of the file.
    """

    def __init__(self, request: IngestRequest) -> None:
        self._request = request
        self._bytes = ByteSource(request)
        self.verbatim = not request.gzip and request.codec == "utf-8"

    def __iter__(self) -> Iterator[bytes]:
        pieces = _headed(self._bytes, self._request.codec)
        if self._request.codec != "utf-8":
            pieces = _transcode(pieces, self._request.codec)
        first = True
        for piece in filter(None, pieces):
            text = piece
            if first and piece.startswith(codecs.BOM_UTF8):
                text, self.verbatim = piece[len(codecs.BOM_UTF8) :], False
            first = False
            yield text


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """All members of a gzip stream; raises Malformed where it is cut short or no gzip."""
    inflater, begun = zlib.decompressobj(_GZIP), False
    try:
        for piece in pieces:
            data, text = piece, b""
            while data or (len(text) == PIECE and not inflater.eof):
                if inflater.eof:
                    inflater = zlib.decompressobj(_GZIP)
                text = inflater.decompress(data, PIECE)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                begun = True
                if text:
                    yield text
    except zlib.error as error:
        raise Malformed("The body isn't gzip, or is damaged") from error
    if begun and not inflater.eof:
        raise Malformed("The gzip stream ends before its end")


def _headed(pieces: "ByteSource | Iterator[bytes]", codec: str) -> Iterator[bytes]:
    """The same pieces, unless the first shows that they are no text in that encoding."""
    first = True
    for piece in pieces:
        if first:
            _refuse_known(piece, codec)
        first = False
        yield piece


def _refuse_known(head: bytes, codec: str) -> None:
    for magic, name in _KNOWN.items():
        if head.startswith(magic):
            raise Invalid.at("", "not_text", f"The file isn't text but {name}")
    if codec == "utf-8" and (head.startswith(_WIDE_MARKS) or b"\0" in head[:2]):
        raise Invalid.at("?encoding", "not_utf8", "The text looks like UTF-16: say encoding=utf-16")


def _transcode(pieces: Iterator[bytes], codec: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)()
    done = 0
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode()
            done += len(piece)
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        detail = f"Not {codec}, at or after byte {done}"
        raise Invalid.at("?encoding", "not_decodable", detail) from error
