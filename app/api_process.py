"""The process that starts the API's own, and starts it again when it dies.

It needs the server only: the app, which is far larger, is made in the process that it starts.
"""

import os

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from app.config import Settings

SERVER_VARIABLE = "MODELYARD_SERVER_PID"
_KILL_SECONDS = 15


def run_api(settings: Settings) -> None:
    """Serve HTTP. The views run in granian's worker processes, which end with this one."""
    os.environ[SERVER_VARIABLE] = str(os.getpid())
    Granian(
        target="app.api_entry:load_app",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.api_processes,
        blocking_threads=settings.threads,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=15_000),
        log_enabled=False,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=_KILL_SECONDS,
        websockets=False,
    ).serve()
