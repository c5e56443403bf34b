"""What every part of a process stands on: databases, store, keys, peers and bounded places."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry

from app.access.lookup import KeyLookup, keys_by, keys_of
from app.config import Settings
from app.kernel.artifacts.store import ArtifactStore, open_store
from app.kernel.audit import Denials
from app.kernel.auth import Authenticator
from app.kernel.disk_reserve import DiskReserve
from app.kernel.idempotency import IdempotencyStore
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.log.nats_link import Address
from app.kernel.log.seam import RecordLog
from app.kernel.log.sql_log import SqlLog
from app.kernel.peer_guard import PeerGuard, PeerMeters
from app.kernel.peers import Peer
from app.kernel.quotas import Quotas
from app.kernel.signing import KeyRing
from app.kernel.slots import Slots
from app.kernel.sql import Database
from app.secret import key_ring
from app.settings_table import SettingsError

_NO_APP = "no app has been made in this process"


@dataclass
class Basis:
    """What the services are built from, made when first asked for.

    ``registry`` holds the metrics of this process; ``host_registry`` what any process of the host
    would tell alike.
    """

    settings: Settings
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    host_registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    app: Callable[[], WSGIApplication] | None = None
    _databases: dict[str, Database] = field(default_factory=dict)
    _peers: dict[tuple[str, str], Peer] = field(default_factory=dict)
    _guards: dict[str, PeerGuard] = field(default_factory=dict)

    @cached_property
    def ring(self) -> KeyRing:
        """What signs and verifies."""
        return key_ring(self.settings)

    @cached_property
    def store(self) -> ArtifactStore:
        """Where artifacts lie; raises SettingsError for a URL that is none."""
        try:
            return open_store(self.settings.store())
        except ValueError as error:
            raise SettingsError(f"MODELYARD_STORE_URL: {error}") from error

    @cached_property
    def disk_reserve(self) -> DiskReserve:
        """What deletions get on a full disk."""
        files = [str(db.url.database) for db in self.databases() if db.dialect == "sqlite"]
        folders = [self.settings.instance, *(Path(file).parent for file in files)]
        return DiskReserve(folders, self.settings.disk_reserve)

    @cached_property
    def stream_slots(self) -> Slots:
        """Places for those who wait."""
        return Slots(self.settings.stream_slots, "event streams and waits")

    @cached_property
    def tail_slots(self) -> Slots:
        """Places for those who follow topics."""
        return Slots(self.settings.tail_slots, "tails of topics")

    @cached_property
    def download_slots(self) -> Slots:
        """Places for those to whom files are sent."""
        return Slots(self.settings.stream_slots, "downloads")

    @cached_property
    def upload_slots(self) -> Slots:
        """Places for those who send files."""
        return Slots(self.settings.upload_slots, "uploads")

    def database(self, service: str) -> Database:
        """A service's database; services with one URL share one object. Raises SettingsError."""
        url = self.settings.database_url_of(service)
        if url not in self._databases:
            try:
                self._databases[url] = Database(url, lock_timeout=self.settings.database_wait)
            except ValueError as error:
                raise SettingsError(f"The database URL of {service}: {error}") from error
        return self._databases[url]

    def databases(self) -> list[Database]:
        """Every database of the services served here, each once."""
        return list(dict.fromkeys(self.database(service) for service in self.settings.services))

    @cached_property
    def record_log(self) -> RecordLog:
        """Where the records of topics are kept; raises SettingsError for a URL that is none."""
        database, url = self.database("streams"), self.settings.log_url
        if not url:
            return SqlLog(database)
        try:
            address = Address.parse(url)
        except ValueError as error:
            raise SettingsError(f"MODELYARD_LOG_URL: {error}") from error
        from app.kernel.log.nats_log import NatsLog  # noqa: PLC0415 - an extra

        return NatsLog(address, database)

    def socket(self, role: str) -> Path:
        """The Unix socket of a neighbour process."""
        return self.settings.sockets() / role

    def idempotency(self, service: str) -> IdempotencyStore:
        """The Idempotency-Keys of a service."""
        kept = timedelta(hours=self.settings.idempotency_hours)
        return IdempotencyStore(self.database(service), kept=kept)

    def peer(self, caller: str, name: str) -> Peer:
        """The service ``name`` as ``caller`` sees it: over the wire, or in this process."""
        if (caller, name) not in self._peers:
            urls = self.settings.peer_urls.get(name, ())
            self._peers[caller, name] = Peer(
                name,
                caller=caller,
                keys=self.ring,
                base_urls=urls,
                guard=self._guard(name) if urls else None,
                app=None if urls else self._own_app,
            )
        return self._peers[caller, name]

    def _guard(self, name: str) -> PeerGuard:
        """One for each service, whoever calls it."""
        if name not in self._guards:
            self._guards[name] = PeerGuard(name, self.settings.peer_slots, self._peer_meters)
        return self._guards[name]

    @cached_property
    def _peer_meters(self) -> PeerMeters:
        return PeerMeters(self.registry)

    def _own_app(self) -> WSGIApplication:
        if self.app is None:
            raise RuntimeError(_NO_APP)
        return self.app()

    @cached_property
    def key_lookup(self) -> KeyLookup:
        """Where keys are looked up: in their table, or by their service where that lives apart."""
        if self._keys_live_apart:
            read = keys_by(self.peer(self.settings.services[0], "access"))
        else:
            read = keys_of(self.database("access"))
        return KeyLookup(read, self.settings.admin_key, believed=self.settings.keys_believed)

    @cached_property
    def authenticator(self) -> Authenticator:
        """Who says whom a token stands for."""
        return Authenticator(self.key_lookup, self.ring)

    @cached_property
    def quotas(self) -> Quotas | None:
        """How many requests each key may send; None: as many as it likes."""
        rate, burst = self.settings.quota_rate, self.settings.quota_burst
        return Quotas(rate, burst) if rate else None

    @cached_property
    def denials(self) -> Denials:
        """Where refusals are noted: with the keys, or where those live apart, here."""
        here = self.settings.services[0] if self._keys_live_apart else "access"
        return Denials(self.database(here))

    @property
    def _keys_live_apart(self) -> bool:
        settings = self.settings
        return "access" in settings.peer_urls and "access" not in settings.services

    def jobs(self, service: str) -> BoundedQueue:
        """The queue in a service's database; services with one database share it."""
        settings = self.settings
        return BoundedQueue(
            self.database(service),
            of_project=settings.max_queued,
            in_all=settings.max_queued_in_all,
        )
