"""What happens in a sandboxed child: limits, then the target, then one last message.

The wire carries JSON lines. Down comes one request: ``{"target", "arguments", "work", "limits",
"traced"}``. Up go any number of ``{"progress": {...}}``, one ``{"steps": {...}}`` where it is
traced, and at most one of ``{"result": ...}`` and
``{"failure": {...}}``: none, when the child is killed or native code ends the process.
"""

import contextlib
import errno
import faulthandler
import fcntl
import importlib
import json
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from app.kernel.errors import ServiceError
from app.kernel.processes import running_processes
from app.kernel.sandbox.steps import Steps

RESULT_BYTES = 8 << 20
FAILED_TO_START = 70
_LAST_WORDS_BYTES = 64 << 20
_TRACEBACK_FRAMES = 20
_MESSAGE_CHARACTERS = 2000
_FOLDERS = re.compile(r"(?<![\w/:.])(?:/[^\s/'\":,;]+)+/(?=[^\s/'\"])")
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT)


def main(wire_descriptor: int, log: int, life: int) -> NoReturn:
    """Run the one target that the worker asks for, and end the process."""
    os.setsid()
    die_with_worker(life)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _redirect(log)
    wire = _Wire(socket.socket(fileno=wire_descriptor))
    request = wire.request()
    steps, failed = Steps(request["target"]), False
    try:
        _apply_limits(request["limits"], Path(request["work"]))
        target = _target(request["target"])
        _limit_threads(request["limits"]["threads"])
        result = target(request["arguments"], steps.heard(wire.report))
        last_words = wire.encode_result(result)
    except BaseException as error:  # noqa: BLE001 - the door: whatever it is, the worker is told
        _make_room_for_last_words()
        last_words = wire.encode({"failure": _failure(error)}, default=str)
        failed = True
    sys.stdout.flush()
    sys.stderr.flush()
    if request["traced"]:
        wire.send(wire.encode({"steps": steps.told(failed=failed)}))
    wire.send(last_words)
    os._exit(0)


class _Wire:
    """JSON lines to and from the worker; only the process that opened it may write."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def request(self) -> dict[str, Any]:
        with self._end.makefile("rb") as lines:
            request: dict[str, Any] = json.loads(lines.readline())
        return request

    def report(self, progress: Mapping[str, Any]) -> None:
        """Tell the worker how far the target is; of several in a row only the last may count."""
        self.send(self.encode({"progress": dict(progress)}))

    def encode_result(self, result: Any) -> bytes:
        encoded = self.encode({"result": result})
        if len(encoded) > RESULT_BYTES:
            raise ValueError(f"the result has {len(encoded)} bytes, more than {RESULT_BYTES}")
        return encoded

    def encode(
        self, message: Mapping[str, Any], default: Callable[[Any], Any] | None = None
    ) -> bytes:
        return json.dumps(message, allow_nan=False, default=default).encode() + b"\n"

    def send(self, line: bytes) -> None:
        if os.getpid() == self._owner:
            with self._lock:
                self._end.sendall(line)


def die_with_worker(life: int) -> None:
    """End this process's whole group as soon as the other end of ``life`` is closed.

    On Linux the kernel does it by SIGKILL, also inside native code; PR_SET_PDEATHSIG would follow
    the fork server instead of the worker. Elsewhere a thread does it, as soon as it gets to run.
    """
    if sys.platform != "linux":
        threading.Thread(target=_wait_for_end, args=(life,), daemon=True).start()
        return
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(life, fcntl.F_GETFL)
    fcntl.fcntl(life, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    # Closed before it was armed: no signal will come, but the end of file can be read.
    with contextlib.suppress(BlockingIOError):
        _wait_for_end(life)


def _wait_for_end(life: int) -> None:
    os.read(life, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _redirect(log: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()


def _target(name: str) -> Callable[[Any, Callable[[Mapping[str, Any]], None]], Any]:
    module, _, function = name.partition(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return target


def _apply_limits(limits: Mapping[str, Any], work: Path) -> None:
    os.chdir(work)
    os.umask(0o077)
    os.environ["TMPDIR"] = tempfile.tempdir = str(work)
    _give_way(limits["nice"])
    # The kernel should take this process before the worker when memory runs out.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    cpu = limits["cpu_seconds"]
    if cpu is not None:
        _lower(resource.RLIMIT_CPU, max(1, round(cpu)), spare=2)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, limits["open_files"])
    _lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _limit_processes(limits["processes"])
    _limit_memory(limits["memory_bytes"], limits["threads"])
    # Should the worker be stopped, the kernel keeps the time in its place.
    signal.setitimer(signal.ITIMER_REAL, limits["wall_seconds"] + limits["grace_seconds"])


def _give_way(nice: int) -> None:
    """Let everybody else go first.

    Where Linux groups processes by their sessions (autogroup), niceness counts within the session
    only, and this child has one of its own: then the session itself has to be nice.
    """
    os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def _lower(kind: int, value: int, *, spare: int = 0) -> None:
    """Set a limit, never above the one that is there; ``spare`` is added to its hard form."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
        spare = min(spare, hard - value)
    resource.setrlimit(kind, (value, value + spare))


