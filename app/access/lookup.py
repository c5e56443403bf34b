"""Who a key stands for: looked up in its table, or asked of the service that keeps it."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from app.access.service import DEFAULT_PROJECT, SCOPES, stored_key
from app.kernel.auth import Call, KeyRecord, Principal, key_digest, key_id_of
from app.kernel.errors import NotFound, Unavailable
from app.kernel.peers import Peer
from app.kernel.sql import Database, new_id

ReadKey = Callable[[str], KeyRecord | None]
"""The record of the key with an id; raises Unavailable."""
_PEER_SECONDS = 2.0


class KeyLookup:
    """The ``KeyDirectory`` over where keys are kept, with a memory of seconds.

    While they can't be looked up, a key that was found in it up to ``believed`` seconds ago is
    still what it was then: what needs no database goes on. Of any other nothing can be said.
    """

    def __init__(
        self,
        read: ReadKey,
        environment_admin: str = "",
        *,
        seconds: float = 2.0,
        believed: float = 120.0,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._believed = believed
        self._known: dict[str, tuple[float, KeyRecord | None]] = {}
        self._lock = threading.Lock()
        self._fixed: dict[str, KeyRecord] = {}
        if environment_admin:
            key_id = key_id_of(environment_admin)
            principal = Principal(DEFAULT_PROJECT, key_id, frozenset(SCOPES))
            self._fixed[key_id] = KeyRecord(key_digest(environment_admin), principal)

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of a key; what was looked up is not looked up again for ``seconds``.

        Raises Unavailable when it can't be looked up and isn't known.
        """
        if key_id in self._fixed:
            return self._fixed[key_id]
        now = time.monotonic()
        with self._lock:
            since, record = self._known.get(key_id, (-self._seconds, None))
        if now - since < self._seconds:
            return record
        try:
            record = self._read(key_id)
        except Unavailable:
            if record is None or now - since >= self._believed:
                raise
            return record
        with self._lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key_id] = (now, record)
        return record


def keys_of(database: Database) -> ReadKey:
    """Keys by the table."""

    def read(key_id: str) -> KeyRecord | None:
        with database.read() as session:
            row = stored_key(session, key_id)
        if row is None:
            return None
        principal = Principal(row.project, row.key_id, frozenset(row.scopes), row.expires_at)
        return KeyRecord(row.digest, principal, revoked=row.revoked_at is not None)

    return read


def keys_by(peer: Peer) -> ReadKey:
    """Keys by the service that keeps them."""

    def read(key_id: str) -> KeyRecord | None:
        call = Call(DEFAULT_PROJECT, "", frozenset(), new_id())
        path = f"/keys/{key_id}/record"
        try:
            reply = peer.ask(call, "GET", path, scope="keys:verify", seconds=_PEER_SECONDS)
        except NotFound as error:
            # A process that doesn't serve the peer has answered, unless it speaks of the key.
            if key_id not in error.detail:
                raise Unavailable("The service access is not where it should be") from error
            return None
        told = reply.json
        ends = told["expires_at"] and datetime.fromisoformat(told["expires_at"])
        principal = Principal(told["project"], key_id, frozenset(told["scopes"]), ends)
        return KeyRecord(bytes.fromhex(told["digest"]), principal, revoked=bool(told["revoked_at"]))

    return read
