"""Services in servers of their own, as an operator starts them, behind one nginx."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from app.config import Settings
from app.gateway import write_gateway
from app.kernel.auth import new_key
from tests.nginx import Nginx
from tests.ports import free_port
from tests.server import NO_TLS, Server

COARSE = (("access", "datasets", "models", "training"), ("predictions", "streams"))
ALONE = (("access",), ("datasets",), ("models",), ("training",), ("predictions",), ("streams",))


class Fleet:
    """One server for each group of services; they share the secret and the store."""

    def __init__(
        self, home: Path, groups: Sequence[Sequence[str]], databases: Mapping[str, str]
    ) -> None:
        """``databases`` has the URL of each service's database."""
        self.admin_key = new_key()
        self._gateway_port = free_port()
        self.url = f"http://127.0.0.1:{self._gateway_port}"
        shared = {
            "MODELYARD_SECRET": "s" * 40,
            "MODELYARD_STORE_URL": f"file://{home}/store",
            "MODELYARD_PROXY": "1",
        }
        made = {group: Server(home / group[0]) for group in map(tuple, groups)}
        self.servers = {service: server for group, server in made.items() for service in group}
        self._shared = shared | {
            f"MODELYARD_{service.upper()}_URL": server.url
            for service, server in self.servers.items()
        }
        for group, server in made.items():
            server.admin_key = self.admin_key
            server.environment = {
                **self._shared,
                "MODELYARD_SERVICES": ",".join(group),
                **{f"MODELYARD_{name.upper()}_DATABASE_URL": databases[name] for name in group},
            }
        self._groups = made
        self._home = home
        self._running = ExitStack()

    def __enter__(self) -> "Fleet":
        with ExitStack() as stack:
            for server in self._groups.values():
                stack.enter_context(server)
            settings = Settings.from_environment(
                {**self._shared, "MODELYARD_HOME": str(self._home)}
            )
            listen = f"127.0.0.1:{self._gateway_port}"
            stack.enter_context(
                Nginx(write_gateway(settings, self._home / "gateway", listen), self.url)
            )
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def client(self) -> httpx.Client:
        """A client of the gateway, with the admin's key."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        base_url = f"{self.url}/api/v1"
        return httpx.Client(base_url=base_url, headers=headers, timeout=60, verify=NO_TLS)
