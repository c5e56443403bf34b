"""A process that works for a view until it is done or killed: ``.. FOLDER URL WORK NATS``."""

import sys
from pathlib import Path

from tests.streams.viewing import Viewing


def main() -> None:
    """Fold what there is (``speed``), or do the batch that waits (``batch``)."""
    folder, url, work, nats = sys.argv[1:]
    viewing = Viewing(Path(folder), url, nats=nats or None)
    if work == "speed":
        while viewing.advance(limit=40):
            pass
    else:
        viewing.work()
    viewing.close()


if __name__ == "__main__":
    main()
