"""A client that asks once more: after a refusal that may pass, or where no answer came.

As any client of a service behind a gateway ought to: it waits as ``Retry-After`` says, and sends
the same request again, once. What it is answered then counts.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.server import NO_TLS

_PASSING = {502, 503, 504}
_LONGEST_SECONDS = 5.0
_SILENT_SECONDS = 0.5


@dataclass
class Asked:
    """What all clients together were answered."""

    requests: int = 0
    again: Counter[str] = field(default_factory=Counter)
    """Why something was asked once more: the status and what was said, or the kind of silence."""
    failed: list[str] = field(default_factory=list)
    """What had no answer, or a passing refusal, the second time, too."""


class OnceMore(httpx.BaseTransport):
    """The way of such a client to the gateway."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._wire = httpx.HTTPTransport(verify=NO_TLS)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The first answer, unless it is one that may pass; else the second."""
        self._asked.requests += 1
        try:
            answer = self._wire.handle_request(request)
        except httpx.TransportError as error:
            first, pause = f"{type(error).__name__}: {error}", _SILENT_SECONDS
        else:
            if answer.status_code not in _PASSING:
                return answer
            answer.read()
            first = f"{answer.status_code} {_said(answer)}"
            pause = min(float(answer.headers.get("Retry-After", "1")), _LONGEST_SECONDS)
            answer.close()
        self._asked.again[f"{request.method} {_route(request)}: {first}"] += 1
        time.sleep(pause)
        return self._second(request, first)

    def _second(self, request: httpx.Request, first: str) -> httpx.Response:
        what = f"{request.method} {request.url.path}: {first}; then"
        try:
            answer = self._wire.handle_request(request)
        except httpx.TransportError as error:
            self._asked.failed.append(f"{what} {type(error).__name__}: {error}")
            raise
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            answer.read()
            self._asked.failed.append(f"{what} {answer.status_code} {_said(answer)}")
        return answer

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError):
        return answer.text[:100]


def _route(request: httpx.Request) -> str:
    """The collection that is asked."""
    return "/".join(request.url.path.split("/")[:4])
