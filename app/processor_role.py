"""The main loop of a processor process: it takes part in reading what runs in this installation.

It loads neither scikit-learn nor a web server. The app of the services, by which peers in the same
process are asked, is made when the first processor asks one.
"""

import hashlib
import signal
import socket
import threading
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry

from app.config import Settings
from app.factory import create_app
from app.kernel.process_metrics import tell_neighbours
from app.kernel.tracing import tracer
from app.streams.processors.kinds import RunningProcessors
from app.streams.processors.reading import Source
from app.streams.processors.runtime import Runtime
from app.streams.views.reading import FollowedViews
from app.streams.views.speed import SpeedLayer
from app.wiring import Wiring


class OwnApp:
    """The services in this process, made when they are asked first."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._making = threading.Lock()
        self._made: WSGIApplication | None = None

    def __call__(self) -> WSGIApplication:
        """The app; from now on what is known of models is kept true."""
        with self._making:
            if self._made is None:
                self._made = create_app(self._wiring.settings, self._wiring).wsgi_app
                self._wiring.start_following()
            return self._made


def run_processor(settings: Settings, name: str) -> None:
    """Read topics for the processors that run, until SIGTERM."""
    tracer.start(name)
    wiring = Wiring(settings)
    wiring.app = OwnApp(wiring)
    runtime = make_runtime(wiring, client_name(settings, name))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.stop())
    registry = CollectorRegistry()
    answering = tell_neighbours(wiring.socket(name), registry)
    runtime.run()
    answering.stop()
    wiring.close()
    tracer.stop()


def make_runtime(wiring: Wiring, client: str) -> Runtime:
    """What reads topics in this process."""
    return Runtime(
        wiring.database("streams"),
        wiring.record_log,
        wiring.groups,
        sources(wiring),
        client=client,
        threads=wiring.settings.processor_threads,
    )


def sources(wiring: Wiring) -> list[Source]:
    """All that there may be to read."""
    tools = wiring.reading_tools
    speed = SpeedLayer(tools.database, tools.log, models=wiring.model_speed)
    return [
        RunningProcessors(tools.database, wiring.processor_kinds(), tools),
        FollowedViews(tools.database, speed, wiring.lambda_views.batches),
    ]


def client_name(settings: Settings, name: str) -> str:
    """The same for a process that is started in another's place, and for no other."""
    place = f"{socket.gethostname()}:{settings.instance}".encode()
    return f"{name}@{hashlib.sha256(place).hexdigest()[:32]}"
