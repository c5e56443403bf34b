# ruff: noqa: T201 - it tells the test the processes' ids by its output
"""Real worker processes for the tests of faults, forked so that the imports are paid once.

The process itself forks one for each line that it reads: JSON of ``environment`` (settings, and
MODELYARD_FAULTS), ``log`` (a file) and ``ahead`` (seconds by which its wall clock is wrong).
"""

import json
import os
import signal
import sys
import traceback
from datetime import UTC, datetime, timedelta

from app.config import Settings
from app.kernel import faults, sql
from app.kernel.logs import configure_logs
from app.roles import run_worker


class WrongClock(datetime):
    """A wall clock that is ahead of the others."""

    AHEAD = timedelta()

    @classmethod
    def now(cls, tz=None):
        """The time that it shows."""
        return datetime.now(tz or UTC) + cls.AHEAD


def main(order):
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(order["environment"])
    faults._RULES = faults.parse(os.environ.get(faults.VARIABLE, ""))
    if order["ahead"]:
        WrongClock.AHEAD = timedelta(seconds=order["ahead"])
        sql.datetime = WrongClock
    configure_logs("warning", as_json=False, role="worker")
    run_worker(Settings.from_environment())


if __name__ == "__main__":
    # Nobody waits for them: the system collects them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            try:
                main(json.loads(line))
            except BaseException:  # noqa: BLE001 - into its log: nobody else would tell of it
                traceback.print_exc()
            finally:
                os._exit(0)
        print(pid, flush=True)
