"""Something of a peer's that is held until one's own row, which refers to it, is there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from app.kernel.errors import ServiceError

Held = TypeVar("Held")


@contextmanager
def released_after(held: Held, release: Callable[[Held], None]) -> Iterator[Held]:
    """Let go of what is held when the block ends, unless its outcome is unknown.

    After a commit of unknown outcome the row may still come: then the hold runs out by itself.
    """
    try:
        yield held
    except ServiceError as error:
        if error.status < 500:
            release(held)
        raise
    release(held)
