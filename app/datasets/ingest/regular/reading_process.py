"""A process that reads blocks for a conversion. Threads would hinder one another: NumPy's calls are
short, and between them each wants the interpreter for itself.

It gets lines and gives back what was read, one after the other, by pickles on its standard input
and output; arrays follow their pickle as they lie in memory. It opens no file, and ends with its
input: at the latest, when the process that started it does.
"""

import fcntl
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from io import BufferedReader
from typing import IO, Any, Self

import numpy as np

from app.datasets.ingest.regular.block_reader import BlockReader, Lines, ReadBlock
from app.datasets.ingest.regular.likely import Irregular, ReaderDied
from app.datasets.ingest.regular.text_blocks import Bytes
from app.kernel.child_environment import bare_environment
from app.kernel.heaps import keep_heaps

_PIPE_BYTES = 1 << 20


class ReadingProcess:
    """A ``BlockReader`` in a process of its own; for one thread at a time."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader = reader
        self._started = False
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=bare_environment(),
        )
        self._asked, self._answers = _roomy(self._process.stdin), _roomy(self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it is doing."""
        # Lines may be left that it didn't take.
        with suppress(BrokenPipeError), self._process:
            self._process.kill()

    def read(self, lines: Lines) -> ReadBlock:
        """Raises Irregular, and ReaderDied when the process has ended."""
        try:
            if not self._started:
                _send(self._asked, self._reader)
                self._started = True
            _send(self._asked, lines)
            found = _receive(self._answers)
        except (EOFError, BrokenPipeError) as error:
            raise ReaderDied from error
        if not isinstance(found, ReadBlock):
            raise Irregular
        return found


def _roomy(pipe: Any) -> Any:
    """The pipe, with room for half a block."""
    # Linux alone has it, and an administrator may allow less.
    with suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return pipe


def _send(end: IO[bytes], message: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(pickled), *(len(view) for view in views)]
    end.writelines([np.array([len(sizes), *sizes], np.int64).tobytes(), pickled, *views])
    end.flush()


def _receive(end: BufferedReader) -> Any:
    """The next message; raises EOFError at the end."""
    (count,) = np.frombuffer(_exactly(end, 8), np.int64).tolist()
    pickled, *sizes = np.frombuffer(_exactly(end, 8 * count), np.int64).tolist()
    message = _exactly(end, pickled)
    # Each has memory of its own: what is kept of a block must not keep the whole block.
    arrays = [_exactly(end, size) for size in sizes]
    return pickle.loads(message.data, buffers=arrays)  # noqa: S301 - of our own process


def _exactly(end: BufferedReader, size: int) -> Bytes:
    found = np.empty(size, np.uint8)
    if end.readinto(found.data) != size:
        raise EOFError
    return found


def main() -> None:
    """Read whatever is sent, until nothing more is."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    keep_heaps()
    asked: Any = sys.stdin.buffer
    reader: BlockReader = _receive(asked)
    while asked.peek(1):
        # No name keeps a block while the next one comes.
        _send(sys.stdout.buffer, _read(reader, _receive(asked)))


def _read(reader: BlockReader, lines: Lines) -> ReadBlock | None:
    try:
        return reader.read(lines)
    except Irregular:
        return None


if __name__ == "__main__":
    main()
