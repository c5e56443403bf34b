"""The composition root: one place builds everything of a process and hands it over."""

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry

from app.access.service import Access, KeyLookup
from app.config import Settings, SettingsError
from app.kernel.artifacts import ArtifactStore, open_store
from app.kernel.audit import Denials
from app.kernel.auth import Authenticator
from app.kernel.idempotency import IdempotencyStore
from app.kernel.peers import Peer
from app.kernel.signing import KeyRing
from app.kernel.slots import Slots
from app.kernel.sql import Database

_NO_APP = "no app has been made in this process"


def key_ring(settings: Settings) -> KeyRing:
    """The installation's secrets; makes one in ``instance/`` at the very first start."""
    if settings.secret:
        try:
            return KeyRing.from_text(settings.secret)
        except ValueError as error:
            raise SettingsError(f"MODELYARD_SECRET: {error}") from error
    path = settings.instance / "secret"
    settings.instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Linked into place whole: of two first starts at once one secret wins, and nobody reads half.
    draft = settings.instance / f"secret.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return KeyRing.from_text(path.read_text())


@dataclass
class Wiring:
    """Everything of one process, made when first asked for."""

    settings: Settings
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    app: Callable[[], WSGIApplication] | None = None
    _databases: dict[str, Database] = field(default_factory=dict)
    _peers: dict[tuple[str, str], Peer] = field(default_factory=dict)

    @cached_property
    def ring(self) -> KeyRing:
        """What signs and verifies."""
        return key_ring(self.settings)

    @cached_property
    def store(self) -> ArtifactStore:
        """Where artifacts lie."""
        return open_store(self.settings.store())

    @cached_property
    def stream_slots(self) -> Slots:
        """Places for those who wait."""
        return Slots(self.settings.stream_slots, "event streams and waits")

    def database(self, service: str) -> Database:
        """A service's database; services with one URL share one object."""
        url = self.settings.database_url_of(service)
        if url not in self._databases:
            self._databases[url] = Database(url)
        return self._databases[url]

    def databases(self) -> list[Database]:
        """Every database of the services served here, each once."""
        return list(dict.fromkeys(self.database(service) for service in self.settings.services))

    def idempotency(self, service: str) -> IdempotencyStore:
        """The Idempotency-Keys of a service."""
        kept = timedelta(hours=self.settings.idempotency_hours)
        return IdempotencyStore(self.database(service), kept=kept)

    def peer(self, caller: str, name: str) -> Peer:
        """The service ``name`` as ``caller`` sees it: over the wire, or in this process."""
        if (caller, name) not in self._peers:
            url = self.settings.peer_urls.get(name)
            self._peers[caller, name] = Peer(
                name,
                caller=caller,
                keys=self.ring,
                base_url=url,
                app=None if url else self._own_app,
            )
        return self._peers[caller, name]

    def _own_app(self) -> WSGIApplication:
        if self.app is None:
            raise RuntimeError(_NO_APP)
        return self.app()

    @cached_property
    def key_lookup(self) -> KeyLookup:
        """Where keys are looked up."""
        return KeyLookup(self.database("access"), self.settings.admin_key)

    @cached_property
    def authenticator(self) -> Authenticator:
        """Who says whom a token stands for."""
        return Authenticator(self.key_lookup, self.ring)

    @cached_property
    def denials(self) -> Denials:
        """Where refusals are noted."""
        return Denials(self.database("access"))

    @cached_property
    def access(self) -> Access:
        """Projects and keys."""
        return Access(
            self.database("access"),
            self.ring,
            databases=self.databases(),
            environment_admin=self.settings.admin_key,
        )

    def close(self) -> None:
        """Give all connections back."""
        for database in self._databases.values():
            database.close()
