"""The load: clients that do a bit of everything at random, each with things of its own to write.

A client is a thread, draws from a seed of its own, and is the only one that writes its things: so
it knows what they must be. All of them train on one table that nobody changes.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.soak.caller import Caller
from tests.soak.ledger import Ledger

BASE = "base"
FEATURES = ("mass", "height")
ROWS: tuple[dict[str, float], ...] = tuple(
    {"mass": 1.5 * n, "height": 40.0 - 2 * n} for n in range(0, 20, 4)
)
_THINK_SECONDS = (0.02, 0.25)


def base_table() -> bytes:
    """The table of all runs, as CSV."""
    dice = random.Random(0)
    lines = ["mass,height,kind"]
    for _ in range(240):
        kind = dice.choice("abc")
        centre = 10.0 * "abc".index(kind)
        lines.append(f"{dice.gauss(centre, 4):.3f},{dice.gauss(40 - centre, 6):.3f},{kind}")
    return "\n".join(lines).encode()


class Client(threading.Thread):
    """One client: does acts at random until it is stopped."""

    def __init__(
        self,
        number: int,
        caller: Caller,
        acts: list[tuple[int, Callable[["Client"], None]]],
    ) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.label = f"c{number}"
        self.caller = caller
        self.ledger: Ledger = caller.ledger
        self.random = caller.random
        self.datasets: list[str] = []
        self.open_runs: list[str] = []
        self.ended_runs: list[str] = []
        self.versions: list[tuple[str, int]] = []
        self.stored: list[str] = []
        self.open_batches: list[str] = []
        self.ended_batches: list[str] = []
        self.served: dict[tuple[str, int, int], list[Any]] = {}
        self.error: BaseException | None = None
        self._acts = acts
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()

    def next_key(self, what: str) -> str:
        """A name that this client uses once."""
        return f"{self.label}-{what}{next(self._numbers)}"

    def next_number(self) -> int:
        """A number that no other client uses."""
        return int(self.label[1:]) * 1_000_000 + next(self._numbers)

    def run(self) -> None:
        """Act, and ask again what has not been answered."""
        weights = [weight for weight, _ in self._acts]
        try:
            while not self._stopping.wait(self.random.uniform(*_THINK_SECONDS)):
                if not self.caller.retry_due():
                    self.random.choices(self._acts, weights)[0][1](self)
        except Exception as error:  # noqa: BLE001 - a door: the soak tells of it
            self.error = error

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def resolve(self, seconds: float) -> int:
        """Ask until everything is answered; how much isn't."""
        until = time.monotonic() + seconds
        while self.caller.pending and time.monotonic() < until:
            if not self.caller.retry_due():
                time.sleep(0.1)
        return len(self.caller.pending)

    def pick(self, paths: list[str]) -> str | None:
        """One of the things that must be there."""
        there = [path for path in paths if self.ledger.is_there(path)]
        return self.random.choice(there) if there else None

    def pick_version(self) -> tuple[str, int] | None:
        """A version that must be there."""
        there = [one for one in self.versions if self.ledger.is_there(version_path(*one))]
        return self.random.choice(there[-12:]) if there else None

    def change(self, method: str, path: str, content: dict[str, Any], **options: Any) -> None:
        """PUT or PATCH what is there, and note what came of it."""
        answer = self.caller.write(method, path, json=content, **options)
        if answer is None:
            self.ledger.may_hold(path, **content)
        elif answer.is_success:
            self.ledger.holds(path, **content)

    def change_if_unchanged(self, path: str, content: dict[str, Any]) -> None:
        """Read, and PATCH under the ETag that was read."""
        seen = self.caller.send("GET", path)
        if seen is not None and seen.is_success:
            match = {"If-Match": seen.headers["ETag"]}
            self.change("PATCH", path, content, headers=match, refusals={412})

    def delete(self, path: str, refusals: set[int]) -> None:
        """DELETE a thing, and note what came of it."""
        answer = self.caller.write("DELETE", path, refusals=refusals)
        if answer is None:
            self.ledger.may_be_gone(path)
        elif answer.is_success:
            self.ledger.gone(path)


def version_path(model: str, version: int) -> str:
    """Where a version of a model is."""
    return f"/models/{model}/versions/{version}"
