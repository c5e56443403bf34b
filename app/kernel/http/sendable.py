"""Immutable bytes that are about to be sent, as services hand them to HTTP."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import ArtifactCorrupt, Digest, Stored

OnFault = Callable[[ArtifactCorrupt], object]


@dataclass(frozen=True)
class Sendable:
    """``digest`` is their SHA-256 in base64; ``pieces`` reads from one offset up to, not
    including, another."""

    filename: str
    etag: str
    digest: str
    size: int
    pieces: Callable[[int, int], Iterator[bytes]]


def sendable(
    store: ArtifactStore, stored: Stored, filename: str, *, on_fault: OnFault = lambda _: None
) -> Sendable:
    """What a row says lies in the store; its bytes are checked before, where that is cheap.

    Raises ArtifactCorrupt. ``on_fault`` is told of wrong bytes, also when only sending finds them.
    """
    try:
        # A folder digests what it hasn't seen before; another store says None.
        if store.local_path(stored.key, stored.digest, size=stored.bytes) is None:
            next(store.stream(stored.key, 0, 0), None)
    except ArtifactCorrupt as error:
        on_fault(error)
        raise

    def pieces(start: int, end: int) -> Iterator[bytes]:
        if (start, end) != (0, stored.bytes):
            return store.stream(stored.key, start, end)
        # To the end, whatever the row says: what is too long is wrong, too.
        return checked_pieces(store.stream(stored.key), stored, on_fault)

    digest = bytes.fromhex(stored.digest.removeprefix("sha-256:"))
    return Sendable(
        filename=filename,
        etag=digest.hex(),
        digest=b64encode(digest).decode(),
        size=stored.bytes,
        pieces=pieces,
    )


def checked_pieces(source: Iterator[bytes], stored: Stored, on_fault: OnFault) -> Iterator[bytes]:
    """All bytes of a stored thing, the last piece kept back until all have been checked.

    Of bytes that are not those that were stored, nobody ever gets what looks like a whole file.
    """
    seen, kept = Digest(), b""
    try:
        for piece in seen.through(source):
            if kept:
                yield kept
            kept = piece
        seen.check(stored.key, stored.digest, stored.bytes)
    except ArtifactCorrupt as error:
        on_fault(error)
        raise
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
    yield kept
