"""The REST client by which one service asks another.

In one process the peer's app is called through httpx's WSGI transport, apart by its base URL: the
contract is the same. Each call carries a short-lived token that names the service, the project and
the one scope that it needs, the caller's request id and its trace. A peer is never called inside an
open transaction: it may need the very lock that the transaction holds.

A peer over the wire may be away, slow, or just starting: see peer_guard. What fails is repeated
where that can't do a thing twice: the request never left, or its method may be repeated. Of several
replicas another one is asked at once where the first one doesn't listen.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import Context
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from wsgiref.types import WSGIApplication

import httpx

from app.kernel import errors
from app.kernel.auth import Call, make_peer_token
from app.kernel.errors import DeadlineExceeded, ServiceError, StorageFull, Unavailable
from app.kernel.peer_guard import MOST_REPEATS, PeerFailed, PeerGuard, nap
from app.kernel.signing import KeyRing
from app.kernel.sql import in_transaction
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import Trace

PREFIX = "/api/v1"
_SECONDS = 10.0
# A host that is gone says nothing; one that is there answers this much sooner.
_CONNECT_SECONDS = 2.0
_TOKEN_SECONDS = 60.0
_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
_FROM_BETWEEN: Final = frozenset({502, 503, 504})
"""What a proxy in front of a peer answers when the peer is away."""
# A call that was given less may have failed for its caller's haste.
_FAIR_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Reply:
    """A peer's answer: the status, its JSON and its headers."""

    status: int
    json: Any
    headers: Mapping[str, str]


def _apart(app: WSGIApplication) -> WSGIApplication:
    """The app, called in a context of its own: else Flask would hand a request within a request
    the ``g`` of the outer one, with its caller and its body."""
    return lambda environ, start_response: Context().run(app, environ, start_response)


