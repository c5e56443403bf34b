"""What a process finds when it looks at what it stands on, and at those whom it asks.

The doctor looks so at what is configured where it runs; each API tells the same of itself.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal
from uuid import uuid4

from app.kernel.artifacts.store import ArtifactStore, digest_of
from app.kernel.auth import Call
from app.kernel.errors import NotFound, ServiceError
from app.kernel.http.examination import PROBES
from app.kernel.log.seam import RecordLog
from app.kernel.migrations import is_current, refuse_newer
from app.kernel.peers import Peer
from app.kernel.sql import Database, utc_now
from app.kernel.sqlite_files import check_sound
from app.kernel.tracing import tracer
from app.kernel.tracing.tracer import CannotTrace
from app.settings_table import SERVICES, SettingsError
from app.wiring import Wiring

Level = Literal["ok", "note", "bad"]
EXAMINE: Final = "installation:examine"
"""The scope by which a process is asked what it finds; no key can hold it."""
ASKED: Final[Mapping[str, tuple[str, ...]]] = {
    "access": ("datasets", "models", "training", "predictions", "streams"),
    "datasets": ("access", "models", "training", "predictions", "streams"),
    "models": ("access", "training", "predictions", "streams"),
    "training": ("access", "datasets", "models"),
    "predictions": ("access", "datasets", "models"),
    "streams": ("access", "datasets", "models", "training", "predictions"),
}
"""Whom each service asks."""
_OLDEST_NATS: Final = (2, 12)
_COPIES: Final = 3
_PEER_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``advice`` is what to do about it."""

    level: Level
    text: str
    advice: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing has to be done."""
        return self.level != "bad"

    def of(self, whose: str) -> "Finding":
        """The same, found elsewhere."""
        return Finding(self.level, f"{whose}: {self.text}", self.advice)


def looked(what: str, check: Callable[[], object], advice: str = "") -> Finding:
    """What came of a check that raises where something is wrong."""
    try:
        check()
    except (ServiceError, SettingsError, OSError) as error:
        return Finding("bad", f"{what}: {error}", advice)
    return Finding("ok", what)


def parts(wiring: Wiring, *, deep: bool) -> Iterator[Finding]:
    """Whether each part is there, and fit to be used; ``deep`` reads SQLite files whole."""
    yield looked("secret", lambda: wiring.ring, "set MODELYARD_SECRET")
    examined: set[Database] = set()
    for service in wiring.settings.services:
        check = partial(_look_at, wiring, service, examined if deep else None)
        there = looked(f"database of {service}", check, _of_database(service))
        yield there
        if there.well:
            yield _migrated(wiring, service)
    yield looked("artifact store", lambda: _check_store(wiring), "mend MODELYARD_STORE_URL")
    if "streams" in wiring.settings.services and wiring.settings.log_url:
        yield from record_log(wiring)
    yield from _traces()


def _traces() -> Iterator[Finding]:
    """Where traces go, if they are wanted."""
    try:
        receiver = tracer.receiver()
    except CannotTrace as error:
        yield Finding("bad", f"traces: {error}")
    else:
        if receiver is not None:
            yield Finding("ok", f"traces to {receiver}")


def _check_store(wiring: Wiring) -> None:
    wiring.store.check()


def _of_database(service: str) -> str:
    return f"start the database, or mend MODELYARD_{service.upper()}_DATABASE_URL"


def _look_at(wiring: Wiring, service: str, examined: set[Database] | None) -> None:
    """Raise where a service's database is damaged or away; each is read once."""
    database = wiring.database(service)
    if examined is not None and database.file is not None and database not in examined:
        check_sound(database.file, deep=True)
        examined.add(database)
    database.ping()


def _migrated(wiring: Wiring, service: str) -> Finding:
    database, histories = wiring.database(service), ("kernel", service)
    try:
        for history in histories:
            refuse_newer(database, history)
    except ServiceError as error:
        return Finding("bad", f"migrations of {service}: {error.detail}", "upgrade this server")
    missing = [name for name in histories if not is_current(database, name)]
    if missing:
        text = f"migrations of {', '.join(missing)} are missing"
        return Finding("bad", text, "run `modelyard migrate`")
    return Finding("ok", f"migrations of {service}")


