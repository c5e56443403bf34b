"""Immutable bytes that are about to be sent, as services hand them to HTTP."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sendable:
    """``digest`` is their SHA-256 in base64; ``pieces`` reads from one offset up to, not
    including, another."""

    filename: str
    etag: str
    digest: str
    size: int
    pieces: Callable[[int, int], Iterator[bytes]]
