"""What a processor reads of a record: JSON, its fields, its time. What can't be read is refused."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGEST_TIME: Final = 64
# Windows are no longer than a year: each one around such a moment can be told.
_FIRST_YEAR, _LAST_YEAR = 1000, 9990
_MOST_DIGITS: Final = 1_000


class Refused(Exception):
    """A record that can't be handled, and never will be: by its own fault."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def json_value(value: bytes) -> Any:
    """The JSON of a record; raises Refused."""
    try:
        return json.loads(value, parse_constant=_no_number, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise Refused("not_json", "The value is not JSON") from error


def json_object(value: bytes) -> dict[str, Any]:
    """The JSON object of a record; raises Refused."""
    found = json_value(value)
    if not isinstance(found, dict):
        raise Refused("not_an_object", "The value is not a JSON object")
    return found


def number_of(value: Mapping[str, Any], name: str) -> int | float | None:
    """The number in a field; None where there is none. Raises Refused for anything else."""
    found = value.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not _is_finite(found):
        raise Refused("not_a_number", f"The field {name[:100]!r} is not a number")
    return found


def time_of(value: Mapping[str, Any], name: str) -> int:
    """The time in a field, microseconds since 1970; raises Refused.

    It reads as RFC 3339 with an offset, or as whole milliseconds since 1970.
    """
    moment = _moment(value.get(name))
    if moment is None:
        raise Refused("not_a_time", f"The field {name[:100]!r} is no time: send RFC 3339")
    return told_time(moment)


def told_time(moment: datetime) -> int:
    """A moment as microseconds since 1970; raises Refused where no window can be told of."""
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise Refused("not_a_time", f"The year {moment.year} is too far away")
    return (moment - _EPOCH) // _MICROSECOND


def _moment(found: Any) -> datetime | None:
    try:
        if isinstance(found, int) and not isinstance(found, bool):
            return _EPOCH + timedelta(milliseconds=found)
        if isinstance(found, str) and len(found) <= _LONGEST_TIME:
            moment = datetime.fromisoformat(found)
            return None if moment.tzinfo is None else moment
    except (ValueError, OverflowError):
        pass
    return None


def moment_of(count: int) -> str:
    """Microseconds since 1970 as RFC 3339, for an answer."""
    return (_EPOCH + timedelta(microseconds=count)).isoformat().replace("+00:00", "Z")


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _is_finite(number: int | float) -> bool:
    return isinstance(number, int) or math.isfinite(number)