def _limit_memory(memory_bytes: int, threads: int) -> None:
    """Bound what is allocated on top of what the server had mapped before the fork.

    RLIMIT_DATA counts private writable memory: it is the limit proper. RLIMIT_AS also counts
    shared and mapped files and mere reservations (each thread reserves a stack and a heap): it is
    the outer bound for what RLIMIT_DATA doesn't see. macOS keeps neither.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return
    sizes = dict(re.findall(r"^(VmSize|VmData):\s+(\d+) kB", status.read_text(), re.MULTILINE))
    data = int(sizes["VmData"]) * 1024 + memory_bytes + threads * (8 << 20)
    space = int(sizes["VmSize"]) * 1024 + 2 * memory_bytes + threads * (256 << 20)
    _lower(resource.RLIMIT_DATA, data, spare=_LAST_WORDS_BYTES)
    _lower(resource.RLIMIT_AS, space, spare=_LAST_WORDS_BYTES)


def _make_room_for_last_words() -> None:
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))


def _limit_processes(processes: int) -> None:
    """RLIMIT_NPROC counts all threads of the user on this machine, and never binds root.

    So it is set far above the present count, as a wall against fork bombs only; the worker counts
    the processes of this session from outside.
    """
    user = os.getuid()
    if not user:
        return
    present = sum(process.threads for process in running_processes() if process.user == user)
    if present:
        _lower(resource.RLIMIT_NPROC, present + 512 + processes)


def _limit_threads(threads: int) -> None:
    """By threadpoolctl for the libraries that are loaded, by environment for those to come."""
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "LOKY_MAX_CPU_COUNT",
    ):
        os.environ[name] = str(threads)
    importlib.import_module("threadpoolctl").threadpool_limits(threads)
    if "numpy" in sys.modules:
        # All children inherit one state of the global generator.
        sys.modules["numpy"].random.seed()


def _failure(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    code = getattr(error, "code", None)
    field_errors = error.errors if isinstance(error, ServiceError) else ()
    return {
        "code": _code(error),
        "type": kind.__name__,
        "error_code": code if isinstance(code, str) else None,
        "message": _without_folders(str(error))[:_MESSAGE_CHARACTERS] or kind.__name__,
        "expected": _is_expected(error),
        "errors": [field.as_dict() for field in field_errors],
        "traceback": _trimmed_traceback(error),
    }


def _code(error: BaseException) -> str:
    """What in the chain of causes tells most."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for link in chain:
        if isinstance(link, MemoryError) or "OutOfMemory" in type(link).__name__:
            return "memory_limit"
        if isinstance(link, OSError) and link.errno == errno.ENOMEM:
            return "memory_limit"
        if isinstance(link, OSError) and link.errno in _STORAGE_ERRORS:
            return "storage_full"
        if isinstance(link, OSError) and link.errno == errno.EFBIG:
            return "file_limit"
    return "error"


def _is_expected(error: BaseException) -> bool:
    """Whether the error is an answer to the client's input rather than a defect."""
    said = getattr(error, "expected", None)
    if isinstance(said, bool):
        return said
    return isinstance(error, ServiceError) and error.status < 500


def _trimmed_traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[1:][-_TRACEBACK_FRAMES:]
    return "\n".join(f"{_short(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames)


def _short(filename: str) -> str:
    """A source file without the folders that tell about this machine."""
    within = filename.rpartition("site-packages/")[2]
    return within if within != filename else "/".join(Path(filename).parts[-2:])


def _without_folders(message: str) -> str:
    return _FOLDERS.sub("…/", message)
