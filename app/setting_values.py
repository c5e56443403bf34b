"""How the text of a setting is read; each raises ValueError that says what it should be."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
MOST_WORKERS: Final = 64


@dataclass(frozen=True)
class WorkerRange:
    """The bounds of the number of workers; the same number twice is a fixed one."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.most) if self.least == self.most else f"{self.least}..{self.most}"


def size(text: str) -> int:
    """A number of bytes, also as ``16M``."""
    units = {"k": 10**3, "m": 10**6, "g": 10**9}
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in units else (text, "")
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", number) or float(number) == 0:
        raise ValueError("say how many bytes, such as 16M")
    return int(float(number) * units.get(unit, 1))


def size_or_none(text: str) -> int:
    """The same, or 0."""
    return 0 if text == "0" else size(text)


def count(least: int = 1, most: int = 10**9) -> Callable[[str], int]:
    """A reader of whole numbers within bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise ValueError(f"say a number from {least} to {most}")
        return int(text)

    return parse


def duration(text: str) -> float:
    """Seconds or another number above 0."""
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) or float(text) == 0:
        raise ValueError("say a number above 0")
    return float(text)


def worker_range(text: str) -> WorkerRange:
    """Read ``3`` or ``1..4``; raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,3})(?:\.\.([0-9]{1,3}))?", text)
    if not found or not int(found[1]) <= int(found[2] or found[1]) <= MOST_WORKERS:
        raise ValueError(f"say a number from 0 to {MOST_WORKERS}, or a range such as 1..4")
    if found[2] is not None and int(found[1]) == 0:
        raise ValueError("a range starts at 1: an idle worker sees the queue grow")
    return WorkerRange(int(found[1]), int(found[2] or found[1]))


def rate(text: str) -> float:
    """A number from 0 on."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise ValueError("say a number from 0 on")
    return float(text)


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, one at least."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise ValueError("name at least one")
    return found


def names_or_none(text: str) -> tuple[str, ...]:
    """Names separated by commas, or none."""
    return names(text) if text.strip() else ()


def key(text: str) -> str:
    """An API key, or nothing."""
    if text and not re.fullmatch(r"myk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}", text):
        raise ValueError("a key reads myk_<8>_<43>")
    return text


def level(text: str) -> str:
    """A level of the log."""
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"say {', '.join(LOG_LEVELS)}")
    return text.lower()


def switch(text: str) -> bool:
    """Yes or no."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("say true or false")
