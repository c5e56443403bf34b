"""Every service in a server of its own: own database, own port, the others over real HTTP."""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
from werkzeug.serving import make_server

from app.config import Settings
from app.datasets.process import ingest_handlers
from app.factory import create_app
from app.kernel.auth import make_peer_token, new_key
from app.kernel.local_rpc import Server
from app.kernel.migrations import upgrade
from app.settings_table import SERVICES
from app.wiring import Wiring
from tests.ports import free_port
from tests.server import NO_TLS


class Service:
    """One service, which answers on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.wiring = Wiring(settings)
        for service in settings.services:
            for history in ("kernel", service):
                upgrade(self.wiring.database(service), history)
        self.app = create_app(settings, self.wiring)
        self._server: Any = None
        self.start()

    def start(self) -> None:
        """Listen, again if need be."""
        self._server = make_server("127.0.0.1", self.settings.port, self.app, threaded=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hang up."""
        self._server.shutdown()
        self._server.server_close()


class Apart:
    """All services, each knowing of the others nothing but their URLs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.admin_key = new_key()
        ports = {name: free_port() for name in SERVICES}
        shared = {
            "MODELYARD_ADMIN_KEY": self.admin_key,
            "MODELYARD_SECRET": "s" * 40,
            "MODELYARD_STORE_URL": f"file://{home}/store",
            "MODELYARD_LOG_LEVEL": "error",
            **{f"MODELYARD_{n.upper()}_URL": f"http://127.0.0.1:{ports[n]}" for n in ports},
        }
        self.services: dict[str, Service] = {}
        for name in SERVICES:
            own = {
                "MODELYARD_HOME": str(home / name),
                "MODELYARD_SERVICES": name,
                "MODELYARD_PORT": str(ports[name]),
                f"MODELYARD_{name.upper()}_DATABASE_URL": f"sqlite:///{home}/{name}.db",
            }
            self.services[name] = Service(Settings.from_environment(shared | own))
        self.services["access"].wiring.access.ensure_admin()
        self._start_ingest()

    def _start_ingest(self) -> None:
        settings = self.services["datasets"].settings
        self._sockets = Path(tempfile.mkdtemp(prefix="my-"))
        settings.instance.mkdir(parents=True, exist_ok=True)
        (settings.instance / "sockets").write_text(str(self._sockets))
        self._ingest = Server(self._sockets / "ingest", ingest_handlers(settings))
        threading.Thread(target=self._ingest.run, daemon=True).start()

    def client(self, service: str, key: str = "") -> httpx.Client:
        """A client of one service, with the admin's key or another."""
        headers = {"Authorization": f"Bearer {key or self.admin_key}"}
        port = self.services[service].settings.port
        base_url = f"http://127.0.0.1:{port}/api/v1"
        return httpx.Client(base_url=base_url, headers=headers, timeout=30, verify=NO_TLS)

    def peer(self, service: str, caller: str, scope: str) -> httpx.Client:
        """A client of one service that is another one of ours."""
        token = make_peer_token(
            self.services[service].wiring.ring,
            service=caller,
            project="default",
            scopes=frozenset({scope}),
            lifetime=600,
        )
        return self.client(service, token)

    def close(self) -> None:
        """End them all."""
        self._ingest.stop()
        for service in self.services.values():
            service.stop()
            service.wiring.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
