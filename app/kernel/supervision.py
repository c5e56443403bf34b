"""What the supervisor tells the other processes of its host: a small file among their sockets."""

import json
from pathlib import Path
from typing import NamedTuple

import structlog

_NAME = "supervisor.json"
log = structlog.get_logger("supervision")


class Told(NamedTuple):
    """How many workers there should be and are, and whether the server is about to stop."""

    wanted: int
    alive: int
    stopping: bool


class Announcer:
    """The supervisor's end: writes in one piece what has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: Told | None = None
        self._untold: Told | None = None

    def tell(self, word: Told) -> None:
        """Write it, unless it is there; on a full disk the next call tries again."""
        if word == self._told:
            return
        unfinished = self._folder / f"{_NAME}.new"
        try:
            unfinished.write_text(json.dumps(word._asdict()))
            unfinished.replace(self._folder / _NAME)
            self._told = word
        except OSError as error:
            if word != self._untold:
                log.warning("figures_not_told", error=error.strerror)
            self._untold = word


def told(folder: Path) -> Told | None:
    """What it told last; None where there is no supervisor, or it has gone."""
    try:
        return Told(**json.loads((folder / _NAME).read_text()))
    except FileNotFoundError:
        return None
