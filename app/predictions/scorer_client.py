"""The way to the scorer process next door, which a model may kill.

Whoever was being scored when the process died is scored once more, each alone in a process of its
own: scoring has no effects. So the one that did it is known, and only that one fails.
"""

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from app.kernel.errors import DeadlineExceeded, Invalid, Unavailable
from app.kernel.local_rpc import Client, Lost
from app.predictions.breakers import Breakers
from app.predictions.loaded import Location

_SPARE_SECONDS = 5.0
_CRASH, _TIME = "crash", "time"
Outputs = Sequence[Mapping[str, Any]]


class ScorerClient:
    """``ports.Scorer`` over the local sockets: the one for everybody, the one for being alone.

    ``seconds`` is what the scorer grants a request before it ends itself.
    """

    def __init__(self, shared: Client, alone: Client, breakers: Breakers, seconds: float) -> None:
        self._shared = shared
        self._alone = alone
        self._breakers = breakers
        self._seconds = seconds

    def score(
        self,
        location: Location,
        columns: Mapping[str, Sequence[Any]],
        *,
        deadline: float | None = None,
    ) -> Outputs:
        """One output per row; see the port."""
        left = self._seconds
        if deadline is not None:
            left = min(left, deadline - time.monotonic())
        if left <= 0:
            raise DeadlineExceeded
        arguments = {
            "seconds": left,
            "location": dict(location),
            "columns": {name: list(values) for name, values in columns.items()},
        }
        if not self._breakers.must_be_alone(location):
            # Lost: by this request or by another one, that shows when each is alone.
            with suppress(Lost):
                return self._ask(self._shared, arguments, deadline)
        return self._score_alone(location, arguments, deadline)

    def load(self, location: Location) -> None:
        """Have a version loaded; see the port."""
        if self._breakers.must_be_alone(location):
            self._breakers.undecided(location)
            return
        self._shared.ask("load", {"location": dict(location)}, seconds=self._seconds)

    def _score_alone(
        self, location: Location, arguments: dict[str, Any], deadline: float | None
    ) -> Outputs:
        try:
            outputs = self._ask(self._alone, arguments, deadline)
        except Lost as error:
            if error.exit_status == -signal.SIGALRM:
                self._breakers.struck(location, _TIME)
                raise DeadlineExceeded(
                    f"{location['subject']} took more than {self._seconds:g} s for these rows"
                ) from error
            self._breakers.struck(location, _CRASH)
            raise Unavailable(
                f"{location['subject']} ended the process that scored it", retry_after=1
            ) from error
        except Invalid:
            self._breakers.well(location)
            raise
        except BaseException:
            self._breakers.undecided(location)
            raise
        self._breakers.well(location)
        return outputs

    def _ask(self, client: Client, arguments: dict[str, Any], deadline: float | None) -> Outputs:
        outputs: list[dict[str, Any]] = client.ask(
            "score", arguments, seconds=self._seconds + _SPARE_SECONDS, deadline=deadline
        )
        return outputs
