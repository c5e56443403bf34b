"""A process's connection to NATS: asyncio in a thread of its own, for callers who know threads.

The thread and the connection are made when first needed, by each process for itself: a fork has
none of them. A cluster that has been out of reach for some seconds is not waited for any more, but
asked in the background until it answers.
"""

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog

from app.kernel.errors import Unavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

ANSWER_SECONDS = 1.5
"""How long one answer is waited for: a leader that was killed is replaced in a few seconds."""
CONNECT_SECONDS = 3.0
"""How long a connection is waited for; one of a cluster's is there in less."""
_LONGEST_CALL = 60.0
_RETRY_SECONDS = 2.0
_AWAY = "The record log can't be reached"
_OPTIONS: dict[str, Any] = {
    "name": "modelyard",
    "connect_timeout": 2,
    "reconnect_time_wait": 0.25,
    "max_reconnect_attempts": -1,
    "ping_interval": 5,
    "max_outstanding_pings": 2,
}
_FILES = ("ca", "cert", "key")
log = structlog.get_logger("nats")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """Where a cluster is, and how one is let in."""

    servers: tuple[str, ...]
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read ``nats://user:password@a:4222,b,c`` or ``tls://token@a?ca=FILE``.

        Raises ValueError for what is none, without telling it.
        """
        if find_spec("nats") is None:
            raise ValueError("NATS needs `pip install modelyard[nats]`")
        scheme, _, rest = url.partition("://")
        if scheme not in ("nats", "tls") or not rest:
            raise ValueError("it reads nats://host:port,host:port")
        place, _, query = rest.partition("?")
        login, _, hosts = place.rstrip("/").rpartition("@")
        servers = tuple(f"{scheme}://{host.strip()}" for host in hosts.split(","))
        if not all(_is_host(server) for server in servers):
            raise ValueError("it reads nats://host:port,host:port")
        return cls(servers, {**_login(login), **_tls(scheme, query)})


def _is_host(server: str) -> bool:
    parts = urlsplit(server)
    try:
        return bool(parts.hostname) and not (parts.path or parts.username) and parts.port != 0
    except ValueError:
        return False


def _login(login: str) -> dict[str, str]:
    user, colon, password = login.partition(":")
    if colon:
        return {"user": unquote(user), "password": unquote(password)}
    return {"token": unquote(user)} if user else {}


def _tls(scheme: str, query: str) -> dict[str, ssl.SSLContext]:
    files = dict(parse_qsl(query))
    if files.keys() - set(_FILES) or ("key" in files) != ("cert" in files):
        raise ValueError("after ? it takes ca=FILE, and cert=FILE&key=FILE")
    if scheme != "tls" and not files:
        return {}
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"])
    except OSError as error:
        raise ValueError("a file of its certificates can't be used") from error
    return {"tls": context}


class Link:
    """Runs coroutines that talk to NATS; thread-safe.

    ``greet`` is called in each new process's loop once it is connected.
    """

    def __init__(
        self, address: Address, greet: Callable[["Client"], Awaitable[object]] | None = None
    ) -> None:
        self._address = address
        self._greet = greet
        self._runners: dict[int, _Runner] = {}

    def run(self, work: Callable[["Client"], Awaitable[Result]]) -> Result:
        """The result of ``work`` with the connection; raises Unavailable when there is none."""
        runner = self._runners.setdefault(os.getpid(), _Runner(self._address, self._greet))
        return runner.run(work)

    def close(self) -> None:
        """Hang up, in this process."""
        runner = self._runners.pop(os.getpid(), None)
        if runner is not None:
            runner.close()


class _Runner:
    """The loop, its thread and the connection of one process."""

    def __init__(
        self, address: Address, greet: Callable[["Client"], Awaitable[object]] | None
    ) -> None:
        self._address = address
        self._greet = greet
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connecting: asyncio.Future[Client] | None = None
        self._away_since: float | None = None

    def run(self, work: Callable[["Client"], Awaitable[Result]]) -> Result:
        async def connected() -> Result:
            return await work(await self._connected())

        future = asyncio.run_coroutine_threadsafe(connected(), self._running())
        try:
            return future.result(_LONGEST_CALL)
        except (TimeoutError, CancelledError) as error:
            future.cancel()
            raise Unavailable(_AWAY, retry_after=_RETRY_SECONDS) from error

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                self._thread = threading.Thread(target=run, daemon=True, name="nats")
                self._thread.start()
            return self._loop

    async def _connected(self) -> "Client":
        """The connection; raises Unavailable where there has been none for a while."""
        if self._connecting is None:
            self._away_since = time.monotonic()
            # It asks on when nobody waits any more.
            self._connecting = asyncio.ensure_future(self._connect())
        since = self._away_since
        left = CONNECT_SECONDS if since is None else since + CONNECT_SECONDS - time.monotonic()
        if left > 0:
            await asyncio.wait([self._connecting], timeout=left)
        if left <= 0 or not self._connecting.done():
            raise Unavailable(_AWAY, retry_after=_RETRY_SECONDS)
        return self._connecting.result()

    async def _connect(self) -> "Client":
        from nats.aio.client import Client  # noqa: PLC0415 - an extra

        client = Client()
        await client.connect(
            list(self._address.servers),
            **_OPTIONS,
            error_cb=_note,
            disconnected_cb=self._left,
            reconnected_cb=self._came,
            **self._address.options,
        )
        if self._greet is not None:
            await self._greet(client)
        await self._came()
        return client

    async def _left(self) -> None:
        self._away_since = self._away_since or time.monotonic()
        if self._loop is not None:
            log.warning("record_log_away")

    async def _came(self) -> None:
        self._away_since = None

    def close(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._hang_up(), loop).result(CONNECT_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(CONNECT_SECONDS)
            loop.close()

    async def _hang_up(self) -> None:
        connecting = self._connecting
        # One that is lost already has nothing to hang up.
        if connecting is not None and connecting.done() and not connecting.exception():
            with suppress(OSError):
                await connecting.result().close()
        # What waits for messages on a connection that was lost isn't ended with it.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _note(error: Exception) -> None:
    # Its class only: the text of some tells the address with the password.
    log.debug("record_log_trouble", error=type(error).__name__)
