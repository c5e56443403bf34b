"""A whole process on one core: threads that share one interpreter lock hand it over for less there.

Spread over cores, each hand-over of the lock wakes a thread on another core, which costs more than
what a short request does while it holds the lock.
"""

import os
import random


def stay_on_one_core(number: int | None = None) -> None:
    """Keep this thread, and all that are started from now on, to one of the cores it may use.

    Which one, the process's ``number`` among its like says, or else chance, so that several such
    processes spread. Nothing happens where there is one core only, or no way to ask for it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        chosen = random.choice(cores) if number is None else cores[number % len(cores)]  # noqa: S311 (no secret)
        os.sched_setaffinity(0, {chosen})
