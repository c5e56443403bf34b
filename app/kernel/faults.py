"""Named moments at which a test makes this process die, fail or wait.

``faults.hit("runs.registered")`` stands where something has just become true and the next thing
hasn't. Nothing happens there unless the process was started with ``MODELYARD_FAULTS``, which no
installation sets::

    MODELYARD_FAULTS="runs.registered=kill@1; store.rename=ENOSPC@0.3; sql.commit=sleep:2@*"

Each rule is ``point=action[:argument]@when``. An action is ``kill`` (this process, by SIGKILL),
``sleep`` (seconds) or the name of an errno, which is raised as OSError. ``when`` is ``*`` (always),
a whole number n (the n-th time that this process gets there, and only then) or a fraction below 1
(by chance, drawn from ``MODELYARD_FAULTS_SEED``, so that a run can be repeated).
"""

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

VARIABLE, SEED = "MODELYARD_FAULTS", "MODELYARD_FAULTS_SEED"


@dataclass
class _Rule:
    act: Callable[[], None]
    when: str
    random: random.Random
    hits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hit(self) -> None:
        with self.lock:
            self.hits += 1
            due = self._is_due()
        if due:
            self.act()

    def _is_due(self) -> bool:
        if self.when == "*":
            return True
        if "." in self.when:
            return self.random.random() < float(self.when)
        return self.hits == int(self.when)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def _action(text: str) -> Callable[[], None]:
    name, _, argument = text.partition(":")
    if name == "kill":
        return _kill
    if name == "sleep":
        return lambda: time.sleep(float(argument))
    number = getattr(errno, name)
    return lambda: _fail(number)


def parse(text: str, seed: str = "0") -> dict[str, _Rule]:
    """The rules of a text; raises ValueError or AttributeError for one that can't be read."""
    rules = {}
    for rule in filter(None, (part.strip() for part in text.split(";"))):
        point, _, rest = rule.partition("=")
        action, _, when = rest.partition("@")
        if not (point and action and when):
            raise ValueError(f"not point=action@when: {rule!r}")
        float(when if when != "*" else 0)
        rules[point] = _Rule(_action(action), when, random.Random(f"{seed}:{point}"))  # noqa: S311
    return rules


_RULES = parse(os.environ.get(VARIABLE, ""), os.environ.get(SEED, "0"))


def hit(point: str) -> None:
    """Pass a named moment; does nothing outside of tests."""
    if _RULES and point in _RULES:
        _RULES[point].hit()
