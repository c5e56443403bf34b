"""Worker processes that a test starts, kills, stops and lets go on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from app.kernel import faults
from tests.yard import Yard

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = SECONDS) -> T:
    """What a condition gives once it holds; AssertionError when it doesn't come to that."""
    until = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
    return met


class WorkerProcess:
    """One real worker, with its sandbox."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def family(self) -> list[psutil.Process]:
        """The processes below it: its sandbox's helper, and the children that do the work."""
        return psutil.Process(self.pid).children(recursive=True)

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return not psutil.pid_exists(self.pid)

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End it as the kernel would for want of memory."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        eventually(self.has_ended)


class Workers:
    """Starts them for one installation at a time, over its home and its database."""

    def __init__(self) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.role_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._orders, self._answers = self._forker.stdin, self._forker.stdout
        assert self._answers.readline() == "ready\n"
        self._started: list[WorkerProcess] = []

    def start(
        self, yard: Yard, rules: str = "", *, ahead: float = 0.0, **settings: Any
    ) -> WorkerProcess:
        """One more worker of an installation: with fault rules, with a clock that is wrong."""
        named = {f"MODELYARD_{name.upper()}": str(value) for name, value in settings.items()}
        log = yard.settings.home / f"worker-{len(self._started)}.log"
        log.touch()
        environment: Mapping[str, str] = {
            **yard.settings.environment(),
            "MODELYARD_LEASE_SECONDS": "1.5",
            **named,
            faults.VARIABLE: rules,
        }
        order = {"environment": environment, "log": str(log), "ahead": ahead}
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        self._started.append(WorkerProcess(int(self._answers.readline()), log))
        return self._started[-1]

    def end(self) -> None:
        """End all that were started."""
        for worker in self._started:
            worker.kill()
        self._started.clear()

    def close(self) -> None:
        """End the process that forks, too."""
        self.end()
        self._orders.close()
        self._answers.close()
        self._forker.wait(60)


@contextmanager
def workers_of_module() -> Iterator[Workers]:
    """For a fixture of a module."""
    made = Workers()
    try:
        yield made
    finally:
        made.close()
