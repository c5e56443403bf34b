"""Questions to a neighbour process of the same host, over a Unix socket.

A message is msgpack in a length-prefixed frame (``multiprocessing.connection`` frames it; nothing
is ever pickled). A question is ``[method, arguments]``, where it belongs to a trace
with ``[traceparent, tracestate]`` besides; the answers are any number of
``["chunk", bytes]``, then one ``["ok", value]`` or ``["error", {..}]``; ``["lost", status]`` comes
from whoever has seen the answering process die. Each connection carries one
question at a time and has a thread of its own at the server. Whoever may open the socket may ask,
so it lies in a folder of mode 0700. Whoever owns the folder may answer, so it must be ours: it lies
among the temporary files, and when those are cleared away, another user could make one of its name.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Client as open_connection  # noqa: N813 (a function by its nature)
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import structlog

from app.kernel import errors
from app.kernel.errors import DeadlineExceeded, ServiceError, Unavailable
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import sound_trace
from app.kernel.tracing.span import Span

Handler = Callable[[dict[str, Any]], Any]
log = structlog.get_logger("local_rpc")
_PING = "ping"


def _nothing(_arguments: dict[str, Any]) -> None:
    """Answers a ping."""


class Lost(Unavailable):
    """The process died after it had been asked; ``exit_status``: how, where somebody saw it."""

    def __init__(self, name: str, exit_status: int | None = None) -> None:
        super().__init__(f"The {name} process has gone", retry_after=1)
        self.exit_status = exit_status


class Answering:
    """Answers questions by name. A handler returns a value, or an iterator of byte chunks."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers: dict[str, Handler] = {**handlers, _PING: _nothing}

    def converse(self, connection: Connection) -> None:
        """Answer what comes over a connection until its other end is closed."""
        # ValueError: what came is no question of ours.
        with connection, contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                method, arguments, *beneath = msgspec.msgpack.decode(connection.recv_bytes())
                parent = sound_trace(*beneath[0]) if beneath else None
                with tracer.span(method, "server", parent=parent, only_within=True) as span:
                    self._answer(connection, method, arguments, span)

    def _answer(
        self, connection: Connection, method: str, arguments: dict[str, Any], span: Span
    ) -> None:
        try:
            value = self._handlers[method](arguments)
            if isinstance(value, Iterator):
                for chunk in value:
                    _send(connection, ["chunk", chunk])
                value = None
            answer = ["ok", value]
        except ServiceError as error:
            answer = ["error", error.as_dict()]
            span.fail(error.code)
        except (OSError, EOFError):
            raise
        except Exception:  # The door of the process: told to the caller as our fault.
            log.exception("handler_failed", method=method)
            answer = ["error", {"code": ServiceError.code, "detail": f"{method} failed"}]
            span.fail(ServiceError.code)
        _send(connection, answer)


def listen(path: Path) -> Listener:
    """A socket at which a server may wait for questions."""
    path.unlink(missing_ok=True)
    return Listener(str(path), family="AF_UNIX", backlog=128)


class Server:
    """Answers at a socket, each connection in a thread of its own."""

    def __init__(self, at: Path | Listener, handlers: Mapping[str, Handler]) -> None:
        self._answering = Answering(handlers)
        self._listener = listen(at) if isinstance(at, Path) else at
        self._address = str(self._listener.address)
        self._stopped = False

    def run(self) -> None:
        """Serve until ``stop``."""
        while not self._stopped:
            try:
                connection = self._listener.accept()
            except OSError:
                if self._stopped:
                    return
                raise
            threading.Thread(
                target=self._answering.converse, args=(connection,), daemon=True
            ).start()

    def stop(self) -> None:
        """Take no more connections; the open ones end with the process."""
        self._stopped = True
        with contextlib.suppress(OSError):
            open_connection(self._address, family="AF_UNIX").close()
        self._listener.close()


