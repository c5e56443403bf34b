"""A client that loads a server and costs little itself: raw sockets, one thread, one epoll.

The closed loop has so many callers, each of which asks again as soon as it is answered. The open
loop asks so many times a second whatever is answered; a question's time counts from the moment at
which it was due, so a server that makes the client wait doesn't look better for it.

A client that ``spins`` never sleeps, for on one machine waking it is the server's work: on a
virtual one that can cost more than a refusal does. It wants a core of its own.
"""

import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_PIECE = 1 << 16


@dataclass
class Answers:
    """What came of a load: seconds by status, and what was never answered."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    broken: int = 0
    unsent: int = 0
    client_seconds: float = 0.0

    def count(self, status: int) -> int:
        """How many answers had a status."""
        return len(self.seconds.get(status, ()))

    def rate(self, status: int) -> float:
        """Answers of a status a second."""
        return self.count(status) / (self.ended - self.started)

    def quantile(self, status: int, share: float) -> float:
        """The time within which this share of the answers of a status came; NaN for none."""
        return quantile(self.seconds.get(status, ()), share)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values doesn't exceed; NaN for none."""
    if not values:
        return float("nan")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class _Connection:
    """One connection, and the answer that is on its way on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self._heard = b""

    def read(self) -> int:
        """The status once the answer is whole, 0 before, -1 when the connection ended."""
        try:
            piece = self.socket.recv(_PIECE)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        if not piece:
            return -1
        heard = self._heard = self._heard + piece if self._heard else piece
        head = heard.find(b"\r\n\r\n")
        if head < 0:
            return 0
        length = _LENGTH.search(heard, 0, head)
        if length is None or len(heard) < head + 4 + int(length[1]):
            return 0
        self._heard = b""
        return int(heard[9:12])


def json_post(port: int, path: str, key: str, body: object) -> bytes:
    """A POST of this machine's port, as it goes over the wire."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Load:
    """Sends one request over and over to a port of this machine."""

    def __init__(self, port: int, request: bytes, *, spins: bool = False) -> None:
        self._port = port
        self._request = request
        self._patience = 0.0 if spins else 0.001
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._epoll = select.epoll()
        self._answers = Answers()

    def closed(self, callers: int, seconds: float) -> Answers:
        """So many callers at once, without a pause, for so long."""

        def again(until: float) -> None:
            while self._idle and time.monotonic() < until:
                self._send(self._idle.pop(), time.monotonic())

        return self._run(callers, seconds, again)

    def open(self, rate: float, seconds: float, *, most: int = 1000) -> Answers:
        """So many a second, on ``most`` connections; what finds none of them free is unsent."""
        next_due = time.monotonic()

        def due(until: float) -> None:
            nonlocal next_due
            now = time.monotonic()
            while next_due <= now and next_due < until:
                if self._idle:
                    self._send(self._idle.pop(), next_due)
                else:
                    self._answers.unsent += 1
                next_due += 1 / rate

        return self._run(most, seconds, due)

    def _run(self, connections: int, seconds: float, send: Callable[[float], None]) -> Answers:
        while len(self._connections) < connections:
            self._connect()
        self._answers = Answers(started=time.monotonic())
        busy = time.thread_time()
        until = self._answers.started + seconds
        while time.monotonic() < until:
            send(until)
            self._listen(self._patience)
        self._answers.ended = time.monotonic()
        self._answers.client_seconds = time.thread_time() - busy
        # What is still under way is heard out, and belongs to the load.
        patience = time.monotonic() + 10
        while len(self._idle) < len(self._connections) and time.monotonic() < patience:
            self._listen(0.05)
        return self._answers

    def _connect(self) -> None:
        made = _Connection(self._port)
        self._connections[made.socket.fileno()] = made
        self._epoll.register(made.socket.fileno(), select.EPOLLIN)
        self._idle.append(made)

    def _send(self, connection: _Connection, due: float) -> None:
        connection.due = due
        # Small enough for the socket's buffer; a connection that has ended is noticed by reading.
        with contextlib.suppress(OSError):
            connection.socket.send(self._request)

    def _listen(self, patience: float) -> None:
        for number, _ in self._epoll.poll(patience):
            connection = self._connections[number]
            status = connection.read()
            if status > 0:
                taken = time.monotonic() - connection.due
                self._answers.seconds.setdefault(status, []).append(taken)
                self._idle.append(connection)
            elif status < 0:
                self._replace(number)

    def _replace(self, number: int) -> None:
        """A connection that the server has closed, or broken, gives way to a new one."""
        ended = self._connections.pop(number)
        self._epoll.unregister(number)
        ended.socket.close()
        if ended in self._idle:
            self._idle.remove(ended)
        else:
            self._answers.broken += 1
        self._connect()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
