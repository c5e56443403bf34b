"""How much freed memory a process keeps, told to glibc; elsewhere nothing happens."""

import ctypes

# ``mallopt``'s names, malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 32 << 20  # that glibc takes for the second


def share_heaps(most: int = 2) -> None:
    """Let the threads started from now on share at most so many heaps.

    glibc gives threads heaps of their own, up to eight for each core, and what is freed in one is
    only used again there: after a burst in which each thread has worked on a large request, a
    process holds the sum of what they had. Threads that share one interpreter lock hardly ever meet
    in ``malloc``, so they share the heaps, too.
    """
    _tell(_M_ARENA_MAX, most)


def keep_heaps() -> None:
    """Give no memory back: for a process that does the same again and again, then ends.

    Otherwise arrays of some hundred kilobytes are given back with each use, and the kernel's work
    on pages takes longer than what is calculated.
    """
    _tell(_M_TRIM_THRESHOLD, 1 << 30)
    _tell(_M_MMAP_THRESHOLD, _LARGEST)


def _tell(name: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(name, value)
