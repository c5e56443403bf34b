"""An upload on its way from the client to the disk: counted, digested, and believed only whole.

A server hands over what it got before the client vanished as if that were all of it. So a body is
complete when it has as many bytes as its Content-Length says, or the digest that its
Content-Digest says; a body that promises neither is refused before it is read.
"""

import hashlib
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.kernel.artifacts.stored import disk_errors, write_all
from app.kernel.errors import Invalid, LengthRequired, Malformed, TooLarge

PIECE = 1 << 18
_FILENAME = 255


@dataclass(frozen=True)
class Promise:
    """What a request's headers say of its body: bytes, and its SHA-256."""

    length: int | None
    digest: bytes | None

    def check(self, most: int) -> None:
        """Raise LengthRequired when nothing is promised, TooLarge when too much is."""
        if self.length is None and self.digest is None:
            raise LengthRequired("Send Content-Length, or Content-Digest with a chunked body")
        if self.length is not None and self.length > most:
            raise _too_large(most)


class Body:
    """The bytes of a request's body, piece by piece; ``verify`` when they have all been taken.

    ``beat`` is called with each piece: a slow client must not lose what is held for it.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        promise: Promise,
        *,
        most: int,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        promise.check(most)
        self._read = read
        self._promise = promise
        self._most = most
        self._beat = beat
        self._sha256 = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        """The pieces. Raises TooLarge past the limit, Malformed where the connection broke."""
        while piece := self._next():
            self.bytes += len(piece)
            if self.bytes > self._most:
                raise _too_large(self._most)
            self._sha256.update(piece)
            self._beat()
            yield piece

    def _next(self) -> bytes:
        try:
            return self._read(PIECE)
        except OSError as error:
            raise Malformed("The connection broke within the body") from error

    def verify(self) -> None:
        """Raise Malformed when bytes are missing, Invalid when they aren't those promised."""
        if self._promise.length is not None and self.bytes != self._promise.length:
            raise Malformed("The body ended before its Content-Length")
        if self._promise.digest is not None and self._sha256.digest() != self._promise.digest:
            found = f"sha-256=:{b64encode(self._sha256.digest()).decode()}:"
            raise Invalid.at(
                "Content-Digest", "mismatch", f"The body that arrived has the digest {found}"
            )


class Spool:
    """A new file that is written piece by piece, counted and digested."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        with disk_errors():
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, piece: bytes) -> None:
        """Append a piece; raises StorageFull when it doesn't fit."""
        with disk_errors():
            write_all(self._handle, piece)
        self._sha256.update(piece)
        self.bytes += len(piece)

    @property
    def digest(self) -> str:
        """The digest of what was written."""
        return f"sha-256:{self._sha256.hexdigest()}"

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def throttled(seconds: float, action: Callable[..., None]) -> Callable[..., None]:
    """The same action, done at most once in so many seconds; not at the first call at once."""
    last = time.monotonic()

    def seldom(*arguments: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            action(*arguments)

    return seldom


def plain_filename(sent: str | None) -> str | None:
    """A client's file name fit to be shown: its last segment, printable, 255 characters at most."""
    if sent is None:
        return None
    name = sent.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in name if char.isprintable())[:_FILENAME] or None


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"An upload may have {most} bytes", extra={"limit": most})
