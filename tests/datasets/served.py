"""The real server: granian and an ingest process, each a process of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.server import NO_TLS
from tests.yard import Yard

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """A server on a free loopback port over a fresh home."""

    def __init__(self, home, **environment):
        yard = Yard(home, services=("access", "datasets"))
        self.key = yard.admin_key
        self.service = yard.app.extensions["datasets"]
        self.home, self.settings, self._yard = home, yard.settings, yard
        self.sockets = Path(tempfile.mkdtemp(prefix="my-"))
        (self.settings.instance / "sockets").write_text(str(self.sockets))
        self.port = free_port()
        self._environment = {
            # Without bytecode files every start would compile all anew.
            **{name: value for name, value in os.environ.items() if "BYTECODE" not in name},
            "PYTHONPATH": str(ROOT),
            "MODELYARD_HOME": str(home),
            "MODELYARD_SERVICES": "access,datasets",
            "MODELYARD_LOG_LEVEL": "error",
            **environment,
        }
        self.ingest = self.start_ingest()
        self.api = self._start(
            *("granian", "--interface", "wsgi", "--factory", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--blocking-threads", "64", "--http", "1"),
            *("--workers-kill-timeout", "5", "--no-log", "app.factory:create_app"),
        )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=60,
            verify=NO_TLS,
        )
        self._wait(self._is_up)

    def start_ingest(self):
        """Start the ingest process, again if need be."""
        (self.sockets / "ingest").unlink(missing_ok=True)
        self.ingest = self._start("tests.datasets.ingest_process")
        self._wait((self.sockets / "ingest").exists)
        return self.ingest

    def _start(self, module, *arguments):
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=subprocess.DEVNULL)

    def _is_up(self):
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/livez").status_code == 200

    @staticmethod
    def _wait(condition, seconds=60.0):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not come about"
            time.sleep(0.05)

    def wait(self, condition, seconds=60.0):
        """Wait until something holds."""
        self._wait(condition, seconds)

    def worker_pid(self):
        """The process in which granian runs the app."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.api.pid)], capture_output=True, text=True, check=True
        )
        pids = [int(pid) for pid in found.stdout.split()]
        return max(pids, key=memory_of)

    def connection(self, head):
        """A raw connection on which the head of a request, and what belongs to it, was sent."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        opened.sendall(head)
        return opened

    def head_of_upload(self, *headers, path="/api/v1/datasets/penguins/versions"):
        """The head of a POST; the content type is CSV unless a header says otherwise."""
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.key}",
            *headers,
        ]
        if not any(header.lower().startswith("content-type") for header in headers):
            lines.append("Content-Type: text/csv")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def left(self):
        """What there is of versions, stored things and work folders."""
        versions = self.client.get("/api/v1/datasets/penguins/versions").json()["items"]
        work = self.settings.instance / "work" / "uploads"
        folders = list(work.iterdir()) if work.is_dir() else []
        return len(versions), len(list(self._yard.wiring.store.list())), len(folders)

    def close(self):
        """End the processes."""
        self.client.close()
        for process in (self.api, self.ingest):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._yard.close()
        shutil.rmtree(self.sockets, ignore_errors=True)


def memory_of(pid):
    """The proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(pid)
