"""The type of every column, from all of its cells.

A column is of the narrowest type that holds every cell without losing anything:

- integer: digits that fit 64 bits, and floats without a fraction up to 2**53 (``5.0`` is 5, in
  every format, so that a table saved with or without missing values stays the same);
- number: what is left of numbers. Integers beside fractions become floats; the client is told
  when digits may be lost. Infinities are errors of their rows;
- string instead: digits with leading zeros, and integers past 64 bits (they are identifiers);
- boolean: ``true`` and ``false`` in any case; yes and no are strings;
- datetime: see ``cell_types``;
- string: everything else, also a column without any value.

Missing in CSV: an empty cell, and the words ``NULL_WORDS``; in quotes they are text if the column
is of strings. ``WEAK_NULL_WORDS`` are missing only in columns that aren't, and reported. In the
other formats only null is missing, and a NaN.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.datasets.ingest.cell_types import (
    NATIVE,
    Seen,
    demanded_value,
    guessed_value,
    inferred_value,
    seen,
)
from app.datasets.ingest.table_engine import TableEngine, select, stacked
from app.datasets.ingest.table_source import Kind, SourceColumn, TableSource
from app.datasets.ingest_request import ColumnRule
from app.kernel.errors import ServiceError

_AT_ONCE = 128  # columns per query: their cells are copied, outside of the engine's limit
_SAMPLE_ROWS = 10_000
_NOTHING = Seen(0)
_WHOLE = Seen.INTEGER | Seen.INTEGRAL
_FINITE = _WHOLE | Seen.FRACTION | Seen.BEYOND
_NUMERIC = _FINITE | Seen.INFINITE | Seen.INFINITY
_ASIDE = Seen.WIDE | Seen.OFFSET | Seen.BLANK | Seen.WEAK_BLANK | Seen.BAD
_REASONS = {
    "integer": "not an integer of 64 bits",
    "number": "not a finite number",
    "boolean": "not a boolean",
    "datetime": "not a datetime",
    "string": "text with a NUL",
}


class Miscounted(ServiceError):
    """The engine found other rows than were sent."""


@dataclass(frozen=True)
class TypedColumn:
    """A column with its type.

    ``value`` is the SQL of a cell's value; ``bad`` of whether a cell is refused, None where none
    is; ``text`` of a cell as it was sent.
    """

    name: str
    type: str
    value: str
    text: str
    bad: str | None
    warnings: tuple[dict[str, Any], ...] = ()

    @property
    def code(self) -> str:
        """Why a bad cell is refused, for programs."""
        return f"not_{self.type}" if self.type != "string" else "nul"

    @property
    def reason(self) -> str:
        """Why a bad cell is refused."""
        return _REASONS[self.type]


def infer(
    engine: TableEngine,
    source: TableSource,
    rules: Mapping[str, ColumnRule],
    *,
    guessing: bool = False,
) -> list[TypedColumn]:
    """The types of all columns; those for which a rule demands one have that.

    ``guessing``: where its first rows tell the type of a column, only they are looked at. To read
    its ``value`` fails if another row tells otherwise.
    """
    demanded = {name: rule for name, rule in rules.items() if rule.forced is not None}
    queries = {column.name: _Query(column, demanded.get(column.name)) for column in source.columns}
    if source.rows > _SAMPLE_ROWS:
        sample = f"({select(['*'], source.relation, limit=_SAMPLE_ROWS)})"
        _observe(engine, sample, list(queries.values()))
        queries = {name: query.expecting(query.flags) for name, query in queries.items()}
    guesses = {name: query.guess() for name, query in queries.items()} if guessing else {}
    unsettled = [
        query for name, query in queries.items() if not (query.settled or guesses.get(name))
    ]
    if unsettled or not guesses:
        _observe(engine, source.relation, unsettled, source.rows)
    padded = [query for query in queries.values() if query.is_padded]
    if padded:
        trimmed = [query.trimmed() for query in padded]
        _observe(engine, source.relation, trimmed)
        queries |= {query.column.name: query for query in trimmed}
    return [
        guesses.get(column.name)
        or (query.demanded() if query.rule is not None else query.inferred(column))
        for column, query in zip(source.columns, queries.values(), strict=True)
    ]


@dataclass
class _Query:
    """What is asked about a column, and the answer so far."""

    column: SourceColumn
    rule: ColumnRule | None
    expected: Seen = _NOTHING
    flags: Seen = _NOTHING

    @property
    def settled(self) -> bool:
        """Whether no further cell can change the type. Parquet's strings may hold a NUL yet."""
        text = self.column.kind is Kind.TEXT
        return self.rule is None and text and bool(self.expected & Seen.OTHER)

    @property
    def is_padded(self) -> bool:
        """Whether a look at the cells without spaces around them may give another type."""
        return bool(self.flags & Seen.PADDED) and not self.flags & Seen.OTHER

    @property
    def cell(self) -> str:
        """SQL of what is looked at."""
        return self.column.value if self.rule is None else self.column.text

    @property
    def kind(self) -> Kind:
        """What type the cell has in SQL: all texts are of one."""
        native = self.rule is None and self.column.kind in NATIVE
        return self.column.kind if native else Kind.TEXT

    @property
    def told(self) -> str:
        """SQL of what a cell named ``cell`` is."""
        column = replace(self.column, value="cell", text="cell")
        if self.rule is None:
            return seen(column, self.expected)
        _, bad = demanded_value(column, self.rule)
        return f"CASE WHEN {bad} THEN {Seen.BAD.value} ELSE 0 END"

    def expecting(self, flags: Seen) -> "_Query":
        """The same question, with what was seen in a sample."""
        settled = flags if flags & Seen.OTHER else _NOTHING
        return replace(self, expected=flags, flags=settled)

    def guess(self) -> TypedColumn | None:
        """The type as the sample tells it, unless other cells have a say in any case."""
        guessed = guessed_value(self.column, self.expected) if self.rule is None else None
        return guessed and TypedColumn(self.column.name, *guessed, self.column.text, None)

    def trimmed(self) -> "_Query":
        value = f"trim({self.column.value}, ' \t')"
        return _Query(replace(self.column, value=value), self.rule)

    def demanded(self) -> TypedColumn:
        if self.rule is None or self.rule.forced is None:
            raise ValueError(f"Nothing is demanded of {self.column.name!r}")
        value, bad = demanded_value(self.column, self.rule)
        return TypedColumn(
            self.column.name,
            self.rule.forced,
            value,
            self.column.text,
            bad if self.flags & Seen.BAD else None,
        )

    def inferred(self, original: SourceColumn) -> TypedColumn:
        type_ = _type(self.flags, original)
        column = original if type_ == "string" else self.column
        value = inferred_value(column, type_, self.flags)
        warnings = tuple(
            {"column": column.name, "code": code, "detail": detail}
            for code, detail in _warnings(self.flags, type_, original)
        )
        return TypedColumn(
            column.name, type_, value, column.text, self._bad(type_, column), warnings
        )

    def _bad(self, type_: str, column: SourceColumn) -> str | None:
        refused = Seen.BAD | (Seen.INFINITE | Seen.INFINITY if type_ == "number" else _NOTHING)
        if not self.flags & refused:
            return None
        return f"({seen(column, _NOTHING)}) & {refused.value} <> 0"


