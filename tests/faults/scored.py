"""A yard whose scorer is the real role: a process that forks processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Client
from app.supervisor import PARENT_VARIABLE
from tests.faults.forged import forged
from tests.predictions.predicting import ROW, Predicting

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90


class Scored(Predicting):
    """Predictions by a scorer that can be killed, by models or from outside."""

    def start_scorer(self):
        """As the supervisor does, and wait until it answers."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        own = {**self.settings.environment(), PARENT_VARIABLE: str(os.getpid())}
        self.keeper = subprocess.Popen(
            [sys.executable, "-m", "app", "role", "scorer"], env={**inherited, **own}, cwd=ROOT
        )
        self.wait_for_server()

    def wait_for_server(self):
        """Until the process that scores for everybody answers."""
        until = time.monotonic() + READY_SECONDS
        client = Client(lambda: self.sockets / "scorer", "scorer", keep=False)
        while True:
            try:
                return client.ping()
            except Unavailable:
                assert time.monotonic() < until
                assert self.keeper.poll() is None
                time.sleep(0.05)

    def stop_scorer(self):
        """As the supervisor does; none of its processes stays."""
        family = psutil.Process(self.keeper.pid).children(recursive=True)
        self.keeper.terminate()
        assert self.keeper.wait(60) == 0
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive

    def server(self, *, after=None):
        """The process that scores for everybody, as soon as it alone is there.

        What scores a single request was taken for it where it was the last to end.
        """
        until = time.monotonic() + READY_SECONDS
        while True:
            self.wait_for_server()
            found = psutil.Process(self.keeper.pid).children()
            if len(found) == 1 and found[0] != after:
                return found[0]
            assert time.monotonic() < until
            time.sleep(0.01)

    def forge(self, name, next_node):
        """Register a model that crashes or loops."""
        self.put(name, forged(next_node))

    def predict(self, model):
        """One row."""
        return self.client().post(f"/api/v1/models/{model}/predict", json={"inputs": [ROW]})

    def pass_time(self, seconds):
        """As far as the breakers know."""
        breakers = self.wiring.predictions._engine._scorer._breakers
        before = breakers._clock
        breakers._clock = lambda: before() + seconds
