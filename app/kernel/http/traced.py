"""Each request as a span, beneath the one that the caller names, if it names one.

The request goes on with the span's own place in its headers, so that whatever is asked of others
because of it is beneath the span. Requests that only ask how we are, and what our services ask one
another of their own accord, begin no trace.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.wsgi import ClosingIterator

from app.kernel.auth import PEER_PREFIX
from app.kernel.http.gate import METHODS
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import sound_trace
from app.kernel.tracing.span import Value

_BEGINS_NONE: Final = re.compile(r"/(livez|readyz|metrics)")
_PEER: Final = f"Bearer {PEER_PREFIX}"
_MOST_CHARACTERS: Final = 400
_OURS: Final = 500


class Traced:
    """A WSGI app before another; there is one only while this process traces."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        parent = sound_trace(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))
        if parent is None and not _begins_trace(environ):
            return self._app(environ, start_response)
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "_OTHER"
        span = tracer.opened(method, "server", parent, _attributes(environ, method))
        environ["HTTP_TRACEPARENT"], environ["HTTP_TRACESTATE"] = span.trace

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            span.describe({"http.response.status_code": int(status[:3])})
            if int(status[:3]) >= _OURS:
                span.fail(status[:3])
            return start_response(status, headers, *more)

        span.enter()
        try:
            answer = self._app(environ, start)
        except BaseException as error:
            span.fail(type(error).__name__)
            span.end()
            raise
        finally:
            span.leave()
        if isinstance(answer, list | tuple):
            span.end()
            return answer
        return ClosingIterator(answer, span.end)


def _begins_trace(environ: WSGIEnvironment) -> bool:
    by_peer = environ.get("HTTP_AUTHORIZATION", "").startswith(_PEER)
    return not by_peer and _BEGINS_NONE.fullmatch(environ["PATH_INFO"]) is None


def _attributes(environ: WSGIEnvironment, method: str) -> dict[str, Value]:
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    told: dict[str, Value] = {
        "http.request.method": method,
        "url.path": path[:_MOST_CHARACTERS],
        "url.scheme": environ["wsgi.url_scheme"],
    }
    for name, variable in _TOLD.items():
        if environ.get(variable):
            told[name] = str(environ[variable])[:_MOST_CHARACTERS]
    return told


_TOLD: Final = {"network.peer.address": "REMOTE_ADDR", "user_agent.original": "HTTP_USER_AGENT"}
