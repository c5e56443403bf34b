"""What the HTTP worker process of a running server needs, sampled while a test goes on."""

import threading

from tests.datasets.served import memory_of
from tests.server import Server

PROMISED = 200 * 10**6
_EVERY_SECONDS = 0.05


class Peak:
    """Samples the proportional set size of granian's worker process; ``most`` is the peak."""

    def __init__(self, server: Server) -> None:
        role = server.processes("role api")[0]
        family = [process.pid for process in (role, *role.children(recursive=True))]
        # The app is loaded in the worker alone.
        self._pid = max(family, key=memory_of)
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self.most = 0

    def _sample(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self.most = max(self.most, memory_of(self._pid))

    def __enter__(self) -> "Peak":
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sampler.join()
