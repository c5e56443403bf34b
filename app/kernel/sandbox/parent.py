"""Runs a function in a child process that can't harm its neighbours and always ends.

``Sandbox.run`` forks a child from a warm helper (forkserver.py), which has the preload list
imported already: ~20 ms instead of seconds. The child lives in its own session under limits that
are set before the target runs (child.py). ``run`` waits, hands on progress, keeps a
bounded log, and comes back with an ``Outcome`` whatever happened; when it returns, or raises, no
process of the child's group is alive.

Who dies with whom (Linux): the child's whole group and the helper die in the kernel when the
worker does, also by SIGKILL and also inside native code. When the helper dies, ``run`` ends with
``lost`` and the next one starts a new helper.

On macOS there is no limit of memory, a child dies with its worker only when the interpreter gets
to run a thread, processes aren't counted, and orphans that left the group aren't found.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from app.kernel.child_environment import bare_environment
from app.kernel.errors import Unavailable
from app.kernel.processes import oom_kills, running_processes
from app.kernel.sandbox import forkserver
from app.kernel.sandbox.child import RESULT_BYTES
from app.kernel.sandbox.outcome import Code, Ending, Outcome, judge
from app.kernel.sandbox.pipes import Lines, Log
from app.kernel.sandbox.steps import MOST_BYTES
from app.kernel.tracing import tracer

LOG_NAME = "output.log"
_LOOK_SECONDS = 0.2
_COUNT_SECONDS = 1.0
_START_SECONDS = 10.0
_REQUEST_SECONDS = 10.0
_GONE_SECONDS = 2.0
_LEASH_BYTES = 4096
_PRELOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Limits:
    """What one run may use. Memory is counted on top of what the preloaded modules take.

    ``cpu_seconds`` is whole seconds of processor time of the child itself; ``file_bytes`` is the
    size of any one file; ``log_bytes`` is how much of the output is kept (the rest is dropped).
    ``grace_seconds`` lie between SIGTERM and SIGKILL at the end of ``wall_seconds``; a cancelled
    child gets a tenth of them.
    """

    wall_seconds: float
    memory_bytes: int
    cpu_seconds: float | None
    file_bytes: int
    threads: int = 1
    processes: int = 32
    open_files: int = 256
    log_bytes: int = 1 << 20
    nice: int = 5
    grace_seconds: float = 2.0


class Sandbox:
    """Starts the helper when it is first needed; any number of threads may ``run`` at once."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = ["threadpoolctl", *preload]
        self._lock = threading.Lock()
        self._helper: _Helper | None = None

    def warm(self) -> int:
        """Start the helper unless it lives, and wait until it has preloaded; its pid.

        Raises Unavailable when a module of the preload list can't be imported.
        """
        with self._lock:
            return self._living_helper().pid

    def close(self) -> None:
        """End the helper and whatever still runs."""
        with self._lock:
            self._end_helper()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        target: str,
        arguments: Mapping[str, Any],
        work: Path,
        limits: Limits,
        *,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_log: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        """Run ``package.module:function`` as ``function(arguments, report)`` in ``work``.

        ``report`` takes a dict that reaches ``on_progress``; of several between two looks only the
        last does: progress is a state, not a log. Result and arguments are JSON. The output goes
        to ``work / "output.log"`` and ``on_log``. ``should_stop`` is asked about five times a
        second, in this thread. When one of the callbacks raises, the child is killed and the
        error goes on. Raises Unavailable when no child can be started.
        """
        told = {"code.function.name": target}
        name = f"child {target.rpartition(':')[2]}"
        with tracer.span(name, attributes=told, only_within=True) as span:
            request = {
                "target": target,
                "arguments": dict(arguments),
                "work": str(work.absolute()),
                "limits": asdict(limits),
                "traced": span.trace is not None,
            }
            kills = oom_kills()
            with Log(work / LOG_NAME, limits.log_bytes, on_log) as log:
                with self._spawn(log.writer) as child:
                    log.close_writer()
                    child.order(json.dumps(request, allow_nan=False).encode() + b"\n")
                    _Watch(child, log, limits, on_progress, should_stop).until_end()
                outcome = judge(child.ending, limits.cpu_seconds, log.tail(), oom_kills() - kills)
            tracer.tell([child.ending.last_words.get("steps")], span.trace)
            if outcome.code != "ok":
                span.fail(outcome.code)
            return outcome

    def _spawn(self, log: int) -> "_Child":
        with self._lock:
            try:
                return self._living_helper().spawn(log)
            except OSError:
                # It died since we looked.
                self._end_helper()
                return self._living_helper().spawn(log)

    def _living_helper(self) -> "_Helper":
        if self._helper is not None and not self._helper.alive():
            self._end_helper()
        if self._helper is None:
            self._helper = _Helper(self._preload)
        return self._helper

    def _end_helper(self) -> None:
        if self._helper is not None:
            self._helper.close()
        self._helper = None