class Peer:
    """One service as seen from another."""

    def __init__(
        self,
        name: str,
        *,
        caller: str,
        keys: KeyRing,
        base_urls: Sequence[str] = (),
        guard: PeerGuard | None = None,
        app: Callable[[], WSGIApplication] | None = None,
    ) -> None:
        """Either over the wire, by its replicas' URLs and a guard, or an app of this process."""
        if bool(base_urls) == (app is not None):
            raise ValueError("a peer has a base URL or an app")
        self.name = name
        self._caller = caller
        self._keys = keys
        self._app = app
        self._guard = guard
        # Not all processes begin with the same one.
        found = list(base_urls or ["http://localhost"])
        self._base_urls = deque(random.sample(found, len(found)))
        """The one that is asked first; behind it those that may stand in."""
        self._client: httpx.Client | None = None

    def ask(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        scope: str,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        seconds: float = _SECONDS,
    ) -> Reply:
        """Ask the peer in the caller's project; ``path`` lies below the API's prefix.

        What is left of the caller's deadline is the peer's. Raises the error that it answered,
        Unavailable where it can't be reached in time, DeadlineExceeded past the caller's deadline.
        """
        if in_transaction():
            raise RuntimeError("a peer must not be asked inside a transaction")
        asked = {"method": method, "path": path, "json": json, "params": dict(params or {})}
        for repeats in count():
            try:
                with self._guard.attempt() if self._guard else nullcontext():
                    response = self._send(call, asked, scope, call.remaining(seconds))
                break
            except PeerFailed as failure:
                if not self._may_repeat(method, failure, repeats):
                    raise
                time.sleep(min(nap(repeats), call.remaining()))
        if response.status_code >= 400:
            raise self._refusal(call, response)
        content = response.json() if response.content else None
        return Reply(response.status_code, content, response.headers)

    def _send(
        self, call: Call, asked: Mapping[str, Any], scope: str, seconds: float
    ) -> httpx.Response:
        """What one of its replicas answers; raises PeerFailed where none did.

        Another one is asked where the request can't have reached the one before.
        """
        *others, last = list(self._base_urls)
        for base_url in others:
            try:
                return self._send_to(base_url, call, asked, scope, call.remaining(seconds))
            except PeerFailed as failure:
                self._put_behind(base_url)
                if not failure.unsent:
                    raise
        return self._send_to(last, call, asked, scope, call.remaining(seconds))

    def _put_behind(self, base_url: str) -> None:
        """Ask another replica first from now on, unless somebody has seen to it already."""
        if self._base_urls[0] == base_url:
            self._base_urls.rotate(-1)

    def _send_to(
        self, base_url: str, call: Call, asked: Mapping[str, Any], scope: str, seconds: float
    ) -> httpx.Response:
        """What one of them answers; raises PeerFailed where it didn't."""
        url = base_url + PREFIX + asked["path"]
        told = {
            "http.request.method": asked["method"],
            "url.full": url,
            "peer.service": self.name,
        }
        name, parent = f"{asked['method']} {self.name}", tracer.carried(call.trace)
        with tracer.span(name, "client", parent=parent, attributes=told, only_within=True) as span:
            headers = self._headers(call, scope, seconds, span.trace or parent)
            response = self._answer(call, url, asked, headers, seconds)
            span.describe({"http.response.status_code": response.status_code})
            if response.status_code >= 400:
                span.fail(str(response.status_code))
        return response

    def _answer(
        self,
        call: Call,
        url: str,
        asked: Mapping[str, Any],
        headers: dict[str, str],
        seconds: float,
    ) -> httpx.Response:
        sent = {name: asked[name] for name in ("method", "json", "params")}
        patience = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        try:
            response = self._connect().request(url=url, **sent, headers=headers, timeout=patience)
        except httpx.HTTPError as error:
            call.remaining()
            detail = f"The service {self.name} can't be reached"
            hung = isinstance(error, httpx.TimeoutException)
            if hung and seconds < _FAIR_SECONDS:
                raise Unavailable(detail, retry_after=1) from error
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise PeerFailed(detail, unsent=unsent, hung=hung) from error
        if response.status_code in _FROM_BETWEEN and not _is_problem(response):
            raise PeerFailed(f"The service {self.name} can't be reached")
        return response

    def _may_repeat(self, method: str, failure: PeerFailed, repeats: int) -> bool:
        return (
            self._guard is not None
            and repeats < MOST_REPEATS
            and not failure.hung
            and (failure.unsent or method in _REPEATABLE)
            and self._guard.may_repeat()
        )

    def _headers(
        self, call: Call, scope: str, seconds: float, trace: Trace | None
    ) -> dict[str, str]:
        token = make_peer_token(
            self._keys,
            service=self._caller,
            project=call.project,
            scopes=frozenset({scope}),
            lifetime=_TOKEN_SECONDS,
        )
        headers = {"Authorization": f"Bearer {token}", "X-Request-Id": call.request_id}
        if call.deadline is not None:
            headers["X-Request-Timeout"] = f"{max(seconds, 1e-6):.6f}"
        return headers if trace is None else headers | trace.headers

    def _connect(self) -> httpx.Client:
        if self._client is None:
            transport = httpx.WSGITransport(_apart(self._app())) if self._app else None
            self._client = httpx.Client(transport=transport)
        return self._client

    def _refusal(self, call: Call, response: httpx.Response) -> ServiceError:
        """The error that the peer meant; what is its or our own fault becomes Unavailable."""
        try:
            problem = response.json()
            code = problem["type"].removeprefix("/problems/")
        except (ValueError, KeyError, TypeError):
            problem, code = {}, ""
        known = {"type", "title", "status", "detail", "instance", "request_id", "retryable"}
        extra = {name: value for name, value in problem.items() if name not in known | {"errors"}}
        error = errors.told({**problem, "code": code, "extra": extra})
        if isinstance(error, StorageFull):
            return error
        if call.deadline is not None and isinstance(error, DeadlineExceeded):
            return error
        if error.status >= 500 or error.status in (401, 403):
            return Unavailable(f"The service {self.name} can't answer right now")
        return error


def _is_problem(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.startswith("application/problem+json")
