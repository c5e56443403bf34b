"""One role's process: started, watched, started again when it dies, each time a little later."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import structlog

_FIRST_PAUSE, _LONGEST_PAUSE, _CALM_SECONDS = 0.2, 10.0, 30.0
log = structlog.get_logger("supervisor")


def command_of(role: str) -> list[str]:
    """The command that runs one role in this interpreter."""
    return [sys.executable, "-m", "app", "role", role]


def spawn(
    role: str, environment: Mapping[str, str], descriptors: Sequence[int] = ()
) -> "subprocess.Popen[bytes]":
    """A new process of a role, in a group of its own: a terminal's Ctrl-C goes to the supervisor
    alone, which stops them in order.
    """
    return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        command_of(role),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        process_group=0,
    )


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
        self._put_off()

    def _start(self, environment: Mapping[str, str]) -> None:
        self._started = time.monotonic()
        try:
            self.process = self.spawn(environment)
        except OSError as error:
            # No process or descriptor is left for now: the others go on.
            log.warning("role_not_started", wanted=self.name, error=error.strerror)
            self._put_off()
            return
        log.info("role_started", started=self.name, pid=self.process.pid)

    def _put_off(self) -> None:
        self._not_before = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def spawn(self, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """A new process of the role."""
        return spawn(self.name, environment)
