"""Real NATS servers on the loopback: one alone, or a cluster of three."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.ports import free_port

BINARY = Path(sys.executable).parent / "nats-server"
READY_SECONDS = 90.0


class NatsServer:
    """One server and what it stores, in a folder of its own."""

    def __init__(self, folder, name="alone", routes=None, more=""):
        self.folder, self.name = folder, name
        self.port, self.monitor = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.conf").write_text(self._configuration(routes) + more)
        self._process = None

    def _configuration(self, routes):
        lines = [
            f"server_name: {self.name}",
            f"listen: 127.0.0.1:{self.port}",
            f"http: 127.0.0.1:{self.monitor}",
            f'jetstream {{ store_dir: "{self.folder}", sync_interval: always }}',
        ]
        if routes:
            others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes.values())
            own = f"listen: 127.0.0.1:{routes[self.name]}, routes: [{others}]"
            lines.append(f"cluster {{ name: test, {own} }}")
        return "\n".join([*lines, ""])

    @property
    def address(self):
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        """Of its process."""
        return self._process.pid

    def start(self):
        """Start it; ``wait_until_ready`` says when it serves."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "-c", self.folder / "server.conf"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def wait_until_ready(self):
        """Wait until JetStream serves: in a cluster, until it has a leader."""
        until, url = time.monotonic() + READY_SECONDS, f"http://127.0.0.1:{self.monitor}/healthz"
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"no NATS:\n{(self.folder / 'server.log').read_text()[-3000:]}")

    def kill(self):
        """End it at once, if it was ever started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self):
        """Let it fall silent without closing anything."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self):
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)


class NatsCluster:
    """Three servers that replicate among themselves."""

    def __init__(self, folder):
        routes = {name: free_port() for name in ("a", "b", "c")}
        self.servers = {name: NatsServer(folder / name, name, routes=routes) for name in routes}

    def start(self):
        """Start all, and wait until they have agreed on a leader."""
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.wait_until_ready()
        return self

    @property
    def url(self):
        """What MODELYARD_LOG_URL would say."""
        return "nats://" + ",".join(server.address for server in self.servers.values())

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            # The block is never entered: nobody else would end them.
            self.__exit__()
            raise

    def __exit__(self, *_):
        for server in self.servers.values():
            server.kill()