class _Helper:
    """The process that forks: started, asked for children, ended."""

    def __init__(self, preload: list[str]) -> None:
        ours, theirs = socket.socketpair()
        life, self._life = os.pipe()
        self._control = ours
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    *(sys.executable, "-m", forkserver.__name__),
                    *(str(theirs.fileno()), str(life), json.dumps(preload)),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), life),
                start_new_session=True,
                env=bare_environment(),
            )
        os.close(life)
        self.pid = self._process.pid
        answer = self._answer()
        if "ready" not in answer:
            self.close()
            raise Unavailable(f"The sandbox can't start: {answer.get('refused', 'no answer')}")

    def _answer(self) -> dict[str, Any]:
        self._control.settimeout(_PRELOAD_SECONDS)
        try:
            with self._control.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
        except TimeoutError:
            return {"refused": f"the preload took more than {_PRELOAD_SECONDS:.0f} s"}
        return answer

    def alive(self) -> bool:
        return self._process.poll() is None

    def spawn(self, log: int) -> "_Child":
        """Raises OSError when the helper has just died."""
        leash, their_leash = socket.socketpair()
        wire, their_wire = socket.socketpair()
        their_life, life = os.pipe()
        child = _Child(leash, wire, life)
        try:
            with their_leash, their_wire:
                descriptors = [their_leash.fileno(), their_wire.fileno(), log, their_life]
                socket.send_fds(self._control, [forkserver.SPAWN], descriptors)
            child.await_start()
        except (OSError, Unavailable):
            child.close()
            raise
        finally:
            os.close(their_life)
        return child

    def close(self) -> None:
        self._control.close()
        os.close(self._life)
        try:
            self._process.wait(_GONE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Child:
    """Our ends of the four lines to one child; closing them kills whatever is left of it."""

    def __init__(self, leash: socket.socket, wire: socket.socket, life: int) -> None:
        self.leash = leash
        self.wire = wire
        self._life: int | None = life
        self.ending = Ending()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def await_start(self) -> None:
        """Raises OSError when the helper died before it forked, Unavailable when it hangs."""
        self.leash.settimeout(_START_SECONDS)
        line = b""
        try:
            # Byte by byte: what follows the first line is read by the watch.
            while not line.endswith(b"\n") and (piece := self.leash.recv(1)):
                line += piece
        except TimeoutError as error:
            raise Unavailable("The sandbox's helper doesn't answer") from error
        told = json.loads(line or b"{}")
        if "refused" in told:
            raise Unavailable(f"The sandbox can't start a process: {told['refused']}")
        if "pid" not in told:
            raise ConnectionResetError("the helper died")
        self.ending.pid = told["pid"]

    def order(self, request: bytes) -> None:
        """Send the request; if the child died before it could read it, the leash tells so."""
        self.wire.settimeout(_REQUEST_SECONDS)
        with contextlib.suppress(OSError):
            self.wire.sendall(request)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Through the helper, and through the kernel in case that the helper can't."""
        self._signal(signal.SIGKILL)
        if self._life is not None:
            os.close(self._life)
        self._life = None

    def _signal(self, number: signal.Signals) -> None:
        # It fails when the child has ended or the helper is gone.
        with contextlib.suppress(OSError):
            self.leash.send(bytes([number]))

    def close(self) -> None:
        """Kill, and wait until nobody holds the other ends any more."""
        self.kill()
        for end in (self.leash, self.wire):
            end.settimeout(_GONE_SECONDS)
            with end, contextlib.suppress(OSError):
                while end.recv(1 << 16):
                    pass


class _Watch:
    """Waits for one child: reads what it says, keeps its time, stops it when told to."""

    def __init__(
        self,
        child: _Child,
        log: Log,
        limits: Limits,
        on_progress: Callable[[dict[str, Any]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._child, self._ending = child, child.ending
        self._log = log
        self._limits = limits
        self._on_progress, self._should_stop = on_progress, should_stop
        self._wire = Lines(child.wire, RESULT_BYTES + MOST_BYTES)
        self._leash = Lines(child.leash, _LEASH_BYTES)
        self._deadline = time.monotonic() + limits.wall_seconds
        self._next_look = self._next_count = 0.0
        self._kill_at: float | None = None
        self._gave_up = False

    def until_end(self) -> None:
        """Until the helper has told how the child ended, or is gone itself."""
        with selectors.DefaultSelector() as selector:
            for end in (self._leash, self._wire, self._log):
                selector.register(end, selectors.EVENT_READ, end)
            while self._leash in selector.get_map() and not self._gave_up:
                for key, _ in selector.select(self._patience()):
                    if not key.data.read():
                        selector.unregister(key.data)
                self._listen()
                self._look()
            # What was written before the end is still in the pipes.
            while selector.get_map() and (ready := selector.select(0)):
                for key, _ in ready:
                    if not key.data.read():
                        selector.unregister(key.data)
            self._listen()

    def _patience(self) -> float:
        """Seconds until there is something to do even though nobody says anything."""
        now = time.monotonic()
        if self._kill_at is None:
            until = min(self._next_look, self._deadline)
        else:
            until = self._kill_at if now < self._kill_at else now + _LOOK_SECONDS
        return min(max(until - now, 0.0), _LOOK_SECONDS)

    def _listen(self) -> None:
        progress = None
        for message in self._wire.messages():
            progress = message.get("progress", progress)
            self._ending.last_words |= {
                kind: said for kind, said in message.items() if kind != "progress"
            }
        for message in self._leash.messages():
            self._ending.exit.update(message)
        if self._wire.overflowed:
            self._stop("error", grace=0)
        if isinstance(progress, dict):
            self._on_progress(progress)

    def _look(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._child.kill()
            if now >= self._kill_at + _GONE_SECONDS:
                self._gave_up = True
            return
        if now >= self._deadline:
            self._stop("time_limit", self._limits.grace_seconds)
        elif now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            if self._should_stop():
                self._stop("cancelled", self._limits.grace_seconds / 10)
            elif now >= self._next_count:
                self._next_count = now + _COUNT_SECONDS
                self._count_processes()

    def _count_processes(self) -> None:
        session = self._ending.pid
        size = sum(process.session == session for process in running_processes())
        if size > self._limits.processes:
            self._stop("process_limit", grace=0)

    def _stop(self, reason: Code, grace: float) -> None:
        if self._kill_at is None:
            self._ending.reason = reason
            self._kill_at = time.monotonic() + grace
            self._child.terminate()
