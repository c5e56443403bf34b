"""Threads that work one after another on much use the same memory again."""

import subprocess
import sys

import pytest

_BURST = """
import sys, threading
import psutil
from app.kernel.heaps import share_heaps

if sys.argv[1] == "shared":
    share_heaps()
ends = []

def work():
    blocks = [bytes(50_000) for _ in range(200)]
    ends.append(bytes(1_000))
    del blocks
    done.set()
    threading.Event().wait()

before = psutil.Process().memory_info().rss
for _ in range(12):
    done = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    done.wait()
print(psutil.Process().memory_info().rss - before)
"""


def _kept(way: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", _BURST, way], check=True, capture_output=True, text=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_a_burst_leaves_what_a_few_threads_had():
    """Of 38 threads that had scored 400 rows each a process kept 300 MB instead of 70."""
    assert _kept("shared") < 0.5 * _kept("apart")
