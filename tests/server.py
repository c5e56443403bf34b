"""A real server in processes of its own, on a free port of the loopback, for stories."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.kernel.auth import new_key
from tests.ports import free_port

READY_SECONDS = 100.0
STOP_SECONDS = 90.0
# Else each client reads all the certificates of the world, which costs more than its calls.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# For a server that is asked for no work: half of its processes would have none.
NO_WORK = {"MODELYARD_WORKERS": "0", "MODELYARD_PROCESSORS": "0"}
NO_PROCESSORS = {"MODELYARD_PROCESSORS": "0"}


class Server:
    """``modelyard serve`` over a home of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.admin_key = new_key()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start, and wait until it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        environment = {
            **inherited,
            "MODELYARD_ADMIN_KEY": self.admin_key,
            "MODELYARD_LOG_LEVEL": "warning",
            **self.environment,
        }
        command = [sys.executable, "-m", "app", "serve", "--home", str(self.home)]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).resolve().parents[1],
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self) -> None:
        """Wait for ``/readyz``; AssertionError with the log's end when it doesn't come."""
        until = time.monotonic() + READY_SECONDS
        with httpx.Client(timeout=2, verify=NO_TLS) as client:
            while time.monotonic() < until:
                if self._process is not None and self._process.poll() is not None:
                    break
                try:
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
        raise AssertionError(f"the server isn't ready:\n{self.log()[-4000:]}")

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the supervisor lives."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> tuple[int, float]:
        """Wait until the supervisor has ended: its exit status, and how long that took."""
        assert self._process is not None
        started = time.monotonic()
        status = self._process.wait(seconds)
        return status, time.monotonic() - started

    def stop(self) -> int:
        """Stop it as an operator would; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End the supervisor without a chance to tidy up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """What all its processes have written."""
        return (self.home / "server.log").read_text(errors="replace")

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with the admin's key or another."""
        token = self.admin_key if key is None else key
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        base_url = f"{self.url}/api/v1"
        return httpx.Client(base_url=base_url, headers=headers, timeout=60, verify=NO_TLS)

    def processes(self, role: str) -> list[psutil.Process]:
        """The processes of a role, the youngest last."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        found = []
        for child in children:
            # One that has just died can't be asked what it was.
            with suppress(psutil.Error):
                if role in " ".join(child.cmdline()):
                    found.append(child)
        return sorted(found, key=lambda child: child.create_time())

    def __enter__(self) -> "Server":
        try:
            return self.start()
        except BaseException:
            # The block is never entered: nobody else would end it.
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()


def wait_for(client: httpx.Client, path: str, *, seconds: float = 120) -> dict[str, Any]:
    """Long work once it has ended."""
    until = time.monotonic() + seconds
    while True:
        answer = client.get(path, params={"wait": 20})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        if told["state"] in ("succeeded", "failed", "cancelled"):
            return told
        assert time.monotonic() < until, f"{path} has not ended: {told['progress']}"
