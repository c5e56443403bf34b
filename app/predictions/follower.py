"""Keeps what is known of models true: the events of the models service are followed.

When an alias moves, or a newer version comes, what is to answer next is loaded and warmed first,
beside the requests; then the switch is made. A version that can't be loaded in time is switched to
nevertheless: then the requests wait for it, and tell what is wrong with it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from app.kernel.artifacts.stored import ArtifactCorrupt
from app.kernel.auth import Call
from app.kernel.errors import Gone, NotFound, ServiceError
from app.predictions.directory import Directory, Known, Place, Reference
from app.predictions.ports import Loads, Models

EVERY_PROJECT = "*"
LATEST = "latest"
SWITCH_SECONDS = 5.0
_WAIT_SECONDS = 10
_PAUSE_SECONDS = 1.0
_AT_ONCE = 2
log = structlog.get_logger("follower")


def _call_in(project: str) -> Call:
    return Call(project, "follower", frozenset(), "follower")


@dataclass(frozen=True)
class News:
    """What has changed of a model, and the versions to load before that is put in force.

    ``spare`` is loaded afterwards: the newest version of a model that is in use, which an alias is
    likely to move to.
    """

    place: Place
    known: Known
    needed: frozenset[int]
    spare: int | None


class Follower:
    """Takes in what happens to the models that somebody has asked for; one thread follows."""

    def __init__(self, directory: Directory, models: Models, loads: Loads) -> None:
        self._directory = directory
        self._models = models
        self._loads = loads
        self._position: str | None = None
        self._stopped = threading.Event()

    def follow_once(self, *, wait: int) -> None:
        """Take in what has happened since the last time; wait for news so many seconds."""
        for news in self._news(wait):
            self._switch(news)

    def follow(self) -> None:
        """Follow until ``stop``: the loop of a background thread."""
        with ThreadPoolExecutor(_AT_ONCE, "switching") as executor:
            while not self._stopped.is_set():
                try:
                    for news in self._news(_WAIT_SECONDS):
                        self._switch_beside(executor, news)
                except ServiceError as error:
                    log.warning("following_failed", error=error.detail)
                    self._stopped.wait(_PAUSE_SECONDS)
            executor.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """End ``follow`` at its next turn."""
        self._stopped.set()

    def _news(self, wait: int) -> Iterator[News]:
        """What is to be put in force; the position is passed when all of it has been taken."""
        every = _call_in(EVERY_PROJECT)
        if self._position is None:
            # What was learnt before the position is known may be older than it.
            _, position = self._models.events(every, LATEST, wait=0)
            yield from self._learn_anew(self._directory.places())
            self._position = position
        try:
            events, position = self._models.events(every, self._position, wait=wait)
        except Gone:
            # What happened meanwhile, nobody can tell any more: everything is learnt anew.
            self._position = None
            return
        places = dict.fromkeys((event.project, event.model) for event in events)
        yield from self._learn_anew(places)
        self._position = position

    def _learn_anew(self, places: Any) -> Iterator[News]:
        for place in places:
            self._directory.outdate(place)
            before = self._directory.known_of(place)
            if before is None:
                continue
            try:
                known = self._directory.ask_state(_call_in(place[0]), place[1])
            except NotFound:
                self._directory.forget(place)
                self._unload(before, None)
            else:
                yield self._compare(place, before, known)

    def _compare(self, place: Place, before: Known, known: Known) -> News:
        """What an alias, or the newest version, has moved to from a version that is loaded."""
        model = place[1]
        references = [
            Reference(model),
            *(Reference(model, name) for name in known.state["aliases"]),
        ]
        needed: set[int] = set()
        for reference in references:
            old, new = _version_of(before, reference), _version_of(known, reference)
            if new is not None and new != old and self._is_loaded(before, old):
                needed.add(new)
        newest = known.newest
        is_newer = newest is not None and newest != before.newest and newest not in needed
        spare = newest if is_newer and self._is_in_use(before) else None
        return News(place, known, frozenset(needed), spare)

    def _is_in_use(self, known: Known) -> bool:
        return any(self._loads.holds(location) for location in list(known.locations.values()))

    def _is_loaded(self, known: Known, version: int | None) -> bool:
        location = known.locations.get(str(version))
        return location is not None and self._loads.holds(location)

    def _switch_beside(self, executor: ThreadPoolExecutor, news: News) -> None:
        """Load in a thread beside, and switch in time in any case."""
        if not news.needed and news.spare is None:
            self._switch(news)
            return
        at_last = threading.Timer(SWITCH_SECONDS, self._put_in_force, (news,))
        at_last.daemon = True
        at_last.start()
        executor.submit(self._switch, news, at_last.cancel)

    def _switch(self, news: News, done: Callable[[], None] = lambda: None) -> None:
        try:
            for version in news.needed:
                self._load(news, version)
            self._put_in_force(news)
            done()
            if news.spare is not None:
                self._load(news, news.spare, only_into_room=True)
        except ServiceError as error:
            # The database: it is in force, and only not remembered.
            log.warning("not_switched", place=news.place, error=error.detail)

    def _load(self, news: News, version: int, *, only_into_room: bool = False) -> None:
        """A version that can't be had is found so by whoever asks for it."""
        with suppress(ServiceError):
            location = news.known.locations.get(str(version)) or self._directory.ask_location(
                news.place, news.known, version, _call_in(news.place[0])
            )
            if not only_into_room or self._loads.has_room(location):
                self._loads.load(location)

    def _put_in_force(self, news: News) -> None:
        if self._stopped.is_set():
            return
        before = self._directory.known_of(news.place)
        after = self._directory.install(news.place, news.known)
        if before is not None:
            self._unload(before, after)

    def _unload(self, before: Known, after: Known | None) -> None:
        """Let go of the versions that are no more."""
        kept = _digests(after.locations) if after else frozenset()
        for version, location in list(before.locations.items()):
            is_kept = after is not None and after.keeps(version, before)
            if not is_kept and not _digests({"": location}) & kept:
                self._loads.unload(location)


def _version_of(known: Known, reference: Reference) -> int | None:
    try:
        return known.version_of(reference)
    except (NotFound, ArtifactCorrupt):
        return None


def _digests(locations: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(
        artifact["digest"] for at in list(locations.values()) for artifact in at["artifacts"]
    )
