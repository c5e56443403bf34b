"""One role's process: started, watched, started again when it dies, each time a little later."""

import subprocess
import sys
import time
from collections.abc import Mapping

import structlog

_FIRST_PAUSE, _LONGEST_PAUSE, _CALM_SECONDS = 0.2, 10.0, 30.0
log = structlog.get_logger("supervisor")


def command_of(role: str) -> list[str]:
    """The command that runs one role in this interpreter."""
    return [sys.executable, "-m", "app", "role", role]


class Role:
    """One process to keep alive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0

    def lives(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def look_after(self, environment: Mapping[str, str]) -> None:
        """Start the process unless it lives, or died just now."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._not_before:
                self._start(environment)
            return
        status = self.process.poll()
        if status is None:
            if now - self._started > _CALM_SECONDS:
                self._pause = _FIRST_PAUSE
            return
        log.warning("role_died", died=self.name, status=status, pause=self._pause)
        self.process = None
        self._not_before = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _start(self, environment: Mapping[str, str]) -> None:
        self._started = time.monotonic()
        self.process = self.spawn(environment)
        log.info("role_started", started=self.name, pid=self.process.pid)

    def spawn(self, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """A new process of the role."""
        return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command_of(self.name), env=dict(environment), stdin=subprocess.DEVNULL
        )
