"""What a worker tells its supervisor of its load: datagrams over an inherited socket.

Nobody waits for anybody: a datagram that can't be sent at once is dropped, the next one says more.
"""

import contextlib
import socket
import struct
import time

from app.kernel.jobs.headcount import Heard, Load

_WORDS = struct.Struct("!II")
_LARGEST = 2**32 - 1


class Teller:
    """The worker's end."""

    def __init__(self, inherited: socket.socket) -> None:
        self._socket = inherited
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)

    def tell(self, load: Load) -> None:
        """Send it, if that can be done now."""
        with contextlib.suppress(OSError):
            self._socket.send(_WORDS.pack(*(min(number, _LARGEST) for number in load)))


class Listener:
    """The supervisor's end, and the worker's until that has it."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)

    def latest(self) -> Heard | None:
        """The last word since it was asked, or None."""
        heard = None
        with contextlib.suppress(OSError):
            while len(message := self._ours.recv(_WORDS.size)) == _WORDS.size:
                heard = Heard(Load(*_WORDS.unpack(message)), time.monotonic())
        return heard

    def close(self) -> None:
        """Hear no more."""
        self._ours.close()
        self.theirs.close()
