"""What happens to every request before and after its view.

Before: the request id, the key, its quota, the scope, the names of the query parameters. After: the
headers that every answer carries, one log line, the metrics.
"""

import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from wsgiref.types import WSGIEnvironment

import structlog
from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry

from app.kernel.admission import TICKET
from app.kernel.audit import Denials
from app.kernel.auth import Authenticator, Call, Principal
from app.kernel.errors import (
    Forbidden,
    Invalid,
    Malformed,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
)
from app.kernel.http.api import Operation, query_faults
from app.kernel.http.spec import LONGEST_TIMEOUT, SHORTEST_TIMEOUT
from app.kernel.meters import Amounts, Counter, Histogram, Observed
from app.kernel.quotas import Quotas, Standing
from app.kernel.slots import Slots
from app.kernel.sql import utc_now
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import sound_trace

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TAG = re.compile(r'\s*(?:W/)?("[^"]*"|\*)\s*(?:,|$)')
_MOST_FAULTS = 20
_bits = random.Random().getrandbits  # noqa: S311 (ids of requests)
_TIMEOUT = re.compile(r"[0-9]{1,4}(\.[0-9]{1,20})?")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# For answers that are data. A browser that is led to one runs nothing, and shows it in no frame.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
log = structlog.get_logger("requests")


_NO_ROUTE: Final = "unknown"
# Under this name the request's environment holds who was let in before Flask.
ADMITTED: Final = "modelyard.admitted"


@dataclass(frozen=True)
class Admitted:
    """Whom a request comes from, and how the quota of the key stands with this request."""

    principal: Principal
    standing: Standing | None = None

    @property
    def within_quota(self) -> bool:
        """Whether the key may send this request."""
        return self.standing is None or self.standing.admitted


class Told(NamedTuple):
    """What the log and the metrics tell of an answered request; ``path`` is as it was sent.

    Of what is ``usual`` the log tells only when it is asked for debugging.
    """

    method: str
    path: str
    route: str
    status: int
    request_id: str
    call: Call | None
    usual: bool = False


class _Meters(NamedTuple):
    requests: Amounts
    seconds: Observed


class Gate:
    """Guards the routes of one app."""

    def __init__(
        self,
        operations: Mapping[tuple[str, str], Operation],
        authenticator: Authenticator,
        denials: Denials,
        registry: CollectorRegistry,
        *,
        body_slots: int = 16,
        quotas: Quotas | None = None,
    ) -> None:
        self._operations = operations
        self._authenticator = authenticator
        self._denials = denials
        self._quotas = quotas
        self.body_slots = Slots(body_slots, "request bodies")
        self._tells_usual = bool(log.is_enabled_for(logging.DEBUG))
        self._meters: dict[tuple[str, str, int], _Meters] = {}
        self._requests = Counter(
            "modelyard_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry,
        )
        self._seconds = Histogram(
            "modelyard_request_seconds",
            "Time from the first byte to the answer.",
            ("method", "route"),
            registry,
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
        )

    def register(self, app: Flask) -> None:
        """Hang the hooks into the app."""
        app.extensions["body_slots"] = self.body_slots
        app.before_request(self.before)
        app.after_request(self.after)

    def before(self) -> None:
        """Let the request in, or raise why not."""
        g.started = time.perf_counter()
        g.request_id = sound_request_id(request.headers.get("X-Request-Id"))
        if "Content-Length" in request.headers and "Transfer-Encoding" in request.headers:
            raise Malformed("Send Content-Length or Transfer-Encoding, not both")
        operation = self._operation()
        if operation is None:
            return
        g.operation = operation
        if operation.scopes:
            g.call = self._admit(operation.scopes)
        faults = query_faults(operation, request.args)
        if faults:
            raise Invalid("The request is not valid", errors=faults[:_MOST_FAULTS])

    def _operation(self) -> Operation | None:
        method = "GET" if request.method == "HEAD" else request.method
        return self._operations.get((request.endpoint or "", method))

    def _admit(self, scopes: tuple[str, ...]) -> Call:
        admitted: Admitted | None = request.environ.get(ADMITTED)
        try:
            admitted = admitted or self.admit(_authorization())
        except Unauthenticated as error:
            self._deny(error, "", "")
            raise
        g.quota = self.quota_headers(admitted)
        if admitted.standing and not admitted.within_quota:
            raise TooManyRequests(
                "The key has sent as many requests as it may", retry_after=admitted.standing.wait
            )
        call = call_of(admitted.principal, g.request_id, request.environ)
        try:
            call.require(*scopes)
        except Forbidden as error:
            self._deny(error, call.project, call.key_id)
            raise
        return call

    def admit(self, authorization: str | None) -> Admitted:
        """Whom a key stands for; takes the request out of its quota. Raises Unauthenticated.

        Peers have asked in the name of a key already, and have none.
        """
        principal = self._authenticator.authenticate(authorization, utc_now())
        if self._quotas is None or principal.peer is not None:
            return Admitted(principal)
        return Admitted(principal, self._quotas.take(principal.key_id))

    def quota_headers(self, admitted: Admitted) -> Mapping[str, str]:
        """How the quota stands, for the answer."""
        if self._quotas is None or admitted.standing is None:
            return {}
        return self._quotas.headers(admitted.standing)

    def _deny(self, error: ServiceError, project: str, key_id: str) -> None:
        self._denials.record(
            project=project,
            key_id=key_id,
            address=request.remote_addr or "",
            request_id=g.request_id,
            action=f"{request.method} {request.url_rule}"[:64],
            code=error.code,
        )

    def after(self, response: Response) -> Response:
        """Put on the headers of every answer; log and count it."""
        seconds = time.perf_counter() - g.get("started", time.perf_counter())
        route = request.url_rule.rule if request.url_rule else _NO_ROUTE
        response.headers["X-Request-Id"] = g.get("request_id", "")
        response.headers.add("Vary", "Authorization")
        for name, value in (*_HEADERS.items(), *g.get("quota", {}).items()):
            response.headers.setdefault(name, value)
        if request.method == "OPTIONS" and not response.data:
            response.headers.pop("Content-Type", None)
        # A client may make up as many methods as it likes, and each label is kept for ever.
        method = request.method if request.method in METHODS else "other"
        self.tell(
            Told(
                method=method,
                path=request.path,
                route=route,
                status=response.status_code,
                request_id=g.get("request_id", ""),
                call=g.get("call"),
            ),
            seconds,
        )
        return response

    def tell(self, told: Told, seconds: float) -> None:
        """Count an answered request, and log it."""
        labels = told.method, told.route, told.status
        meters = self._meters.get(labels)
        if meters is None:
            counted = self._requests.of(told.method, told.route, str(told.status))
            meters = _Meters(counted, self._seconds.of(told.method, told.route))
            self._meters[labels] = meters
        meters.requests.add()
        meters.seconds.add(seconds)
        if tracer.is_on():
            _describe(told)
        call = told.call
        # Peers ask all the time; what they ask for is in the log of their own doings.
        usual = told.usual or (call is not None and call.peer is not None)
        if usual and not self._tells_usual:
            return
        tell = log.debug if usual else log.info
        tell(
            "request",
            method=told.method,
            path=told.path[:400],
            status=told.status,
            milliseconds=round(seconds * 1000, 2),
            request_id=told.request_id,
            **({"project": call.project, "key_id": call.key_id} if call else {}),
        )


