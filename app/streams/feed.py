"""What happens in the system as a topic: each project's ``modelyard.events``.

The events lie in the services' outboxes already, written in the transactions of what they tell of.
They are read from there by position, and appended in the transaction that keeps how far: so each is
in its topic once, whoever is killed, and however many processes feed.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog
from sqlalchemy.exc import IntegrityError

from app.kernel.auth import Call
from app.kernel.errors import Conflict, Gone, ServiceError
from app.kernel.events import EventLog, cloud_event
from app.kernel.log.seam import NewRecord
from app.kernel.peers import Peer
from app.kernel.sql import Database
from app.streams.records.cloud_events import structured
from app.streams.service import Topics
from app.streams.tables import Feed

FED_SERVICES: Final = ("datasets", "training", "models", "streams")
"""Not access: keys are told of to whoever may see events. Predictions are too many."""
_AT_ONCE: Final = 500
_WAIT_SECONDS: Final = 10
_PAUSE_SECONDS: Final = 0.2
_TROUBLE_SECONDS: Final = 1.0
_EVERY: Final = Call("*", "feeder", frozenset(), "feeder")
log = structlog.get_logger("feeder")


class Source(Protocol):
    """An outbox, or several that are read as one."""

    @property
    def name(self) -> str:
        """By which the position in it is kept."""

    def read(
        self, after: str | None, wait: int, stopped: Callable[[], bool]
    ) -> tuple[Sequence[Mapping[str, Any]], str]:
        """CloudEvents after a position, and the one to go on from; raises Gone."""


class OwnEvents:
    """The outboxes of the services that this process serves."""

    name = "own"

    def __init__(self, databases: Sequence[Database], services: Iterable[str]) -> None:
        self._events = EventLog(databases)
        self._services = frozenset(services)

    def read(
        self, after: str | None, wait: int, stopped: Callable[[], bool]
    ) -> tuple[Sequence[Mapping[str, Any]], str]:
        """See the protocol."""
        found, position = self._events.read(
            after,
            project=None,
            limit=_AT_ONCE,
            wait=wait,
            sources=self._services,
            stopped=stopped,
        )
        return [cloud_event(one) for one in found], position


class PeerEvents:
    """The outbox of a service elsewhere, by its API."""

    def __init__(self, service: str, peer: Peer) -> None:
        self.name = service
        self._peer = peer

    def read(
        self, after: str | None, wait: int, stopped: Callable[[], bool]
    ) -> tuple[Sequence[Mapping[str, Any]], str]:
        """See the protocol."""
        params: dict[str, Any] = {"source": self.name, "wait": 0 if stopped() else wait}
        params |= {"limit": _AT_ONCE} | ({"after": after} if after else {})
        reply = self._peer.ask(
            _EVERY, "GET", "/events", scope="events:read", params=params, seconds=wait + 10
        )
        return reply.json["items"], reply.json["next_position"]


class Feeder:
    """Appends what sources tell of to the topics of events."""

    def __init__(self, topics: Topics, sources: Sequence[Source], kept: timedelta) -> None:
        self._topics = topics
        self._sources = sources
        self._kept = kept
        self._stopped = threading.Event()
        self._kept_positions: dict[str, str | None] = {}
        self._seen: dict[str, str | None] = {}

    def start(self) -> None:
        """Feed until ``stop``, from each source in a thread of its own."""
        for source in self._sources:
            thread = threading.Thread(
                target=self._feed, args=(source,), daemon=True, name=f"feeder-{source.name}"
            )
            thread.start()

    def stop(self) -> None:
        """End the threads at their next turns."""
        self._stopped.set()

    def feed_once(self, *, wait: int = 0) -> int:
        """Feed what has happened since the last time; how many events that were."""
        return sum(self._feed_from(source, wait) for source in self._sources)

    def _feed(self, source: Source) -> None:
        while not self._stopped.is_set():
            try:
                self._feed_from(source, _WAIT_SECONDS)
                self._stopped.wait(_PAUSE_SECONDS)
            except ServiceError as error:
                log.warning("feeding_failed", source=source.name, error=error.detail)
                self._stopped.wait(_TROUBLE_SECONDS)

    def _feed_from(self, source: Source, wait: int) -> int:
        name = source.name
        if name not in self._seen:
            self._start_from(name, self._position(name))
        try:
            events, position = source.read(self._seen[name], wait, self._stopped.is_set)
        except Gone as gone:
            self._seen[name] = str(gone.extra["first_position"])
            return 0
        if events and not self._append(name, events, position):
            del self._seen[name]
            return 0
        self._seen[name] = position
        return len(events)

    def _start_from(self, name: str, position: str | None) -> None:
        self._kept_positions[name] = self._seen[name] = position

    def _position(self, name: str) -> str | None:
        with self._topics.database.read() as session:
            row = session.get(Feed, name)
            return None if row is None else row.position

    def _append(self, name: str, events: Sequence[Mapping[str, Any]], position: str) -> bool:
        """Append events and keep the position; False: somebody else has got further."""
        by_project: dict[str, list[NewRecord]] = {}
        for event in events:
            by_project.setdefault(event["project"], []).extend(structured(event))
        try:
            ids = {
                project: self._topics.ensure_events_topic(project, self._kept).id
                for project in sorted(by_project)
            }
            with self._topics.database.write() as session:
                row = session.get(Feed, name, with_for_update=True)
                if (None if row is None else row.position) != self._kept_positions[name]:
                    return False
                for project, topic_id in ids.items():
                    self._topics.log.append_in(session, topic_id, by_project[project])
                session.merge(Feed(source=name, position=position))
        except (IntegrityError, Conflict):
            # Another process is making the same row right now.
            return False
        self._kept_positions[name] = position
        return True
