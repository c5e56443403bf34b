"""What a child did and when, by its own clock: the worker makes spans of it, for a child has no way
to a receiver of traces."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

MOST_STEPS: Final = 50
MOST_BYTES: Final = 16 << 10
_NAME_CHARACTERS: Final = 64
Report = Callable[[Mapping[str, Any]], None]


class Steps:
    """The time of a target, divided by the steps that its progress names."""

    def __init__(self, target: str) -> None:
        self._target = target.rpartition(":")[2]
        self._started = time.time_ns()
        self._steps: list[tuple[str, int]] = []

    def heard(self, report: Report) -> Report:
        """``report``, listened to."""

        def listening(progress: Mapping[str, Any]) -> None:
            name = str(progress.get("step", ""))[:_NAME_CHARACTERS]
            known = self._steps[-1][0] if self._steps else ""
            if name and name != known and len(self._steps) < MOST_STEPS:
                self._steps.append((name, time.time_ns()))
            report(progress)

        return listening

    def told(self, *, failed: bool) -> dict[str, Any]:
        """The target with its steps; what failed is in the last one."""
        now = time.time_ns()
        ends = [start for _, start in self._steps[1:]] + [now]
        steps: list[dict[str, Any]] = [
            {"name": name, "start": start, "end": end}
            for (name, start), end in zip(self._steps, ends, strict=False)
        ]
        if failed and steps:
            steps[-1]["failed"] = True
        return {
            "name": self._target[:_NAME_CHARACTERS],
            "pid": os.getpid(),
            "start": self._started,
            "end": now,
            "failed": failed,
            "steps": steps,
        }
