"""Who calls: keys, peer tokens, scopes, and the ``Call`` that every service method is handed.

A key reads ``myk_<8>_<43>``: an id that may be shown, and 256 random bits of which only the SHA-256
is kept. A peer (another service of ours) shows a token instead, an HMAC over its name, the project
and scopes that it acts for, and a deadline.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from app.kernel.errors import DeadlineExceeded, Forbidden, Unauthenticated
from app.kernel.signing import KeyRing
from app.kernel.tracing.contexts import Trace

KEY_PATTERN = re.compile(r"myk_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
PEER_PREFIX = "myp_"
_PEER_PURPOSE = "peer-token"

# What is left for the answer itself when a wait ends for the caller's deadline.
_FOR_THE_ANSWER = 0.1

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Principal:
    """Whom a token stands for."""

    project: str
    key_id: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    peer: str | None = None


class Reservation(Protocol):
    """An Idempotency-Key held for one request; completed in the effect's own transaction."""

    def complete(self, session: Any, result: Any) -> None:
        """Store the answer for ``result`` in the session's transaction."""


class Place(Protocol):
    """A place among those who work at once, held by one request."""

    def lent(self, patience: Callable[[], float]) -> AbstractContextManager[None]:
        """Others may have it during the block; then there is one again, or Unavailable."""


@dataclass(frozen=True)
class Call:
    """One request to a service: who calls, from where, on what conditions.

    ``deadline`` is a moment of the monotonic clock; None: the caller waits as long as it takes.
    ``trace`` is where what follows from it belongs to: it says nothing about who calls.
    """

    project: str
    key_id: str
    scopes: frozenset[str]
    request_id: str
    address: str = ""
    peer: str | None = None
    if_match: tuple[str, ...] | None = None
    deadline: float | None = None
    trace: Trace | None = None
    place: Place | None = field(default=None, compare=False, repr=False)
    reservation: Reservation | None = field(default=None, compare=False, repr=False)

    def require(self, *any_of: str) -> None:
        """Raise Forbidden unless the caller holds the scope, or one of several."""
        if self.scopes.isdisjoint(any_of):
            raise Forbidden(f"This needs the scope {any_of[0]}", extra={"scope": any_of[0]})

    def remaining(self, most: float = math.inf) -> float:
        """How many seconds something may take, ``most`` at most.

        Raises DeadlineExceeded when the caller's deadline has passed.
        """
        if self.deadline is None:
            return most
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded
        return min(most, left)

    def elsewhere(self) -> AbstractContextManager[None]:
        """The block waits for an answer of others, and nobody waits for the caller's place then.

        Raises Unavailable or DeadlineExceeded after it where no place is free again in time.
        """
        return self.place.lent(self.remaining) if self.place else nullcontext()

    def patience(self, most: float) -> float:
        """How many seconds to wait for a change, so that an answer without one is in time."""
        return min(most, max(0.0, self.remaining() - _FOR_THE_ANSWER))


class KeyDirectory(Protocol):
    """Where keys are looked up."""

    def find(self, key_id: str) -> "KeyRecord | None":
        """The record of a live key, or None; at most seconds behind a revocation."""


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key: ``digest`` is the SHA-256 of its whole text."""

    digest: bytes
    principal: Principal
    revoked: bool = False


def new_key() -> str:
    """A fresh key: 8 characters of id, 256 bits of secret."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return f"myk_{key_id}_{secrets.token_urlsafe(32)}"


def key_digest(key: str) -> bytes:
    """What is stored of a key. 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).digest()


def key_id_of(key: str) -> str:
    """The part of a key that may be shown; raises ValueError for what isn't a key."""
    match = KEY_PATTERN.fullmatch(key)
    if match is None:
        raise ValueError("a key reads myk_<8>_<43>")
    return match[1]


class Authenticator:
    """Turns the Authorization header into a principal."""

    def __init__(self, directory: KeyDirectory, keys: KeyRing) -> None:
        self._directory = directory
        self._keys = keys

    def authenticate(self, header: str | None, now: datetime) -> Principal:
        """Raises Unauthenticated for no, unknown, revoked and expired credentials alike."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send `Authorization: Bearer <key>`")
        if token.startswith(PEER_PREFIX):
            return read_peer_token(self._keys, token)
        match = KEY_PATTERN.fullmatch(token)
        record = self._directory.find(match[1]) if match else None
        # The digest is compared also for an unknown key, so that time tells nothing.
        known = record.digest if record else b"\0" * 32
        if not hmac.compare_digest(known, key_digest(token)) or record is None or record.revoked:
            raise Unauthenticated("The key is not valid")
        expires = record.principal.expires_at
        if expires is not None and expires <= now:
            raise Unauthenticated("The key has expired")
        return record.principal


def make_peer_token(
    keys: KeyRing, *, service: str, project: str, scopes: frozenset[str], lifetime: float
) -> str:
    """A token by which ``service`` acts in ``project`` for ``lifetime`` seconds."""
    claims = {
        "service": service,
        "project": project,
        "scopes": sorted(scopes),
        "deadline": time.time() + lifetime,
    }
    payload = urlsafe_b64encode(msgspec.json.encode(claims)).decode()
    return f"{PEER_PREFIX}{payload}.{keys.sign(_PEER_PURPOSE, payload.encode())}"


def read_peer_token(keys: KeyRing, token: str) -> Principal:
    """The principal of a peer's token; raises Unauthenticated when forged or too old."""
    payload, _, signature = token.removeprefix(PEER_PREFIX).partition(".")
    if not keys.verify(_PEER_PURPOSE, payload.encode(), signature):
        raise Unauthenticated("The peer token is not valid")
    claims = msgspec.json.decode(urlsafe_b64decode(payload))
    if claims["deadline"] < time.time():
        raise Unauthenticated("The peer token is too old")
    return Principal(
        project=claims["project"],
        key_id=f"peer:{claims['service']}",
        scopes=frozenset(claims["scopes"]),
        peer=claims["service"],
    )


@dataclass(frozen=True)
class Access:
    """What a route asks of its caller: a scope, one of several, or nothing (``public``)."""

    scopes: tuple[str, ...]


def secured(scope: str, *others: str) -> Callable[[View], View]:
    """Mark a view with the scope it needs; with several, any one of them lets the caller in.

    The first is the one that clients are told of. A route without a mark stops the app from
    starting.
    """

    def mark(view: View) -> View:
        view.access = Access((scope, *others))  # type: ignore[attr-defined]
        return view

    return mark


def public(view: View) -> View:
    """Mark a view as open to anybody, on purpose."""
    view.access = Access(())  # type: ignore[attr-defined]
    return view
