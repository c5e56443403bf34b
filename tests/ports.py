"""Ports for servers of tests: between its choice and its use nobody else is given one.

A process of tests takes a block of ports for itself, below those that the system gives to whoever
asks for any: a connection that goes out can't have taken one meanwhile, nor can other tests.
"""

import fcntl
import itertools
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

_FIRST, _LAST, _BLOCK = 10_000, 32_000, 100
_HELD: list[IO[bytes]] = []
_LOCK = threading.Lock()


def free_port() -> int:
    """A port of the loopback that nobody listens on, nor will: a server's API may just be dead."""
    with _LOCK:
        for port in itertools.islice(_own_ports(os.getpid()), _BLOCK):
            with socket.socket() as probe, socket.socket(socket.AF_UNIX) as lock:
                try:
                    probe.bind(("127.0.0.1", port))
                    if sys.platform == "linux":
                        lock.bind(f"\0modelyard-port-{port}")
                except OSError:
                    continue
                return port
    raise AssertionError(f"none of {_BLOCK} ports is free")


@cache
def _own_ports(_process: int) -> Iterator[int]:
    """The ports of this process's block, over and over; it is locked until the process ends."""
    folder = Path(tempfile.gettempdir()) / f"modelyard-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(_FIRST, _LAST, _BLOCK):
        held = (folder / str(first)).open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        _HELD.append(held)
        return itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError("all blocks of ports are taken")
