"""The lane: a short way past Flask for the plain requests of one hot route, inside the same app.

Flask's dispatch, Werkzeug's request and response and a schema's load and dump cost several times
what a small answer does. So a request of the route is answered here if nothing about it is out of
the ordinary: the host is known, the body is JSON of a told length, the key is good, within its
quota and has the scope, there is a place for the work, and ``answer`` understands the body.

Anything else goes on to Flask just as it came, its body read or not: what is wrong with a request
is told in one place. Keys, quotas, places, problems, headers, log and metrics are the same code,
and what has been taken out of a quota is not taken twice.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_host

from app.kernel.admission import TICKET, Ticket
from app.kernel.auth import Call
from app.kernel.errors import ServiceError
from app.kernel.http.bodies import BODY_PATIENCE
from app.kernel.http.gate import (
    ADMITTED,
    Gate,
    Told,
    deadline_of,
    safe_headers,
    sound_request_id,
    sound_traceparent,
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
log = structlog.get_logger("lane")


@dataclass(frozen=True)
class HotRoute:
    """A route, and how its plain requests are answered.

    ``path`` matches all paths of the route. ``answer`` takes the call, what the groups of the path
    caught, the query string and the body; it gives the JSON of the answer, or None where Flask is
    to answer. The ServiceErrors that it raises are told.
    """

    rule: str
    path: re.Pattern[str]
    scopes: tuple[str, ...]
    answer: Callable[[Call, tuple[str, ...], str, bytes], bytes | None]


class Lane:
    """A WSGI app before Flask's."""

    def __init__(
        self, app: WSGIApplication, gate: Gate, route: HotRoute, hosts: Collection[str] | None
    ) -> None:
        """``hosts`` are the names that requests may address; None: any."""
        self._app = app
        self._gate = gate
        self._route = route
        self._hosts = hosts
        self._known_hosts: set[str] = set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        started = time.perf_counter()
        path = self._route.path.fullmatch(environ["PATH_INFO"])
        if path is None or not self._is_plain(environ):
            return self._app(environ, start_response)
        try:
            call, quota = self._admit(environ)
            body = self._body(environ)
        except (ServiceError, HTTPException):
            return self._app(environ, start_response)
        refusal = None
        try:
            answer = self._answer(environ, call, path.groups(), body)
        except ServiceError as error:
            refusal = refusal_of(error, path=environ["PATH_INFO"], request_id=call.request_id)
            answer = b""
        if answer is None:
            return self._app(environ, start_response)
        status = 200 if refusal is None else refusal.status_code
        told = Told("POST", environ["PATH_INFO"], self._route.rule, status, call.request_id, call)
        self._gate.tell(told, time.perf_counter() - started)
        headers = [("Vary", "Authorization"), *safe_headers(call.request_id).items()]
        headers += quota.items()
        if refusal is not None:
            refusal.headers.extend(headers)
            return refusal(environ, start_response)
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
        start_response("200 OK", headers)
        return [answer]

    def _answer(
        self, environ: WSGIEnvironment, call: Call, path: tuple[str, ...], body: bytes
    ) -> bytes | None:
        """The answer's body; None where Flask is to answer. Raises ServiceError."""
        ticket: Ticket | None = environ.get(TICKET)
        if ticket is not None:
            ticket.enter(call.remaining())
        try:
            return self._route.answer(call, path, environ["QUERY_STRING"], body)
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

    def _admit(self, environ: WSGIEnvironment) -> tuple[Call, Mapping[str, str]]:
        """Who calls, with the headers of the quota; raises ServiceError for whom Flask refuses."""
        admitted = environ[ADMITTED] = self._gate.admit(environ.get("HTTP_AUTHORIZATION"))
        if not admitted.within_quota:
            raise ServiceError
        principal = admitted.principal
        request_id = sound_request_id(environ.get("HTTP_X_REQUEST_ID"))
        environ["HTTP_X_REQUEST_ID"] = request_id
        timeout = environ.get("HTTP_X_REQUEST_TIMEOUT")
        call = Call(
            project=principal.project,
            key_id=principal.key_id,
            scopes=principal.scopes,
            request_id=request_id,
            address=environ.get("REMOTE_ADDR", ""),
            peer=principal.peer,
            deadline=None if timeout is None else deadline_of([timeout]),
            traceparent=sound_traceparent(environ.get("HTTP_TRACEPARENT")),
        )
        call.require(*self._route.scopes)
        return call, self._gate.quota_headers(admitted)

    def _body(self, environ: WSGIEnvironment) -> bytes:
        """The body, which whoever comes next may read again."""
        with self._gate.body_slots.hold(wait=BODY_PATIENCE):
            body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = BytesIO(body)
        return body
