"""How a sandboxed run ended, judged from what the child said and from how its process ended.

A killed child says nothing, a child may say something and die all the same, and its last words may
be missing although it ended by itself: so the order in ``judge`` matters.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Code = Literal[
    "ok",
    "cancelled",
    "time_limit",
    "memory_limit",
    "cpu_limit",
    "file_limit",
    "process_limit",
    "storage_full",
    "native_crash",
    "error",
    "lost",
]

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_CRASHES |= {signal.SIGSYS, signal.SIGTRAP}
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "cannot allocate", "unable to allocate")


@dataclass(frozen=True)
class Failure:
    """The exception that ended the target.

    ``expected`` says that it answers the client's input (``expected = True`` on the exception, or
    one of the kernel's errors below 500): its message may be shown. ``error_code`` is the
    exception's own ``code``; ``errors`` are its field errors. No text names a folder.
    """

    type: str
    message: str
    traceback: str
    expected: bool
    error_code: str | None
    errors: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Outcome:
    """How a run ended; ``result`` is set when ``code`` is ``ok``, ``failure`` by an exception.

    ``log_tail`` is the raw end of the output: for operators, it may name folders.
    """

    code: Code
    detail: str
    result: Any = None
    failure: Failure | None = None
    log_tail: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass
class Ending:
    """What is known of a child so far."""

    pid: int | None = None
    reason: Code | None = None
    last_words: dict[str, Any] = field(default_factory=dict)
    exit: dict[str, Any] = field(default_factory=dict)


def judge(ending: Ending, cpu_limit: float | None, log_tail: str, oom_kills: int) -> Outcome:
    """The outcome of a child that has ended; ``oom_kills`` happened on the machine meanwhile."""
    code, detail, failure = _verdict(ending, cpu_limit, log_tail.lower(), oom_kills)
    return Outcome(
        code=code,
        detail=detail,
        result=ending.last_words.get("result") if code == "ok" else None,
        failure=failure,
        log_tail=log_tail,
        cpu_seconds=ending.exit.get("cpu_seconds", 0.0),
        peak_memory_bytes=ending.exit.get("peak_bytes", 0),
    )


def _verdict(
    ending: Ending, cpu_limit: float | None, log_tail: str, oom_kills: int
) -> tuple[Code, str, Failure | None]:
    if "result" in ending.last_words:
        return "ok", "", None
    if ending.reason is not None:
        return ending.reason, _REASONS[ending.reason], None
    if "failure" in ending.last_words:
        failure = _failure(ending.last_words["failure"])
        return ending.last_words["failure"]["code"], failure.message, failure
    return (*_silent_end(ending.exit, cpu_limit, log_tail, oom_kills), None)


def _failure(said: Mapping[str, Any]) -> Failure:
    return Failure(
        type=said["type"],
        message=said["message"],
        traceback=said["traceback"],
        expected=said["expected"],
        error_code=said["error_code"],
        errors=tuple(said["errors"]),
    )


def _silent_end(
    told: Mapping[str, Any], cpu_limit: float | None, log_tail: str, oom_kills: int
) -> tuple[Code, str]:
    """What ended a child that said nothing, by what the helper told of it."""
    if "status" not in told:
        return "lost", "The process that starts children died"
    if told["status"] < 0:
        used_up = cpu_limit is not None and told["cpu_seconds"] >= cpu_limit
        return _killed(signal.Signals(-told["status"]), used_up, log_tail, oom_kills)
    if any(word in log_tail for word in _OUT_OF_MEMORY):
        return "memory_limit", "Native code ended the process for want of memory"
    return "native_crash", f"Native code ended the process with status {told['status']}"


_REASONS: dict[Code, str] = {
    "cancelled": "The run was stopped",
    "time_limit": "The run took longer than its time limit",
    "process_limit": "The run started too many processes",
    "error": "The run sent a message that is too long",
}


def _killed(
    number: signal.Signals, cpu_used_up: bool, log_tail: str, oom_kills: int
) -> tuple[Code, str]:
    if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_used_up):
        return "cpu_limit", "The run used more processor time than its limit"
    if number == signal.SIGALRM:
        return "time_limit", _REASONS["time_limit"]
    if number == signal.SIGABRT and any(word in log_tail for word in _OUT_OF_MEMORY):
        return "memory_limit", "Native code ran out of memory"
    if number in _CRASHES:
        return "native_crash", f"Native code crashed ({number.name})"
    if number == signal.SIGKILL and oom_kills:
        return "memory_limit", "The machine ran out of memory"
    return "lost", f"The process was killed from outside ({number.name})"
