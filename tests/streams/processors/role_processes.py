"""Processor processes that a test can kill, forked from one that has loaded everything."""

import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

from app.config import Settings
from app.kernel import faults
from app.kernel.logs import configure_logs
from app.processor_role import run_processor

PRELOAD = ["app.processor_role"]


def run(environment, name, faults_text):
    """The main loop of a processor process; ``faults_text`` says where it dies."""
    os.environ.update(environment)
    faults._RULES.update(faults.parse(faults_text))
    settings = Settings.from_environment()
    configure_logs("error", as_json=True, role=name)
    run_processor(settings, name)


class Crew:
    """Processes of an installation; one that has died is started again under its name."""

    def __init__(self, yard, count=2, faults_text="", sockets=None):
        """``sockets`` is a folder where others of the installation answer already."""
        self.kills = 0
        self.faults = faults_text
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._folder = tempfile.TemporaryDirectory(prefix="my-")
        self._sockets = sockets or Path(self._folder.name)
        (yard.settings.instance / "sockets").write_text(str(self._sockets))
        self._environment = yard.settings.environment()
        self._processes = {f"processor-{number + 1}": None for number in range(count)}
        self.look_after()

    def look_after(self):
        """Start what doesn't live."""
        for name, process in self._processes.items():
            if process is None or not process.is_alive():
                if process is not None:
                    self.kills += 1
                (self._sockets / name).unlink(missing_ok=True)
                arguments = (self._environment, name, self.faults)
                self._processes[name] = started = self._context.Process(target=run, args=arguments)
                started.start()

    def has_lost_one(self):
        """Whether one doesn't live any more."""
        return not all(process.is_alive() for process in self._processes.values())

    def kill_one(self, chance=random):
        """End one without a chance to tidy up."""
        process = self._processes[chance.choice(sorted(self._processes))]
        process.kill()
        process.join()

    def stop(self):
        """As an operator would; the seconds that it took."""
        started = time.monotonic()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(30)
            assert process.exitcode is not None
            process.close()
        self._folder.cleanup()
        return time.monotonic() - started
