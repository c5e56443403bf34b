"""``python -m tests.outages``: services apart are killed or restarted under load, and judged.

The status is 1 when something was violated.
"""

import argparse
import sys

from app.settings_table import SERVICES
from tests.outages.outages import Plan, fleet_apart, outages
from tests.outages.rolling import rolling


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.outages", description=__doc__)
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--rolling", action="store_true", help="restart two servers of each")
    asked = parser.parse_args()
    if asked.rolling:
        with fleet_apart(replicas=2) as fleet:
            report = rolling(fleet)
    else:
        with fleet_apart() as fleet:
            report = outages(fleet, Plan(asked.services, asked.seconds))
    sys.stdout.write(report.text() + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
