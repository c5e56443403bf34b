"""``python -m tests.soak``: load and kills for some minutes, then a table of invariants.

The status is 1 when one of them was violated.
"""

import argparse
import sys

from tests.soak.installation import DATABASES
from tests.soak.soak import Plan, soak


def main() -> int:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=Plan.minutes)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--database", choices=DATABASES, default=Plan.database)
    parser.add_argument("--clients", type=int, default=Plan.clients)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    asked = parser.parse_args()
    report = soak(Plan(**vars(asked)))
    sys.stdout.write(report.text() + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
