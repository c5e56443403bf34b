"""Starts, watches and stops the role processes of one host.

In order: one supervisor a home and a port (locks), a folder for the sockets, the migrations and the
first admin key in a process of their own, then the roles. A role that dies is started again, each
time a little later; when the supervisor ends, by whatever signal, so do they all.

It stops in order too: readiness says so, and workers and processors hand back what they do; a
moment later the API takes no more requests and finishes those it has; the neighbours it asks go
last.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.config import Settings
from app.crew import Crew
from app.kernel.durable import make_folder
from app.kernel.supervision import Announcer, Told
from app.role_process import Role, command_of
from app.settings_table import SettingsError

PARENT_VARIABLE = "MODELYARD_PARENT"
RESTORING = "restoring"
"""In ``instance/`` as long as a backup is being put there."""
_LOOK_SECONDS = 0.1
# Starting costs seconds of imports: whoever answers requests has the cores first.
_HEAD_START_SECONDS = 3.0
_NOTICE_SECONDS, _ASKERS_SECONDS, _NEIGHBOURS_SECONDS = 1.0, 18.0, 3.0
_SOCKETS = "my-"


class Supervisor:
    """Keeps the roles of a home alive until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        roles: Sequence[str],
        *,
        workers: bool = False,
        processors: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._roles = [Role(name) for name in roles]
        self._processors = [Role(name) for name in processors]
        self._workers_from = 0.0
        self._with_workers = workers
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
            sockets = held.enter_context(sockets_folder(self._settings))
            crew = Crew(self._settings, sockets) if self._with_workers else None
            announcer = Announcer(sockets)
            try:
                for role in self._roles:
                    # Neighbours know no database: they start while it is made ready.
                    if role.name != "api":
                        role.look_after(self._environment())
                self._migrate()
                self._workers_from = time.monotonic() + (_HEAD_START_SECONDS if self._roles else 0)
                while not self._stopping:
                    self._look_after(crew, announcer)
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._tell(crew, announcer, stopping=True)
                self._stop([*(crew.roles if crew else []), *self._processors])
        return 0

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping += 1

    def _migrate(self) -> None:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module)
            command_of("migrate"), env=self._environment(), check=False
        )
        if done.returncode != 0:
            raise SettingsError("The server can't start; see above")

    def _look_after(self, crew: Crew | None, announcer: Announcer) -> None:
        environment = self._environment()
        for role in self._roles:
            role.look_after(environment)
        if time.monotonic() >= self._workers_from:
            if crew is not None:
                crew.look_after(environment)
            for role in self._processors:
                role.look_after(environment)
        self._tell(crew, announcer, stopping=False)

    def _tell(self, crew: Crew | None, announcer: Announcer, *, stopping: bool) -> None:
        wanted, roles = (crew.wanted, crew.roles) if crew else (0, [])
        announcer.tell(Told(wanted, sum(role.lives() for role in roles), stopping))

    def _environment(self) -> dict[str, str]:
        parent = {PARENT_VARIABLE: str(os.getpid())}
        return {**os.environ, **self._settings.environment(), **parent}

    def _stop(self, workers: Sequence[Role]) -> None:
        """Those who ask others first, and their neighbours when nobody asks any more."""
        api = [role for role in self._roles if role.name == "api"]
        neighbours = [role for role in self._roles if role.name != "api"]
        _send(signal.SIGTERM, workers)
        if any(role.lives() for role in api):
            # Whoever shares out the requests sees in time that they must go elsewhere.
            self._wait(api, _NOTICE_SECONDS)
        _send(signal.SIGTERM, api)
        self._wait([*api, *workers], _ASKERS_SECONDS)
        _send(signal.SIGTERM, neighbours)
        self._wait(neighbours, _NEIGHBOURS_SECONDS)
        everybody = [*workers, *api, *neighbours]
        _send(signal.SIGKILL, everybody)
        for role in everybody:
            if role.process is not None:
                role.process.wait()

    def _wait(self, roles: Sequence[Role], seconds: float) -> None:
        """Until they have ended, so long at most; not at all after a second signal."""
        until = time.monotonic() + seconds
        while any(role.lives() for role in roles):
            if time.monotonic() > until or self._stopping > 1:
                return
            time.sleep(_LOOK_SECONDS / 2)


def _send(number: signal.Signals, roles: Sequence[Role]) -> None:
    for role in roles:
        if role.process is not None:
            # Nothing is sent to one that has ended.
            role.process.send_signal(number)


def api_roles(settings: Settings) -> list[str]:
    """The API and its neighbours on the same host."""
    return ["api", *neighbours(settings)]


def neighbours(settings: Settings) -> list[str]:
    """The processes that are asked by those who answer requests, or ask services in-process."""
    known = {"datasets": "ingest", "predictions": "scorer"}
    return [role for name, role in known.items() if name in settings.services]


def worker_roles(settings: Settings) -> list[str]:
    """The neighbour that workers ask; they themselves are kept by the crew."""
    return ["ingest"] if "datasets" in settings.services else []


def processor_roles(settings: Settings) -> list[str]:
    """The processes that run processors."""
    count = settings.processors if "streams" in settings.services else 0
    return [f"processor-{number}" for number in range(1, count + 1)]


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
    """A short folder for the Unix sockets, named in ``instance/sockets``.

    What a killed supervisor left goes first; it can be found because the name is written down
    before there is a folder.
    """
    record = settings.instance / "sockets"
    _remove_sockets(record)
    folder = Path(tempfile.gettempdir()) / f"{_SOCKETS}{secrets.token_hex(4)}"
    record.write_text(str(folder))
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_sockets(record: Path) -> None:
    with contextlib.suppress(OSError):
        folder = Path(record.read_text())
        if folder.name.startswith(_SOCKETS) and folder.lstat().st_uid == os.getuid():
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