class Client:
    """Asks the server at a socket; connections are kept and used by one thread at a time.

    Without ``keep`` each question has a connection of its own.
    """

    def __init__(self, path: Callable[[], Path], name: str, *, keep: bool = True) -> None:
        self._path = path
        self._name = name
        self._keep = keep
        self._idle: SimpleQueue[Connection] = SimpleQueue()

    def ask(
        self,
        method: str,
        arguments: dict[str, Any],
        *,
        seconds: float,
        deadline: float | None = None,
    ) -> Any:
        """The answer to a question; ``deadline`` is a moment of the monotonic clock.

        Raises the handler's ServiceError, DeadlineExceeded when it takes longer, Unavailable when
        the process is not there, Lost when it dies meanwhile.
        """
        told = {"rpc.method": method, "peer.service": self._name}
        name = f"{method} {self._name}"
        with tracer.span(name, "client", attributes=told, only_within=True):
            for kind, value in self._converse(method, arguments, seconds, deadline):
                if kind == "ok":
                    return value
        raise Lost(self._name)

    def ping(self) -> None:
        """Raise Unavailable unless the process answers."""
        self.ask(_PING, {}, seconds=5)

    def stream(
        self,
        method: str,
        arguments: dict[str, Any],
        *,
        seconds: float,
        deadline: float | None = None,
    ) -> Iterator[bytes]:
        """The chunks of an answer; ``seconds`` is the longest wait for the next one, ``deadline``
        the moment of the monotonic clock by which the last one must be there.
        """
        for kind, value in self._converse(method, arguments, seconds, deadline):
            if kind == "chunk":
                yield value

    def _converse(
        self,
        method: str,
        arguments: dict[str, Any],
        seconds: float,
        deadline: float | None = None,
    ) -> Iterator[tuple[str, Any]]:
        connection: Connection | None = self._open(method, arguments)
        reusable = False
        try:
            while connection is not None:
                left = math.inf if deadline is None else deadline - time.monotonic()
                if not connection.poll(max(0.0, min(seconds, left))):
                    raise DeadlineExceeded(f"The {self._name} process took too long")
                kind, value = msgspec.msgpack.decode(connection.recv_bytes())
                if kind == "lost":
                    raise Lost(self._name, value)
                if kind == "error":
                    reusable = self._keep
                    raise errors.told(value)
                if kind == "ok":
                    if self._keep:
                        # Free for the next one before the value is handed over and used.
                        self._idle.put(connection)
                        connection = None
                    yield kind, value
                    return
                yield kind, value
        except (OSError, EOFError) as error:
            raise Lost(self._name) from error
        finally:
            if connection is not None:
                if reusable:
                    self._idle.put(connection)
                else:
                    connection.close()

    def _open(self, method: str, arguments: dict[str, Any]) -> Connection:
        beneath = tracer.carried()
        question = msgspec.msgpack.encode([method, arguments, *([beneath] if beneath else [])])
        with contextlib.suppress(Empty):
            while True:
                connection = self._idle.get_nowait()
                try:
                    connection.send_bytes(question)
                except OSError:
                    # Left over from a process that has been restarted since.
                    connection.close()
                else:
                    return connection
        try:
            path = self._path()
            if path.parent.stat().st_uid != os.geteuid():
                log.error("foreign_sockets", folder=str(path.parent))
                raise Unavailable(f"The {self._name} process is not there", retry_after=1)
            connection = open_connection(str(path), family="AF_UNIX")
            connection.send_bytes(question)
        except OSError as error:
            raise Unavailable(f"The {self._name} process is not there", retry_after=1) from error
        return connection


def tell_lost(connection: Connection, status: int) -> None:
    """Tell in the place of a process that died how it did."""
    with contextlib.suppress(OSError):
        _send(connection, ["lost", status])


def _send(connection: Connection, message: list[Any]) -> None:
    connection.send_bytes(msgspec.msgpack.encode(message))