def record_log(wiring: Wiring) -> Iterator[Finding]:
    """Whether NATS answers, and keeps what it is given as it is advised to."""
    log: RecordLog = wiring.record_log
    answers = looked("record log", log.ping, "start NATS, or mend MODELYARD_LOG_URL")
    if not answers.well:
        yield answers
        return
    from app.kernel.log.nats_cluster import look_at  # noqa: PLC0415 - an extra
    from app.kernel.log.nats_link import Address  # noqa: PLC0415 - an extra

    try:
        cluster = look_at(Address.parse(wiring.settings.log_url))
    except ServiceError as error:
        yield Finding(
            "bad", f"record log: {error.detail}", "look at NATS with `nats stream report`"
        )
        return
    told = ".".join(map(str, cluster.version))
    servers = f"{cluster.servers} server{'s' if cluster.servers > 1 else ''}"
    yield Finding("ok", f"record log: NATS {told}, {servers}, {len(cluster.streams)} streams")
    if cluster.version < _OLDEST_NATS:
        yield Finding("bad", f"record log: NATS {told} is too old", "upgrade it to 2.12 or newer")
    if cluster.servers < _COPIES:
        text = f"record log: with {servers} no record outlives its disk"
        yield Finding("note", text, "make NATS a cluster of three")
    for stream in cluster.streams:
        if stream.lagging:
            text = f"record log: {stream.name} lags behind on {', '.join(stream.lagging)}"
            yield Finding("bad", text, "look at that server, and wait until it has caught up")
        if stream.replicas < _COPIES <= cluster.servers:
            text = f"record log: {stream.name} has {stream.replicas} of {_COPIES} copies"
            yield Finding("note", text, f"`nats stream edit --replicas {_COPIES} {stream.name}`")


def peers(wiring: Wiring, call: Call) -> Iterator[Finding]:
    """Whether those whom the services here ask are where they are looked for, and let them in."""
    served, urls = wiring.settings.services, wiring.settings.peer_urls
    if set(served) == set(SERVICES):
        return
    for service in served:
        for name in ASKED[service]:
            if name in served:
                continue
            variable = f"MODELYARD_{name.upper()}_URL"
            if name not in urls:
                text = f"{service} does not know where {name} is"
                yield Finding("bad", text, f"set {variable} for it")
                continue
            check = partial(_ask, wiring.peer(service, name), call)
            yield looked(f"{service} asks {name}", check, f"mend {variable} there, or start {name}")


def _ask(peer: Peer, call: Call) -> None:
    reply = peer.ask(
        call, "GET", "/examination", scope=EXAMINE, params={"depth": "brief"}, seconds=_PEER_SECONDS
    )
    if peer.name not in reply.json["services"]:
        served = ", ".join(reply.json["services"])
        raise NotFound(f"at that address is a server of {served}")


class Examiner:
    """What a process tells its peers of itself."""

    def __init__(self, wiring: Wiring, version: str) -> None:
        self._wiring = wiring
        self._version = version

    def __call__(self, call: Call, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Who answers; when asked for it, what is found too."""
        findings = self._findings(call, asked["probe"]) if asked["depth"] == "full" else ()
        return {
            "version": self._version,
            "services": self._wiring.settings.services,
            "time": utc_now(),
            "findings": list(findings),
        }

    def _findings(self, call: Call, probe: str | None) -> Iterator[Finding]:
        yield from parts(self._wiring, deep=False)
        if probe is not None:
            check = partial(read_probe, self._wiring.store, probe)
            advice = "give all services the same MODELYARD_STORE_URL, one that all can reach"
            yield looked("the artifact store is shared", check, advice)
        yield from peers(self._wiring, call)


@contextmanager
def probed(store: ArtifactStore) -> Iterator[str]:
    """Something small lies in the store for as long as the block runs: its name."""
    probe = str(uuid4())
    store.put(f"{PROBES}/{probe}", probe.encode())
    try:
        yield probe
    finally:
        store.delete(f"{PROBES}/{probe}")


def read_probe(store: ArtifactStore, probe: str) -> None:
    """Raise unless it lies in the store."""
    store.open(f"{PROBES}/{probe}", digest_of(probe.encode()))
