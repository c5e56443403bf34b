"""Numbers for processes of one kind on one host: each has one as long as it lives."""

import fcntl
import time
from pathlib import Path
from typing import Final, TextIO

_PAUSE_SECONDS: Final = 0.05
_HELD: Final[list[TextIO]] = []


def take_number(folder: Path, kind: str, most: int, patience: float) -> int:
    """The least number from 1 to ``most`` that no other process has; this one's until it ends.

    The file ``<kind>-<number>.lock`` in ``folder`` is locked by whoever has it. Waits ``patience``
    seconds for a number where all are taken; raises TimeoutError then.
    """
    until = time.monotonic() + patience
    while True:
        for number in range(1, most + 1):
            file = (folder / f"{kind}-{number}.lock").open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                _HELD.append(file)
                return number
        if time.monotonic() > until:
            raise TimeoutError(f"All {most} numbers of {kind} are taken")
        time.sleep(_PAUSE_SECONDS)
