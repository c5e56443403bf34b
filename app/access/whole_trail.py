"""What happened, and who did it, in services that live apart: asked of each, told as one.

Clients ask the access service, for that is where the gateway leads them. A peer that asks is told
of this process alone: it asks each of the others itself.

A position is that of each process, joined by ``~``. In one answer events are in the order of their
times; those of one service are in the order of its commits always. A process that is away tells its
events later, for its position stays where it is. The audit trail isn't told in part: without one of
them there is no answer.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import merge
from typing import Any, Final

from app.access.trail import Trail
from app.kernel.auth import Call
from app.kernel.errors import Gone, Invalid, Unavailable
from app.kernel.http.pagination import Page
from app.kernel.peers import Peer

_JOIN: Final = "~"
_LOOK_SECONDS: Final = 0.5
Events = tuple[list[dict[str, Any]], str]


class WholeTrail:
    """The trail of this process and of others."""

    def __init__(self, own: Trail, others: Sequence[Peer]) -> None:
        self._own = own
        self._others = others

    def audit(self, call: Call, before: str | None, limit: int) -> Page[Any]:
        """The audit trail of the caller's project, newest first; raises Unavailable, Malformed."""
        own = self._own.audit(call, before, limit)
        if call.peer is not None:
            return own
        asked = {"page_size": limit} | ({"page_token": before} if before else {})
        rows: list[Any] = [(row.id, row) for row in own.items]
        more = own.next_page_token is not None
        for peer in self._others:
            told = peer.ask(call, "GET", "/audit", scope="audit:read", params=asked).json
            rows += [(row["id"], _with_time(row)) for row in told["items"]]
            more = more or told["next_page_token"] is not None
        rows.sort(key=lambda pair: pair[0], reverse=True)
        more = more or len(rows) > limit
        return Page([row for _, row in rows[:limit]], rows[limit - 1][0] if more else None)

    def events(
        self, call: Call, after: str | None, *, limit: int, wait: float, source: str | None
    ) -> Events:
        """Events of the caller's project; raises Invalid, Gone, and Unavailable where all are."""
        if call.peer is not None:
            return self._own.events(call, after, limit=limit, wait=wait, source=source)
        positions = self._positions(after)
        until = time.monotonic() + call.patience(wait)
        while True:
            found, positions = self._read_once(call, positions, limit, source)
            left = until - time.monotonic()
            if found or left <= 0 or after == "latest":
                return found, _JOIN.join(positions)
            time.sleep(min(left, _LOOK_SECONDS))

    def _positions(self, after: str | None) -> list[str]:
        count = 1 + len(self._others)
        if not after or after == "latest":
            return [after or ""] * count
        positions = after.split(_JOIN)
        if len(positions) != count:
            raise Invalid.at("?after", "invalid_position", "Not a position of this log")
        return positions

    def _read_once(
        self, call: Call, positions: Sequence[str], limit: int, source: str | None
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """What comes after the positions, as much as there is room for, and where that ends."""
        found: list[list[dict[str, Any]]] = []
        seen = list(positions)
        away: Unavailable | None = None
        # Where there is room for fewer than there are processes, another one begins each time.
        first = sum(int(digit) for digit in "".join(positions) if digit.isdecimal())
        first %= len(positions)
        order = [*range(first, len(positions)), *range(first)]
        share = max(1, limit // len(positions))
        for place in order:
            if sum(map(len, found)) >= limit:
                break
            try:
                events, seen[place] = self._ask(place, call, positions[place], share, source)
            except Unavailable as error:
                away = error
                continue
            except Gone as error:
                raise self._gone(error, positions, place) from error
            found.append(events)
        if away is not None and len(found) == 0:
            raise away
        return list(merge(*found, key=lambda event: event["time"])), seen

    def _ask(self, place: int, call: Call, after: str, limit: int, source: str | None) -> Events:
        if place == 0:
            return self._own.events(call, after or None, limit=limit, wait=0, source=source)
        asked: dict[str, Any] = {"limit": limit}
        asked |= {"after": after} if after else {}
        asked |= {"source": source} if source else {}
        peer = self._others[place - 1]
        told = peer.ask(call, "GET", "/events", scope="events:read", params=asked).json
        return told["items"], told["next_position"]

    def _gone(self, error: Gone, positions: Sequence[str], place: int) -> Gone:
        first = [*positions]
        first[place] = str(error.extra["first_position"])
        return Gone(error.detail, extra={"first_position": _JOIN.join(first)})


def _with_time(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "time": datetime.fromisoformat(row["time"])}
