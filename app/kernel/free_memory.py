"""Memory that the C library holds although nobody uses it any more."""

import ctypes


def give_back() -> None:
    """Return it to the system, where the C library can: GNU's keeps what large work has left."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
