"""The REST client by which one service asks another.

In one process the peer's app is called through httpx's WSGI transport, apart by its base URL: the
contract is the same. Each call carries a short-lived token that names the service, the project and
the one scope that it needs, the caller's request id and its traceparent. A peer is never called
inside an open transaction: it may need the very lock that the transaction holds.
"""

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from wsgiref.types import WSGIApplication

import httpx

from app.kernel import errors
from app.kernel.auth import Call, make_peer_token
from app.kernel.errors import DeadlineExceeded, ServiceError, StorageFull, Unavailable
from app.kernel.signing import KeyRing
from app.kernel.sql import in_transaction

PREFIX = "/api/v1"
_SECONDS = 10.0
_TOKEN_SECONDS = 60.0


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
        base_url: str | None = None,
        app: Callable[[], WSGIApplication] | None = None,
    ) -> None:
        if (base_url is None) == (app is None):
            raise ValueError("a peer has a base URL or an app")
        self.name = name
        self._caller = caller
        self._keys = keys
        self._app = app
        self._base_url = base_url or "http://localhost"
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
        seconds = call.remaining(seconds)
        headers = self._headers(call, scope, seconds)
        try:
            response = self._connect().request(
                method,
                PREFIX + path,
                json=json,
                params=dict(params or {}),
                headers=headers,
                timeout=seconds,
            )
        except httpx.HTTPError as error:
            call.remaining()
            raise Unavailable(f"The service {self.name} can't be reached") from error
        if response.status_code >= 400:
            raise self._refusal(call, response)
        content = response.json() if response.content else None
        return Reply(response.status_code, content, response.headers)

    def _headers(self, call: Call, scope: str, seconds: float) -> dict[str, str]:
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
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        return headers

    def _connect(self) -> httpx.Client:
        if self._client is None:
            transport = httpx.WSGITransport(_apart(self._app())) if self._app else None
            self._client = httpx.Client(base_url=self._base_url, transport=transport)
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
