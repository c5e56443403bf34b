"""The lane: a short way past Flask for the plain requests of hot routes, inside the same app.

Flask's dispatch, Werkzeug's request and response and a schema's load and dump cost several times
what a small answer does. So a request of such a route is answered here if nothing about it is out
of the ordinary: the host is known, the body is JSON of a told length, no other answer is wanted,
the key is good, within its quota and has the scope, there is a place for the work, and ``answer``
understands the body.

Anything else goes on to Flask just as it came, its body read or not: what is wrong with a request
is told in one place. Keys, quotas, places, problems, headers, log and metrics are the same code,
and what has been taken out of a quota is not taken twice.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import Final, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_accept_header
from werkzeug.wsgi import get_host

from app.kernel.admission import TICKET, Ticket
from app.kernel.auth import Call
from app.kernel.errors import ServiceError
from app.kernel.http.bodies import BODY_PATIENCE
from app.kernel.http.gate import (
    ADMITTED,
    Gate,
    Told,
    call_of,
    safe_headers,
    sound_request_id,
)
from app.kernel.http.problems import refusal_of

# Of a body so short the strict reader's bounds on values and members can't be passed.
_LONGEST_BODY: Final = 1_900_000
_HOSTS_KEPT: Final = 64
_NOT_PLAIN: Final = frozenset(
    {
        "HTTP_TRANSFER_ENCODING",
        "HTTP_CONTENT_ENCODING",
        "HTTP_IDEMPOTENCY_KEY",
        "HTTP_IF_MATCH",
        "HTTP_EXPECT",
    }
)
_FIRST_ERROR: Final = 400
_STATUS: Final = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}
log = structlog.get_logger("lane")


class Answer(NamedTuple):
    """An answer of JSON; ``headers`` are those besides what every answer has."""

    body: bytes
    status: int = 200
    headers: Iterable[tuple[str, str]] = ()


Later = Callable[[], Answer]
"""What an answer waits for without a place, for it costs nothing meanwhile."""


@dataclass(frozen=True)
class HotRoute:
    """A route of POSTs, and how its plain requests are answered.

    ``path`` matches all paths of the route. ``answer`` takes the call, what the groups of the path
    caught, the query string and the body; it gives None where Flask is to answer. The
    ServiceErrors that it raises are told.
    """

    rule: str
    path: re.Pattern[str]
    scopes: tuple[str, ...]
    answer: Callable[[Call, tuple[str, ...], str, bytes], Answer | Later | None]


class Lane:
    """A WSGI app before Flask's."""

    def __init__(
        self,
        app: WSGIApplication,
        gate: Gate,
        routes: Sequence[HotRoute],
        hosts: Collection[str] | None,
    ) -> None:
        """``hosts`` are the names that requests may address; None: any."""
        self._app = app
        self._gate = gate
        self._routes = routes
        self._hosts = hosts
        self._known_hosts: set[str] = set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        started = time.perf_counter()
        for route in self._routes:
            path = route.path.fullmatch(environ["PATH_INFO"])
            if path is not None:
                break
        else:
            return self._app(environ, start_response)
        if not self._is_plain(environ):
            return self._app(environ, start_response)
        try:
            call, quota = self._admit(environ, route)
            body = self._body(environ)
        except (ServiceError, HTTPException):
            return self._app(environ, start_response)
        try:
            answer = self._answer(environ, call, route, path.groups(), body)
        except ServiceError as error:
            refusal = refusal_of(error, path=environ["PATH_INFO"], request_id=call.request_id)
            self._tell(environ, route, call, refusal.status_code, started)
            refusal.headers.extend(safe_headers(call.request_id))
            refusal.headers.extend(quota)
            return refusal(environ, start_response)
        if answer is None:
            environ["wsgi.input"] = BytesIO(body)
            return self._app(environ, start_response)
        self._tell(environ, route, call, answer.status, started)
        headers = safe_headers(call.request_id)
        headers += (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer.body))),
        )
        headers += quota.items()
        headers += answer.headers
        start_response(_STATUS[answer.status], headers)
        return [answer.body]

    def _tell(
        self, environ: WSGIEnvironment, route: HotRoute, call: Call, status: int, started: float
    ) -> None:
        told = Told(
            "POST",
            environ["PATH_INFO"],
            route.rule,
            status,
            call.request_id,
            call,
            usual=status < _FIRST_ERROR,
        )
        self._gate.tell(told, time.perf_counter() - started)

    def _answer(
        self,
        environ: WSGIEnvironment,
        call: Call,
        route: HotRoute,
        path: tuple[str, ...],
        body: bytes,
    ) -> Answer | None:
        """The answer; None where Flask is to answer. Raises ServiceError."""
        ticket: Ticket | None = environ.get(TICKET)
        if ticket is not None:
            ticket.enter(call.remaining())
        try:
            answer = route.answer(call, path, environ["QUERY_STRING"], body)
            if answer is None or isinstance(answer, Answer):
                return answer
            if ticket is not None:
                ticket.leave()
            return answer()
        except ServiceError:
            raise
        except Exception:
            log.exception("lane_failed", path=environ["PATH_INFO"])
            return None

    def _is_plain(self, environ: WSGIEnvironment) -> bool:
        length = environ.get("CONTENT_LENGTH", "")
        return (
            environ["REQUEST_METHOD"] == "POST"
            and environ.get("CONTENT_TYPE") == "application/json"
            and length.isascii()
            and length.isdigit()
            and 0 < int(length[:8]) <= _LONGEST_BODY
            and len(length) < 8
            and _NOT_PLAIN.isdisjoint(environ)
            and _takes_json(environ.get("HTTP_ACCEPT", ""))
            and self._is_known_host(environ)
        )

    def _is_known_host(self, environ: WSGIEnvironment) -> bool:
        if self._hosts is None:
            return True
        host = environ.get("HTTP_HOST", "")
        if host in self._known_hosts:
            return True
        try:
            get_host(environ, self._hosts)
        except HTTPException:
            return False
        if len(self._known_hosts) < _HOSTS_KEPT:
            self._known_hosts.add(host)
        return True

    def _admit(self, environ: WSGIEnvironment, route: HotRoute) -> tuple[Call, Mapping[str, str]]:
        """Who calls, with the headers of the quota; raises ServiceError for whom Flask refuses."""
        admitted = environ[ADMITTED] = self._gate.admit(environ.get("HTTP_AUTHORIZATION"))
        if not admitted.within_quota:
            raise ServiceError
        request_id = sound_request_id(environ.get("HTTP_X_REQUEST_ID"))
        environ["HTTP_X_REQUEST_ID"] = request_id
        call = call_of(admitted.principal, request_id, environ)
        call.require(*route.scopes)
        return call, self._gate.quota_headers(admitted)

    def _body(self, environ: WSGIEnvironment) -> bytes:
        slots = self._gate.body_slots
        slots.take(BODY_PATIENCE)
        try:
            body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        finally:
            slots.give_back()
        return body


@lru_cache(maxsize=64)
def _takes_json(accept: str) -> bool:
    """Whether no other type is liked better than JSON."""
    if accept in ("", "*/*", "application/json"):
        return True
    liked = parse_accept_header(accept, MIMEAccept)
    quality = liked.quality("application/json")
    return quality > 0 and all(quality >= other for _, other in liked)
