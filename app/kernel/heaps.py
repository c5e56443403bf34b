"""How much freed memory a process of many threads keeps.

glibc gives threads heaps of their own, up to eight for each core, and what is freed in one is only
used again there: after a burst in which each thread has worked on a large request, a process holds
the sum of what they had. Threads that share one interpreter lock hardly ever meet in ``malloc``, so
they share the heaps, too.
"""

import ctypes

_M_ARENA_MAX = -8
"""``mallopt``'s name for it, malloc.h."""


def share_heaps(most: int = 2) -> None:
    """Let the threads started from now on share at most so many heaps; nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, most)
