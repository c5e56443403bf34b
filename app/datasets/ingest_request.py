"""What to ingest and how to read it: a request that travels as JSON."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.kernel.errors import FieldError, Invalid, escape

FORMATS = ("csv", "ndjson", "json", "parquet")
TYPES = ("integer", "number", "boolean", "string", "datetime")
DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "latin-1": "latin-1",
    "iso-8859-1": "latin-1",
    "cp1252": "cp1252",
    "windows-1252": "cp1252",
}
_DIRECTIVES = frozenset("aAbBdfHIjmMpSyYz%")
_MOST_NULL_VALUES, _LONGEST_TEXT = 100, 200


@dataclass(frozen=True)
class ColumnRule:
    """What a client says of one column; what it doesn't say is inferred.

    ``null_values`` are the texts that mean missing, instead of the default ones. ``format`` is how
    datetimes are written (strptime: ``%d/%m/%Y %H:%M``); without ``%z`` they are UTC.
    """

    type: str | None = None
    null_values: tuple[str, ...] | None = None
    format: str | None = None

    @property
    def forced(self) -> str | None:
        """The type that the column must have; a format is one for datetimes."""
        return "datetime" if self.format is not None else self.type

    def errors(self, pointer: str) -> list[FieldError]:
        """What is wrong with the rule."""
        found = []
        if self.type is not None and self.type not in TYPES:
            found.append(
                FieldError(f"{pointer}/type", "unknown_type", "No such type", allowed=list(TYPES))
            )
        if self.format is not None and self.type not in {None, "datetime"}:
            found.append(
                FieldError(f"{pointer}/format", "not_a_datetime", "Only a datetime has a format")
            )
        elif self.format is not None and not _is_format(self.format):
            allowed = [f"%{letter}" for letter in sorted(_DIRECTIVES)]
            found.append(
                FieldError(f"{pointer}/format", "unknown_format", "Not a format", allowed=allowed)
            )
        words = self.null_values or ()
        if len(words) > _MOST_NULL_VALUES or any(len(word) > _LONGEST_TEXT for word in words):
            detail = f"At most {_MOST_NULL_VALUES} texts of {_LONGEST_TEXT} characters"
            found.append(FieldError(f"{pointer}/null_values", "too_many", detail))
        return found


@dataclass(frozen=True)
class IngestLimits:
    """What is refused by its size. Memory may set narrower bounds: see ``ingest``."""

    max_columns: int = 2_000
    max_line_bytes: int = 1 << 24
    max_expanded_bytes: int = 100 << 30
    max_rows: int = 1_000_000_000
    max_rejected_rows: int = 100_000


@dataclass(frozen=True)
class IngestRequest:
    """A local file and how to read it. Raises Invalid when made with what isn't offered."""

    source: Path
    format: str
    gzip: bool = False
    delimiter: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    columns: Mapping[str, ColumnRule] = field(default_factory=dict)
    on_error: str = "fail"
    limits: IngestLimits = IngestLimits()

    def __post_init__(self) -> None:
        offered: list[tuple[str, object, list[Any]]] = [
            ("format", self.format, list(FORMATS)),
            ("delimiter", self.delimiter, [None, *DELIMITERS]),
            ("decimal", self.decimal, [".", ","]),
            ("encoding", self.encoding.lower(), sorted(ENCODINGS)),
            ("on_error", self.on_error, ["fail", "quarantine"]),
        ]
        errors = [
            FieldError(f"?{name}", "not_offered", f"{name} can't be {value!r}", allowed=allowed)
            for name, value, allowed in offered
            if value not in allowed
        ]
        for name, rule in self.columns.items():
            errors += rule.errors(f"/columns/{escape(name)}")
        if errors:
            raise Invalid("The file can't be read in that way", errors=errors)

    @property
    def codec(self) -> str:
        """Python's name of the encoding."""
        return ENCODINGS[self.encoding.lower()]

    def as_json(self) -> dict[str, Any]:
        """A JSON object from which ``from_json`` makes the same request."""
        return {**asdict(self), "source": str(self.source)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "IngestRequest":
        """The request that ``as_json`` wrote; what is left out has its default."""
        rules = {name: _rule(rule) for name, rule in told.get("columns", {}).items()}
        limits = IngestLimits(**told.get("limits", {}))
        rest = {key: value for key, value in told.items() if key not in {"columns", "limits"}}
        return cls(**{**rest, "source": Path(told["source"])}, columns=rules, limits=limits)


def _rule(told: Mapping[str, Any]) -> ColumnRule:
    words = told.get("null_values")
    return ColumnRule(
        type=told.get("type"),
        null_values=None if words is None else tuple(words),
        format=told.get("format"),
    )


def _is_format(text: str) -> bool:
    directives = re.findall(r"%(.?)", text, re.DOTALL)
    known = all(letter in _DIRECTIVES for letter in directives)
    return known and bool(set(directives) & set("yY")) and len(text) <= _LONGEST_TEXT
