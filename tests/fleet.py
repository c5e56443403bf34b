"""Services in servers of their own, as an operator starts them, behind one nginx."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from app.config import Settings
from app.gateway import write_gateway
from app.kernel.auth import new_key
from tests.nginx import Nginx
from tests.ports import free_port
from tests.server import NO_TLS, Server
from tests.soak.installation import PatientServer

COARSE = (("access", "datasets", "models", "training"), ("predictions", "streams"))
ALONE = (("access",), ("datasets",), ("models",), ("training",), ("predictions",), ("streams",))
_WORK = {"training", "predictions", "streams"}
"""Who has jobs that the stories need; the others' workers would only cost time to start."""
_STARTING = 3
"""How many start at once: each is a dozen processes."""


class Fleet:
    """Servers for each group of services, which share the secret and the store."""

    def __init__(
        self,
        home: Path,
        groups: Sequence[Sequence[str]],
        databases: Mapping[str, str],
        *,
        replicas: int = 1,
        **shared: str,
    ) -> None:
        """``databases`` has the URL of each service's database; ``shared`` are settings of all."""
        self.admin_key = new_key()
        self._gateway_port = free_port()
        self.url = f"http://127.0.0.1:{self._gateway_port}"
        self._shared = {
            "MODELYARD_SECRET": "s" * 40,
            "MODELYARD_STORE_URL": f"file://{home}/store",
            "MODELYARD_PROXY": "1",
            "MODELYARD_WORKERS": "1",
            **shared,
        }
        self.replicas: dict[str, Sequence[Server]] = {}
        """Those that serve a service; one group's are the same objects."""
        self._groups: dict[tuple[str, ...], Sequence[Server]] = {}
        for group in map(tuple, groups):
            made = [PatientServer(home / f"{group[0]}-{number}") for number in range(replicas)]
            self._groups[group] = made
            self.replicas |= dict.fromkeys(group, made)
        self._shared |= {
            f"MODELYARD_{service.upper()}_URL": ",".join(one.url for one in made)
            for service, made in self.replicas.items()
        }
        for group, made in self._groups.items():
            for one in made:
                one.admin_key = self.admin_key
                one.environment = self._environment(group, databases)
        self._home = home
        self._running = ExitStack()

    def _environment(self, group: Sequence[str], databases: Mapping[str, str]) -> dict[str, str]:
        return {
            **self._shared,
            "MODELYARD_SERVICES": ",".join(group),
            **({} if _WORK & set(group) else {"MODELYARD_WORKERS": "0"}),
            **{f"MODELYARD_{name.upper()}_DATABASE_URL": databases[name] for name in group},
        }

    @property
    def all_servers(self) -> list[Server]:
        """Each server once."""
        return [server for made in self._groups.values() for server in made]

    @property
    def servers(self) -> dict[str, Server]:
        """The first server of each service."""
        return {service: made[0] for service, made in self.replicas.items()}

    def __enter__(self) -> "Fleet":
        with ExitStack() as stack:
            servers = self.all_servers
            stack.callback(self._end_all)
            with ThreadPoolExecutor(_STARTING) as executor:
                list(executor.map(lambda server: server.start(), servers))
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

    def _end_all(self) -> None:
        with ThreadPoolExecutor(len(self.all_servers)) as executor:
            list(executor.map(lambda server: server.__exit__(), self.all_servers))

    def client(
        self, key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> httpx.Client:
        """A client of the gateway, with the admin's key or another."""
        headers = {"Authorization": f"Bearer {key or self.admin_key}"}
        base_url = f"{self.url}/api/v1"
        return httpx.Client(
            base_url=base_url, headers=headers, timeout=60, verify=NO_TLS, transport=transport
        )
