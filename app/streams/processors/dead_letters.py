"""Records that were given up, as they are kept in a topic of dead letters.

A dead letter has the record's own key, value and headers; further headers say why it was given up,
after how many tries, and where it came from.
"""

from typing import Final

from app.kernel.errors import TooLarge
from app.kernel.log.seam import NewRecord, Record
from app.streams.processors.handling import Share
from app.streams.processors.values import Refused

PREFIX: Final = "modelyard-dead-"
_MOST_DETAIL: Final = 300


def dead_letter(share: Share, record: Record, why: Refused, tries: int) -> NewRecord:
    """The dead letter of a record; without its value, where that is too large to be kept."""
    told = {
        "reason": why.code,
        "detail": _one_line(why.detail),
        "tries": str(tries),
        "processor": share.name,
        "topic": share.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": record.timestamp.isoformat().replace("+00:00", "Z"),
    }
    kept = {name: text for name, text in record.headers.items() if not name.startswith(PREFIX)}
    headers = kept | {PREFIX + name: text for name, text in told.items()}
    if why.code == TooLarge.code:
        return NewRecord(b"null", headers={**headers, f"{PREFIX}value": "left_out"})
    return NewRecord(record.value, key=record.key, headers=headers)


def _one_line(text: str) -> str:
    """Visible ASCII: headers go over wires that know no more."""
    clean = "".join(char if " " <= char <= "~" else "?" for char in text)
    return clean[:_MOST_DETAIL].strip()