def _describe(told: Told) -> None:
    """What the span of an answered request is called."""
    attributes = {"modelyard.request_id": told.request_id}
    if told.call is not None:
        attributes["modelyard.project"] = told.call.project
    if told.route == _NO_ROUTE:
        tracer.current().describe(attributes)
    else:
        attributes["http.route"] = told.route
        tracer.current().describe(attributes, f"{told.method} {told.route}")


def _authorization() -> str | None:
    sent = request.headers.getlist("Authorization")
    if len(sent) > 1:
        raise Malformed("Send one Authorization header")
    return sent[0] if sent else None


def safe_headers(request_id: str) -> list[tuple[str, str]]:
    """What every answer carries that is no page."""
    return [("Vary", "Authorization"), ("X-Request-Id", request_id), *_HEADERS.items()]


def call_of(principal: Principal, request_id: str, environ: WSGIEnvironment) -> Call:
    """The call of a request that was let in; raises Malformed, and Invalid for its deadline."""
    timeout, tags = environ.get("HTTP_X_REQUEST_TIMEOUT"), environ.get("HTTP_IF_MATCH")
    traceparent = environ.get("HTTP_TRACEPARENT")
    return Call(
        principal.project,
        principal.key_id,
        principal.scopes,
        request_id,
        environ.get("REMOTE_ADDR") or "",
        principal.peer,
        None if tags is None else if_match(tags),
        None if timeout is None else deadline_of(timeout),
        None if traceparent is None else sound_trace(traceparent, environ.get("HTTP_TRACESTATE")),
        environ.get(TICKET),
    )


def sound_request_id(sent: str | None) -> str:
    """The id that a request sent, where it is one; else a new one."""
    if sent and _REQUEST_ID.fullmatch(sent):
        return sent
    # A UUID of version 4 that is no secret: uuid4 would ask the kernel, and let another thread go
    # first meanwhile.
    bits = f"{_bits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[_bits(2)]}{bits[17:20]}-{bits[20:]}"


def deadline_of(sent: str) -> float:
    """The moment until which the caller waits; raises Invalid for what is no time span."""
    seconds = float(sent) if _TIMEOUT.fullmatch(sent) else 0.0
    if not SHORTEST_TIMEOUT <= seconds <= LONGEST_TIMEOUT:
        told = f"One number of seconds from {SHORTEST_TIMEOUT} to {LONGEST_TIMEOUT}"
        raise Invalid.at("X-Request-Timeout", "invalid", told)
    return time.monotonic() + seconds


def if_match(header: str) -> tuple[str, ...]:
    """The tags of an If-Match header; a weak one never matches (RFC 9110, 13.1.1).

    Raises Malformed for what is no list of tags.
    """
    tags: list[str] = []
    position = 0
    while position < len(header):
        found = _TAG.match(header, position)
        if found is None:
            raise Malformed('If-Match is `*` or a list of "tags"')
        weak = "W/" in found[0].split('"')[0]
        tags.append("" if weak else found[1].strip('"'))
        position = found.end()
    if not tags:
        raise Malformed('If-Match is `*` or a list of "tags"')
    return tuple(tags)
