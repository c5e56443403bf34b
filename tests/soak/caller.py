"""How a client of the soak talks: judges every answer, and never takes silence for an answer.

No answer (a timeout, a broken connection) and a 429, 503, 504 or 507 leave the outcome unknown. A
POST under an Idempotency-Key is then sent again, unchanged, until it is answered; meanwhile the
client does other things.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.problems import NEVER_TOLD
from tests.server import NO_TLS
from tests.soak.ledger import Ledger

ALLOWED = {*range(200, 300), *range(400, 500), 503, 504, 507}
LATER = {429, 503, 504, 507}
_TIMEOUT = httpx.Timeout(30.0, connect=2.0)


@dataclass
class Tally:
    """What one client has seen of the server's answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    silences: int = 0
    bad_answers: list[str] = field(default_factory=list)
    """Answers of a form that no client may see (I5)."""
    wrong_answers: list[str] = field(default_factory=list)
    """Refusals of what was right, and contents that contradict an earlier answer."""
    slowest: float = 0.0


@dataclass
class Pending:
    """A POST whose outcome isn't known yet."""

    path: str
    key: str
    options: Mapping[str, Any]
    done: Callable[[httpx.Response], None]
    refusals: Collection[int]
    due: float = 0.0
    tries: int = 0


class Caller:
    """One client's connection to the server."""

    def __init__(
        self,
        url: str,
        token: str,
        ledger: Ledger,
        seed: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.ledger = ledger
        self.tally = Tally()
        self.pending: list[Pending] = []
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(
            base_url=f"{url}/api/v1",
            headers=headers,
            timeout=_TIMEOUT,
            verify=NO_TLS,
            transport=transport,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """An answer whose outcome is known, or None."""
        started = time.monotonic()
        try:
            answer = self._client.request(method, path, **options)
        except httpx.TransportError:
            self.tally.silences += 1
            time.sleep(self.random.uniform(0.1, 0.4))
            return None
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - started)
        self.tally.statuses[answer.status_code] += 1
        if fault := fault_of(answer):
            self.tally.bad_answers.append(f"{method} {path}: {fault}")
        return None if answer.status_code in LATER or answer.status_code >= 500 else answer

    def write(
        self, method: str, path: str, *, refusals: Collection[int] = (), **options: Any
    ) -> httpx.Response | None:
        """The same for a PUT, PATCH or DELETE, counted; ``refusals`` are what may come too."""
        answer = self.send(method, path, **options)
        self._count(f"{method} {path}", answer, refusals)
        return answer

    def make(
        self,
        path: str,
        key: str,
        done: Callable[[httpx.Response], None],
        *,
        refusals: Collection[int] = (),
        **options: Any,
    ) -> None:
        """POST under an Idempotency-Key; ``done`` gets the answer, at once or when it comes."""
        headers = {**options.pop("headers", {}), "Idempotency-Key": key}
        self._try(Pending(path, key, {**options, "headers": headers}, done, refusals))

    def retry_due(self) -> bool:
        """Send a pending POST again whose time has come; whether there was one."""
        due = [one for one in self.pending if one.due <= time.monotonic()]
        if due:
            self.pending.remove(due[0])
            self._try(due[0])
        return bool(due)

    def _try(self, one: Pending) -> None:
        one.tries += 1
        answer = self.send("POST", one.path, **one.options)
        pause = 0.5 * one.tries
        if answer is not None and answer.status_code == 409 and "Retry-After" in answer.headers:
            pause, answer = min(float(answer.headers["Retry-After"]), 5.0), None
        if answer is None:
            one.due = time.monotonic() + pause
            self.pending.append(one)
        if answer is not None or one.tries == 1:
            self._count(f"POST {one.path}", answer, one.refusals)
        if answer is not None and answer.is_success:
            one.done(answer)

    def _count(self, what: str, answer: httpx.Response | None, refusals: Collection[int]) -> None:
        if answer is None:
            self.ledger.count("unknown")
        elif answer.is_success:
            self.ledger.count("acknowledged")
        else:
            self.ledger.count("refused")
            if answer.status_code not in refusals:
                self.wrong(f"{what}: {answer.status_code} {answer.text[:300]}")

    def wrong(self, text: str) -> None:
        """Note an answer that should have been another."""
        self.tally.wrong_answers.append(text)


def fault_of(answer: httpx.Response) -> str | None:
    """Why no client may see such an answer; None for a good one."""
    if answer.is_success:
        return None
    wrong = "no such status" if answer.status_code not in ALLOWED else _fault_of_problem(answer)
    return wrong and f"{wrong}: {answer.status_code} {answer.text[:300]!r}"


def _fault_of_problem(answer: httpx.Response) -> str | None:
    if answer.headers.get("Content-Type") != "application/problem+json":
        return "no problem+json"
    problem = answer.json()
    if problem.get("status") != answer.status_code or not problem.get("request_id"):
        return "no whole problem"
    if any(secret in answer.text for secret in NEVER_TOLD):
        return "it tells too much"
    if answer.status_code == 503 and int(answer.headers.get("Retry-After", "0")) < 1:
        return "no Retry-After"
    return None
