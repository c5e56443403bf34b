"""Keeps a serving process alive that may be killed by what it is asked.

The process that runs the ``Keeper`` has imported everything and then does nothing but fork, so that
a new server is there in milliseconds instead of seconds. There are two sockets, which it holds
open, so that a question that arrives while there is no server waits instead of being refused:

- at ``shared`` one child answers everybody, each connection in a thread;
- at ``alone`` each connection gets a child of its own, which answers it and ends: for a question
  that may have killed the other one. So many at once; further ones wait.

The children end with the keeper, also when that is killed. It has one thread, so it may fork.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import structlog

from app.kernel.leash import die_with
from app.kernel.local_rpc import Answering, Handler, Server, listen, tell_lost
from app.kernel.tracing import tracer

_MOST_ALONE = 4
_CALM_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_STOP_SECONDS = 10.0
_OOM_SCORE = "500"
log = structlog.get_logger("keeper")


class Keeper:
    """Forks servers until SIGTERM; ``make_handlers`` is called in each child."""

    def __init__(
        self, shared: Path, alone: Path, make_handlers: Callable[[], Mapping[str, Handler]]
    ) -> None:
        alone.parent.mkdir(mode=0o700, exist_ok=True)
        self._make_handlers = make_handlers
        self._shared = listen(shared)
        alone.unlink(missing_ok=True)
        self._alone = socket.socket(socket.AF_UNIX)
        self._alone.bind(str(alone))
        self._alone.listen()
        self._wakened, self._waker = os.pipe()
        self._server: int | None = None
        self._single: dict[int, Connection] = {}
        self._started = self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for end in (self._wakened, self._waker):
            os.set_blocking(end, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        # Without a handler no byte would reach the wake-up descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        # What the collector never touches again stays shared with the children.
        gc.collect()
        gc.freeze()
        while not self._stopping:
            self._collect()
            if self._server is None and time.monotonic() >= self._not_before:
                self._start_server()
            self._wait()
        self._stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _wait(self) -> None:
        """For a signal, a question to be answered alone, or the end of a pause."""
        waited_for: list[int | socket.socket] = [self._wakened]
        if len(self._single) < _MOST_ALONE:
            waited_for.append(self._alone)
        pause = None
        if self._server is None:
            pause = max(self._not_before - time.monotonic(), 0.0)
        ready, _, _ = select.select(waited_for, [], [], pause)
        if self._wakened in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakened, 4096)
        if self._alone in ready:
            self._answer_alone()

    def _collect(self) -> None:
        """Take note of children that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended[0], os.waitstatus_to_exitcode(ended[1])
                if status:
                    log.warning("server_died", pid=pid, status=status, alone=pid != self._server)
                if pid == self._server:
                    self._plan_next()
                elif pid in self._single:
                    with self._single.pop(pid) as connection:
                        tell_lost(connection, status)

    def _plan_next(self) -> None:
        """At once, unless the last one has died at once too."""
        now = time.monotonic()
        calm = now - self._started > _CALM_SECONDS
        self._pause = _FIRST_PAUSE if calm else min(2 * self._pause, _LONGEST_PAUSE)
        self._not_before = now if calm else now + self._pause
        self._server = None

    def _start_server(self) -> None:
        self._started = time.monotonic()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(keeper, self._serve)
        self._server = pid
        log.info("server_started", pid=pid)

    def _serve(self) -> None:
        server = Server(self._shared, self._make_handlers())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        server.run()

    def _answer_alone(self) -> None:
        # Kept open here too: so that whoever asked can be told how the child died.
        connection = Connection(self._alone.accept()[0].detach())
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(keeper, lambda: self._answer(connection))
        self._single[pid] = connection

    def _answer(self, connection: Connection) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Answering(self._make_handlers()).converse(connection)

    def _become(self, keeper: int, serve: Callable[[], None]) -> NoReturn:
        """The rest of a child's life: it must never run on as a second keeper."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with(keeper)
            # When memory runs out the kernel should take this process, not those who ask it.
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
            for end in (self._wakened, self._waker, self._alone.fileno()):
                os.close(end)
            for others in self._single.values():
                others.close()
            serve()
            status = 0
        except BaseException:
            log.exception("server_failed")
        finally:
            tracer.stop()
            os._exit(status)

    def _stop(self) -> None:
        for pid in (self._server, *self._single):
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < until:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.01)
            except ChildProcessError:
                return
