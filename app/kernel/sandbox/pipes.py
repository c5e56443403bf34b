"""Bounded reading of what a sandboxed child says: JSON lines, and whatever it prints.

Both never block: they are read when a selector says so, a piece at a time, so that a child that
talks without end can't keep the worker from looking at its clock.
"""

import codecs
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

_PIECE_BYTES = 1 << 16
_TAIL_BYTES = 8 << 10


class Lines:
    """JSON objects, one a line, from a socket; what isn't one is dropped."""

    def __init__(self, end: socket.socket, limit: int) -> None:
        self._end = end
        self._limit = limit
        self._unread = bytearray()
        self.overflowed = False
        end.setblocking(False)

    def fileno(self) -> int:
        return self._end.fileno()

    def read(self) -> bool:
        """Take the next piece; False at the end."""
        try:
            piece = self._end.recv(_PIECE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.overflowed |= len(self._unread) + len(piece) > self._limit
        if not self.overflowed:
            self._unread += piece
        return bool(piece)

    def messages(self) -> Iterator[dict[str, Any]]:
        """The whole lines that came since the last call."""
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            # Of a line that nests too deep, too.
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message


class Log:
    """A pipe for the child's output: the first bytes into a file, the last ones in memory."""

    def __init__(self, path: Path, limit: int, on_text: Callable[[str], None]) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._file = path.open("wb", buffering=0)
        self._room = limit
        self._last = b""
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_writer()
        os.close(self._reader)
        self._file.close()

    def fileno(self) -> int:
        return self._reader

    @property
    def writer(self) -> int:
        """The child's end."""
        return self._writer

    def close_writer(self) -> None:
        """Once the child has it: else its end would never show."""
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1

    def read(self) -> bool:
        """Take the next piece; False at the end."""
        try:
            piece = os.read(self._reader, _PIECE_BYTES)
        except BlockingIOError:
            return True
        self._last = (self._last + piece)[-_TAIL_BYTES:]
        if self._room > 0:
            self._keep(piece[: self._room])
        return bool(piece)

    def _keep(self, piece: bytes) -> None:
        self._room -= len(piece)
        text = self._decoder.decode(piece)
        if self._room <= 0:
            piece += b"\n[more output was dropped]\n"
        try:
            self._file.write(piece)
        except OSError:
            # A log that can't be written is no reason to end the run.
            self._room = 0
        if text:
            self._on_text(text)

    def tail(self) -> str:
        """The last lines of the output."""
        return self._last.decode(errors="replace")
