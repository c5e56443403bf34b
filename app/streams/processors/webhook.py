"""The kind ``webhook``: each record is sent to a URL, in order, until it is taken or given up.

At least once: a delivery that was taken is sent again when its processor dies before it has noted
that, under the same id. One is taken by any 2xx; redirects are not followed. The address is looked
up, examined and connected to anew at each try.
"""

import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from typing import Any, Final

from app.kernel import faults
from app.kernel.log.seam import Record
from app.kernel.tracing import tracer
from app.streams.processors.handling import Failure, Outcome, Share, Stateless
from app.streams.processors.hook_guard import HookGuard, NotAllowed, Target
from app.streams.processors.hook_signature import headers
from app.streams.processors.values import Refused, json_value

_MOST: Final = 20
_SECONDS: Final = 10.0
_MOST_ANSWERED: Final = 65_536
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_AGENT: Final = "modelyard-webhook/1"


class Webhook:
    """Delivers records to URLs that the guard lets through."""

    most = _MOST

    def __init__(
        self,
        guard: HookGuard,
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guard = guard
        self._seconds = seconds
        self._clock = clock

    def open(self, share: Share) -> "WebhookHandler":
        """A handler; there is nothing kept."""
        return WebhookHandler(share, self)

    def deliver(self, url: str, secret: str, delivery: str, body: bytes) -> int:
        """Send a body once; the status of the answer.

        Raises NotAllowed, and OSError where nobody answers in time.
        """
        target = self._guard.check(url)
        until = time.monotonic() + self._seconds
        addresses = self._guard.addresses(target)
        signed = headers(secret, delivery, int(self._clock()), body)
        told = {"http.request.method": "POST", "server.address": target.host}
        with tracer.span("POST webhook", "client", attributes=told, only_within=True) as span:
            if span.trace is not None:
                signed |= span.trace.headers
            with closing(_connected(target, addresses, until)) as connection:
                connection.settimeout(_left(until))
                connection.sendall(_request(target, signed, body))
                status = _status(connection, until)
            span.describe({"http.response.status_code": status})
            if status >= 400:
                span.fail(str(status))
            return status


class WebhookHandler(Stateless):
    """Delivers the records of one partition."""

    def __init__(self, share: Share, hooks: Webhook) -> None:
        self._share = share
        self._hooks = hooks

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Deliver until one isn't taken, or the partition is to be handed back."""
        outcome = Outcome()
        for record in records:
            if self._share.stopping():
                break
            try:
                body = json.dumps(self._told(record)).encode()
            except Refused as error:
                outcome.refused.append((record, error))
            else:
                outcome.failure = self._deliver(record, body)
            if outcome.failure is not None:
                break
            outcome.taken += 1
        return outcome

    def _deliver(self, record: Record, body: bytes) -> Failure | None:
        config = self._share.config
        try:
            status = self._hooks.deliver(
                config["url"], config["secret"], self._delivery(record), body
            )
        except NotAllowed as error:
            return Failure(record, "not_allowed", str(error))
        except OSError as error:
            return Failure(record, "not_reached", f"No answer: {type(error).__name__}")
        faults.hit("processors.delivered")
        if 200 <= status < 300:
            return None
        return Failure(record, "not_taken", f"The answer was {status}")

    def _delivery(self, record: Record) -> str:
        share = self._share
        return f"{share.processor}.{share.generation}.{record.partition}.{record.offset}"

    def _told(self, record: Record) -> dict[str, Any]:
        return {
            "id": self._delivery(record),
            "processor": self._share.name,
            "record": {
                **self._share.place(record),
                "timestamp": record.timestamp.isoformat().replace("+00:00", "Z"),
                "key": None if record.key is None else record.key.decode("utf-8", "replace"),
                "value": json_value(record.value),
                "headers": dict(record.headers),
            },
        }


def _connected(target: Target, addresses: Sequence[str], until: float) -> socket.socket:
    """A connection to the first of the addresses that answers; raises OSError."""
    fault: OSError = TimeoutError()
    for address in addresses:
        try:
            plain = socket.create_connection((address, target.port), _left(until))
        except OSError as error:
            fault = error
            continue
        if not target.secure:
            return plain
        try:
            plain.settimeout(_left(until))
            return _tls().wrap_socket(plain, server_hostname=target.host.rstrip("."))
        except BaseException:
            plain.close()
            raise
    raise fault


def _request(target: Target, signed: dict[str, str], body: bytes) -> bytes:
    lines = {
        "Host": target.host_header,
        "User-Agent": _AGENT,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **signed,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


def _status(connection: socket.socket, until: float) -> int:
    """The status of the answer, past provisional ones; nothing else of it is read."""
    answered = b""
    while len(answered) < _MOST_ANSWERED:
        connection.settimeout(_left(until))
        piece = connection.recv(4096)
        answered += piece
        found = _STATUS_LINE.match(answered)
        while found is not None and found[1] < b"200" and b"\r\n\r\n" in answered:
            answered = answered.partition(b"\r\n\r\n")[2]
            found = _STATUS_LINE.match(answered)
        if found is not None and found[1] >= b"200":
            return int(found[1])
        if not piece:
            break
    raise ConnectionError("not an HTTP answer")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
