"""The helper process that forks sandboxed children: one per worker, warm, with a single thread.

It imports the preload list once and then only waits, so that a fork is cheap and safe. In order,
for each run: the worker sends one byte with four descriptors; the server forks; the child lives in
its own session; when it ends the server kills what is left of its group *before* it collects the
exit status (until then the number of the group can't be given to anybody else), and then tells the
worker. It adopts the orphans of its children (Linux) and kills them when the next child ends,
whatever session they fled to.

The descriptors of a run:

- ``leash``: worker -> server, each byte is a signal for the child's group, end of file kills it;
  server -> worker, two JSON lines: ``{"pid"}`` and ``{"status", "cpu_seconds", "peak_bytes"}``
- ``wire``: worker -> child, the request; child -> worker, progress and result (child.py)
- ``log``: what the child prints
- ``life``: nothing is ever written; its end of file means that the worker is gone

Only the standard library is imported here, besides the preload list.
"""

import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any, NoReturn

from app.kernel.loading import loading
from app.kernel.processes import running_processes
from app.kernel.sandbox import child

SPAWN = b"s"
DESCRIPTORS = 4
_CHILD_SUBREAPER = 36


class _Server:
    """Forks children on demand, passes signals on to them and tells how they ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._leashes: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def serve(self) -> None:
        """Until the worker closes its end of the control socket."""
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        # The handler does nothing, but without one no byte would reach the wake-up descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, 0)
        serving = True
        while serving:
            for key, _ in self._selector.select():
                if key.data is None:
                    serving = self._spawn()
                elif key.data == 0:
                    self._collect()
                elif key.data in self._leashes:
                    self._obey(key.data)
        for pid in self._leashes:
            _signal_group(pid, signal.SIGKILL)

    def _spawn(self) -> bool:
        """Fork one child; False when the worker is gone."""
        word, descriptors, _, _ = socket.recv_fds(self._control, 1, DESCRIPTORS)
        if not word:
            return False
        leash = socket.socket(fileno=descriptors[0])
        wire, log, life = descriptors[1:]
        try:
            pid = os.fork()
        except OSError as error:
            _tell(leash, {"refused": error.strerror})
            leash.close()
        else:
            if pid == 0:
                self._become_child(leash, wire, log, life)
            self._leashes[pid] = leash
            self._selector.register(leash, selectors.EVENT_READ, pid)
            _tell(leash, {"pid": pid})
        for descriptor in (wire, log, life):
            os.close(descriptor)
        return True

    def _become_child(self, leash: socket.socket, wire: int, log: int, life: int) -> NoReturn:
        # Whatever happens here, the copy of the server must never run on in a child.
        try:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            for end in (self._control, self._woken, self._waker, leash, *self._leashes.values()):
                end.close()
            child.main(wire, log, life)
        finally:
            os._exit(child.FAILED_TO_START)

    def _obey(self, pid: int) -> None:
        """Pass signals on; a closed leash means that nobody waits for the child any more."""
        orders = b""
        with contextlib.suppress(OSError):
            orders = self._leashes[pid].recv(64)
        if not orders:
            self._selector.unregister(self._leashes[pid])
            _signal_group(pid, signal.SIGKILL)
        for number in orders:
            _signal_group(pid, number)

    def _collect(self) -> None:
        """Tell the worker of every child that ended, and leave nothing of it behind."""
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        endings = []
        while ended := _next_ended():
            pid, status, usage = ended
            leash = self._leashes.pop(pid, None)
            if leash is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(leash)
                endings.append((leash, _ending(status, usage)))
        for process in running_processes():
            if process.parent == os.getpid() and process.pid not in self._leashes:
                _signal_group(process.pid, signal.SIGKILL)
        for leash, ending in endings:
            _tell(leash, ending)
            leash.close()


def _next_ended() -> tuple[int, int, Any] | None:
    """Pid, status and usage of a child that ended, after the rest of its group was killed."""
    try:
        if sys.platform == "linux":
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            _signal_group(ended.si_pid, signal.SIGKILL)
            return os.wait4(ended.si_pid, 0)
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid:
        _signal_group(pid, signal.SIGKILL)
    return (pid, status, usage) if pid else None


def _ending(status: int, usage: Any) -> dict[str, Any]:
    unit = 1024 if sys.platform == "linux" else 1
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }


def _signal_group(pid: int, number: int) -> None:
    """A group that isn't there is either gone or not made yet: then the process alone."""
    try:
        os.killpg(pid, number)
    except OSError:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _tell(leash: socket.socket, message: dict[str, Any]) -> None:
    # A worker that has gone doesn't want to know.
    with contextlib.suppress(OSError):
        leash.sendall(json.dumps(message).encode() + b"\n")


def main(control_descriptor: int, life: int, preload: list[str]) -> None:
    """Preload, say so, serve; ends when the worker closes the control socket, or dies."""
    child.die_with_worker(life)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
    control = socket.socket(fileno=control_descriptor)
    try:
        with loading():
            for module in preload:
                importlib.import_module(module)
    except ImportError as error:
        _tell(control, {"refused": str(error)})
        return
    _tell(control, {"ready": os.getpid()})
    _Server(control).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
