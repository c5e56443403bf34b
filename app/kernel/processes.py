"""What the system tells about processes, by ``/proc``; where there is none, nothing is found."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class ProcessStat:
    """One process as it was a moment ago; a zombie counts as one."""

    pid: int
    parent: int
    session: int
    threads: int
    user: int


def running_processes() -> Iterator[ProcessStat]:
    """All processes of this machine (or container) that can be seen."""
    for entry in Path("/proc").glob("[0-9]*"):
        # Many end while we look.
        with contextlib.suppress(OSError, IndexError):
            # The name, in parentheses, may hold blanks and parentheses itself.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            yield ProcessStat(
                pid=int(entry.name),
                parent=int(fields[1]),
                session=int(fields[3]),
                threads=int(fields[17]),
                user=entry.stat().st_uid,
            )


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with contextlib.suppress(OSError):
        found = _OOM_KILL.search(Path("/proc/vmstat").read_text())
        return int(found[1]) if found else 0
    return 0