def _observe(
    engine: TableEngine, relation: str, queries: Sequence[_Query], rows: int | None = None
) -> None:
    """Look at all cells of some columns; raises Miscounted if there aren't so many rows."""
    if not queries:
        _check_count(engine.row(select(["count(*)"], relation))[0], rows)
    for batch in _alike(queries):
        shapes = list(dict.fromkeys(query.told for query in batch))
        cells = [{"cell": query.cell, "shape": str(shapes.index(query.told))} for query in batch]
        told = shapes[0]
        if len(shapes) > 1:
            cases = (f"WHEN {number} THEN {shape}" for number, shape in enumerate(shapes))
            told = f"CASE shape {' '.join(cases)} END"
        asked = select(["number", "count(*)", f"bit_or({told})"], f"({stacked(cells, relation)})")
        answers = engine.rows(f"{asked} GROUP BY number")
        _check_count(min((count for _, count, _ in answers), default=0), rows)
        for number, _, answer in answers:
            batch[number].flags |= Seen(answer or 0)


def _alike(queries: Sequence[_Query]) -> Iterator[list[_Query]]:
    """Those whose cells have one type in SQL, some at a time."""
    for kind in dict.fromkeys(query.kind for query in queries):
        found = [query for query in queries if query.kind is kind]
        for start in range(0, len(found), _AT_ONCE):
            yield found[start : start + _AT_ONCE]


def _check_count(count: int, rows: int | None) -> None:
    if rows is not None and count != rows:
        raise Miscounted(f"{count} rows were found, not {rows}")


def _type(flags: Seen, column: SourceColumn) -> str:
    core = flags & ~_ASIDE
    if column.kind is Kind.DATETIME and flags:
        return "datetime"
    if not core or column.mixed:
        return "string"
    if not core & ~_WHOLE:
        return "integer"
    if not core & ~_NUMERIC and (core & (_FINITE | Seen.INFINITE)):
        identifiers = core & Seen.BEYOND and not core & ~(_WHOLE | Seen.BEYOND)
        return "string" if identifiers else "number"
    if core == Seen.DATETIME:
        return "datetime"
    return "boolean" if core == Seen.BOOLEAN else "string"


def _warnings(flags: Seen, type_: str, column: SourceColumn) -> list[tuple[str, str]]:
    core = flags & ~_ASIDE
    found = []
    if column.mixed:
        found.append(("mixed_types", "Strings beside other values: all are kept as text"))
    elif not core:
        found.append(("no_values", "No value in any row: kept as string"))
    if type_ == "number" and flags & (Seen.WIDE | Seen.BEYOND):
        found.append(("rounded", "Some integers are too long for a float and were rounded"))
    if type_ == "string" and core and not core & ~(_NUMERIC | Seen.CODE):
        found.append(("digits_as_text", "Leading zeros or integers past 64 bits: kept as text"))
    if type_ != "string" and flags & Seen.WEAK_BLANK:
        words = " ".join(column.weak_blanks)
        found.append(("read_as_missing", f"Some of {words} were read as missing"))
    return found
