"""``python -m benchmarks.scale measure | check | tell``: see the package."""

import argparse
import sys

from benchmarks.scale import capacity, check, measure


def main() -> int:
    """Do what is asked for; 0 when it could be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "check", "tell"))
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    if options.what == "measure":
        measure.write(measure.measure(options.seconds, options.runs))
        print(measure.CONSTANTS.read_text(), end="")
    if options.what == "check":
        check.write(check.check(measure.read(), options.seconds, options.runs))
        print(check.CHECKED.read_text(), end="")
    if options.what == "tell":
        capacity.write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
