"""Starts, watches and stops the role processes of one host.

In order: one supervisor a home and a port (locks), a folder for the sockets, the migrations and the
first admin key in a process of their own, then the roles. A role that dies is started again, each
time a little later; when the supervisor ends, by whatever signal, so do they all.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.config import Settings
from app.kernel.durable import make_folder
from app.settings_table import SettingsError

STOP_SECONDS = 20.0
PARENT_VARIABLE = "MODELYARD_PARENT"
RESTORING = "restoring"
"""In ``instance/`` as long as a backup is being put there."""
_LOOK_SECONDS = 0.1
_FIRST_PAUSE, _LONGEST_PAUSE, _CALM_SECONDS = 0.2, 10.0, 30.0
log = structlog.get_logger("supervisor")


@dataclass
class Role:
    """One process to keep alive."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = _FIRST_PAUSE
    not_before: float = field(default=0.0)


class Supervisor:
    """Keeps the roles of a home alive until it is told to stop."""

    def __init__(self, settings: Settings, roles: Sequence[str]) -> None:
        self._settings = settings
        self._roles = [Role(name, command_of(name)) for name in roles]
        self._stopping = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status. A second signal ends it at once.

        Raises SettingsError where the port is taken or another supervisor serves this home.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with ExitStack() as held:
            held.enter_context(one_per_home(self._settings))
            if any(role.name == "api" for role in self._roles):
                held.enter_context(one_per_port(self._settings.host, self._settings.port))
            held.enter_context(sockets_folder(self._settings))
            self._migrate()
            try:
                while not self._stopping:
                    for role in self._roles:
                        self._look_after(role)
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._stop()
        return 0

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping += 1

    def _migrate(self) -> None:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module)
            command_of("migrate"), env=self._environment(), check=False
        )
        if done.returncode != 0:
            raise SettingsError("The server can't start; see above")

    def _look_after(self, role: Role) -> None:
        now = time.monotonic()
        if role.process is None:
            if now >= role.not_before:
                self._start(role)
            return
        status = role.process.poll()
        if status is None:
            if now - role.started > _CALM_SECONDS:
                role.pause = _FIRST_PAUSE
            return
        log.warning("role_died", died=role.name, status=status, pause=role.pause)
        role.process = None
        role.not_before = now + role.pause
        role.pause = min(role.pause * 2, _LONGEST_PAUSE)

    def _start(self, role: Role) -> None:
        role.started = time.monotonic()
        role.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            role.command, env=self._environment(), stdin=subprocess.DEVNULL
        )
        log.info("role_started", started=role.name, pid=role.process.pid)

    def _environment(self) -> dict[str, str]:
        parent = {PARENT_VARIABLE: str(os.getpid())}
        return {**os.environ, **self._settings.environment(), **parent}

    def _stop(self) -> None:
        """Those who ask others first: the API before its neighbours."""
        living = [role.process for role in self._roles if role.process is not None]
        for process in living:
            process.terminate()
        until = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in living):
            if time.monotonic() > until or self._stopping > 1:
                break
            time.sleep(_LOOK_SECONDS / 2)
        for process in living:
            if process.poll() is None:
                process.kill()
            process.wait()


def command_of(role: str) -> list[str]:
    """The command that runs one role in this interpreter."""
    return [sys.executable, "-m", "app", "role", role]


def serve_roles(settings: Settings) -> list[str]:
    """What ``modelyard serve`` runs."""
    return list(dict.fromkeys([*api_roles(settings), *worker_roles(settings)]))


def api_roles(settings: Settings) -> list[str]:
    """The API and its neighbours on the same host."""
    neighbours = {"datasets": "ingest", "predictions": "scorer"}
    return ["api", *(role for name, role in neighbours.items() if name in settings.services)]


def worker_roles(settings: Settings) -> list[str]:
    """The workers, all alike, and the neighbour that they ask."""
    ingest = ["ingest"] if "datasets" in settings.services else []
    return [*ingest, *(f"worker-{number}" for number in range(1, settings.workers + 1))]


@contextmanager
def one_per_home(settings: Settings) -> Iterator[None]:
    """Hold the home's lock; raises SettingsError when another supervisor has it."""
    make_folder(settings.instance)
    with (settings.instance / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"Another server runs in {settings.home} already") from error
        yield


def refuse_unfinished_restore(settings: Settings) -> None:
    """Raise SettingsError where a restore was interrupted: half of a home is none."""
    if (settings.instance / RESTORING).exists():
        raise SettingsError(
            f"A restore into {settings.home} was not finished: run `modelyard restore` again"
        )


@contextmanager
def sockets_folder(settings: Settings) -> Iterator[Path]:
    """A short folder for the Unix sockets, named in ``instance/sockets``."""
    folder = Path(tempfile.mkdtemp(prefix="my-"))
    (settings.instance / "sockets").write_text(str(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def one_per_port(host: str, port: int) -> Iterator[None]:
    """Hold a port's lock; raises SettingsError when another supervisor has it, or anybody listens.

    The server itself would not notice: it shares the port, and each gets some of the requests. The
    lock is there before anybody listens, and while the API is started anew. It is a name, not a
    file, so it goes with the process; Linux has such names, elsewhere only the port is looked at.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        if sys.platform == "linux":
            try:
                lock.bind(f"\0modelyard-port-{port}")
            except OSError as error:
                raise SettingsError(
                    f"Can't listen on {host}:{port}: another modelyard server has the port"
                ) from error
        refuse_taken_port(host, port)
        yield


def refuse_taken_port(host: str, port: int) -> None:
    """Raise SettingsError when somebody listens already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"Can't listen on {host}:{port}: {error.strerror}") from error
