"""The settings of one process, read from the environment once.

``Settings.from_environment`` is called at a process's start; everything else gets the frozen
object handed over.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from app.setting_values import WorkerRange
from app.settings_table import SERVICES, SETTINGS, SettingsError


@dataclass(frozen=True)
class Settings:
    """All settings of one process, parsed. See ``SETTINGS`` for what each one means."""

    home: Path
    host: str
    port: int
    services: tuple[str, ...]
    database_url: str = field(repr=False)
    database_wait: float
    store_url: str
    log_url: str = field(repr=False)
    admin_key: str = field(repr=False)
    keys_believed: float
    secret: str = field(repr=False)
    hosts: tuple[str, ...]
    proxy: int
    api_processes: int
    threads: int
    one_core: bool
    workers: WorkerRange
    worker_idle_seconds: float
    slots: int
    fit_threads: int
    max_json: int
    max_upload: int
    max_expanded: int
    max_columns: int
    max_line: int
    max_rows: int
    upload_slots: int
    peer_slots: int
    body_slots: int
    stream_slots: int
    tail_slots: int
    reader_lease: float
    processors: int
    processor_threads: int
    webhook_hosts: tuple[str, ...]
    predict_slots: int
    predict_waiters: int
    predict_wait: float
    score_seconds: float
    ingest_memory: int
    model_cache: int
    disk_reserve: int
    max_wall_seconds: float
    max_memory: int
    max_queued: int
    max_queued_in_all: int
    quota_rate: float
    quota_burst: int
    lease_seconds: float
    idempotency_hours: float
    events_days: float
    jobs_days: float
    log_level: str
    log_json: bool
    own_database_urls: Mapping[str, str] = field(default_factory=dict, repr=False)
    peer_urls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **given: Any
    ) -> "Settings":
        """Read the environment; ``given`` (a command line's options) wins unless it is None. A
        text in it is read as the environment's would be.

        Raises SettingsError naming the variable that can't be used.
        """
        environment = os.environ if environment is None else environment
        strange = given.keys() - {setting.name for setting in SETTINGS}
        if strange:
            raise TypeError(f"no such settings: {sorted(strange)}")
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            found = given.get(setting.name)
            text = environment.get(setting.env, setting.default) if found is None else found
            try:
                values[setting.name] = setting.parse(text) if isinstance(text, str) else text
            except ValueError as error:
                shown = "" if setting.secret else f"{text!r} can't be used: "
                raise SettingsError(f"{setting.env}: {shown}{error}") from error
        values["home"] = Path(values["home"]).resolve()
        return cls(
            **values,
            own_database_urls=_per_service(environment, "_DATABASE_URL"),
            peer_urls=_peer_urls(environment),
        )

    @property
    def instance(self) -> Path:
        """Where the database, the secret and the work folders lie (mode 0700)."""
        return self.home / "instance"

    def database_url_of(self, service: str) -> str:
        """The SQLAlchemy URL of a service's database."""
        default = self.database_url or f"sqlite:///{self.instance / 'modelyard.db'}"
        return self.own_database_urls.get(service, default)

    def store(self) -> str:
        """The URL of the artifact store."""
        return self.store_url or f"file://{self.home / 'models_store'}"

    def sockets(self) -> Path:
        """The folder of the neighbour processes' Unix sockets, which ``instance/sockets`` names.

        It is a short one among the temporary files: a Unix socket's path has 104 bytes at most,
        and homes can be deep.
        """
        return Path((self.instance / "sockets").read_text().strip())

    def with_(self, **changes: Any) -> "Settings":
        """A copy with some values changed."""
        return replace(self, **changes)

    def environment(self) -> dict[str, str]:
        """The variables that give a child process these very settings."""
        told: dict[str, str] = {}
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            told[setting.env] = ",".join(value) if isinstance(value, tuple) else str(value)
        for service, url in self.own_database_urls.items():
            told[f"MODELYARD_{service.upper()}_DATABASE_URL"] = url
        for service, urls in self.peer_urls.items():
            told[f"MODELYARD_{service.upper()}_URL"] = ",".join(urls)
        return told


def _per_service(environment: Mapping[str, str], suffix: str) -> dict[str, str]:
    names = {service: f"MODELYARD_{service.upper()}{suffix}" for service in SERVICES}
    return {service: environment[name] for service, name in names.items() if environment.get(name)}


def _peer_urls(environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Where each service is; several URLs of one, joined by commas, are its replicas."""
    found: dict[str, tuple[str, ...]] = {}
    for service, text in _per_service(environment, "_URL").items():
        urls = [url.strip() for url in text.split(",")]
        if not all(re.fullmatch(r"https?://[^/,\s]+/?", url) for url in urls):
            raise SettingsError(f"MODELYARD_{service.upper()}_URL: say http://host:port")
        if len({url.partition(":")[0] for url in urls}) > 1:
            raise SettingsError(f"MODELYARD_{service.upper()}_URL: all http or all https")
        found[service] = tuple(url.rstrip("/") for url in urls)
    return found


if {setting.name for setting in SETTINGS} != {
    item.name for item in fields(Settings) if item.name not in {"own_database_urls", "peer_urls"}
}:
    raise SettingsError("SETTINGS and Settings name different things")
