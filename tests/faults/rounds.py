"""How often a fault is tried: a few times in every run, many times in ``make faults``."""

import os


def rounds(quick: int, full: int) -> int:
    """The number of rounds of this run."""
    return full if os.environ.get("FAULTS") == "full" else quick
