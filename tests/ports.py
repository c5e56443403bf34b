"""Ports for servers of tests: between its choice and its use nobody else is given one.

A process of tests takes a block of ports for itself, below those that the system gives to whoever
asks for any: a connection that goes out can't have taken one meanwhile, nor can other tests,
whatever user runs them and wherever their temporary folders are.
"""

import itertools
import os
import socket
import sys
import threading
from collections.abc import Iterator
from functools import cache

_FIRST, _LAST, _BLOCK = 12_000, 32_000, 100
_LOCK = threading.Lock()


def free_port() -> int:
    """A port of the loopback that nobody listens on, nor will: a server's API may just be dead."""
    with _LOCK:
        for port in itertools.islice(_own_ports(os.getpid()), _BLOCK):
            with socket.socket() as probe, socket.socket(socket.AF_UNIX) as lock:
                # As servers do: where connections have just ended, one may listen again.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    """The ports of this process's block, over and over; it holds the first until it ends."""
    for first in range(_FIRST, _LAST, _BLOCK):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", first))
        except OSError:
            held.close()
            continue
        # Not to be closed before the process ends.
        held.detach()
        return itertools.cycle(range(first + 1, first + _BLOCK))
    raise AssertionError("all blocks of ports are taken")
