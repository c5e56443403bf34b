"""What the supervisor tells the other processes of its host: a small file among their sockets."""

import json
from pathlib import Path
from typing import NamedTuple

_NAME = "supervisor.json"


class Told(NamedTuple):
    """How many workers there should be and are, and whether the server is about to stop."""

    wanted: int
    alive: int
    stopping: bool


def tell(folder: Path, told: Told) -> None:
    """Write it in one piece."""
    unfinished = folder / f"{_NAME}.new"
    unfinished.write_text(json.dumps(told._asdict()))
    unfinished.replace(folder / _NAME)


def told(folder: Path) -> Told | None:
    """What it told last; None where there is no supervisor, or it has gone."""
    try:
        return Told(**json.loads((folder / _NAME).read_text()))
    except FileNotFoundError:
        return None
