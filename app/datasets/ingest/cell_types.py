"""What one cell is, as SQL: the grammar of numbers, datetimes, booleans and missing values.

The grammar is ours, not the engine's, whose casts also take ``1_000`` or ``0x1f`` and drop the
offset of a datetime. A datetime is ISO 8601: a date, or a date and a time with or without an offset
from UTC (without: UTC); what is finer than a microsecond is dropped.
"""

from enum import IntFlag

from app.datasets.ingest.cell_words import FALSE_WORDS, TRUE_WORDS
from app.datasets.ingest.table_engine import literal, literals
from app.datasets.ingest.table_source import Kind, SourceColumn
from app.datasets.ingest_request import ColumnRule

_SHORT_INTEGER = "-?(0|[1-9][0-9]{0,17})"
_INTEGER = "[+-]?[0-9]+"
_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
_SHORT_FRACTION = r"-?[1-9][0-9]{0,15}\.[0-9]{1,20}|-?0\.[0-9]{0,20}[1-9]"
_PLAIN = r"-?(0|[1-9][0-9]{0,13})(\.[0-9]{1,20})?"
_CODE = "[+-]?0[0-9].*"
_INFINITY = "[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?"
_PADDED = r"(?s)[ \t].*|.*[ \t]"
_DATETIME = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
    "(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_OFFSET = ".{16,}(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
NATIVE = {Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATETIME}
_EXACT = 1 << 53
_WIDE = 16  # characters: more may be an integer past 2**53


class Seen(IntFlag):
    """What kinds of cells a column has; a column's type follows from all of them together."""

    INTEGER = 1
    WIDE = 2  # an integer past 2**53: a float may not hold it exactly
    INTEGRAL = 4  # a float without a fraction, up to 2**53
    FRACTION = 8
    BEYOND = 16  # an integer past 64 bits
    INFINITE = 32  # a number past the largest float
    INFINITY = 64  # the word
    CODE = 128  # digits after a leading zero
    BOOLEAN = 256
    DATETIME = 512
    OFFSET = 1024
    BLANK = 2048  # a text that means missing, unless the column is of strings
    WEAK_BLANK = 4096
    PADDED = 8192
    OTHER = 16384
    BAD = 32768  # not of the type that the client demands


_PLAIN_NUMBERS = Seen.INTEGER | Seen.INTEGRAL | Seen.FRACTION


def matches(sql: str, pattern: str) -> str:
    """Whether a text is of that pattern."""
    return f"regexp_full_match({sql}, {literal(pattern)})"


def seen(column: SourceColumn, expected: Seen) -> str:
    """SQL of what a cell is, as a number of ``Seen``; ``expected`` is what most cells are."""
    value = column.value
    match column.kind:
        case Kind.INTEGER:
            told = f"{Seen.INTEGER.value}"
        case Kind.BOOLEAN:
            told = f"{Seen.BOOLEAN.value}"
        case Kind.NUMBER:
            told = f"CASE WHEN isnan({value}) THEN 0 ELSE {_seen_double(value)} END"
        case Kind.DATETIME:
            told = (
                f"CASE WHEN {_in_range(value)} THEN {Seen.DATETIME.value} ELSE {Seen.BAD.value} END"
            )
        case _:
            told = _seen_text(column, expected)
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {told} END"


def _seen_text(column: SourceColumn, expected: Seen) -> str:
    value = column.value
    number = (
        f"WHEN {matches(value, _SHORT_INTEGER)} THEN CASE WHEN strlen({value}) >= {_WIDE}"
        f" THEN {_seen_integer(value)} ELSE {Seen.INTEGER.value} END"
        f" WHEN {matches(value, with_comma(_NUMBER, column))} THEN {_seen_numeral(column)}"
    )
    offset = f"suffix({value}, 'Z') OR {matches(value, _OFFSET)}"
    datetime = (
        f"WHEN {value} LIKE '____-__-__%' AND {matches(value, _DATETIME)}"
        f" AND {parsed_datetime(value)} IS NOT NULL"
        f" THEN CASE WHEN {offset} THEN {(Seen.DATETIME | Seen.OFFSET).value}"
        f" ELSE {Seen.DATETIME.value} END"
    )
    if column.kind is Kind.NUMERAL:
        return f"CASE {number} ELSE {Seen.INFINITE.value} END"
    if column.kind is Kind.STRING:
        nul = f"WHEN contains({value}, chr(0)) THEN {Seen.BAD.value}"
        return f"CASE {nul} {datetime} ELSE {Seen.OTHER.value} END"
    branches = [number, datetime]
    if expected & Seen.FRACTION:
        fraction = with_comma(_SHORT_FRACTION, column)
        branches.insert(0, f"WHEN {matches(value, fraction)} THEN {Seen.FRACTION.value}")
    elif expected & (Seen.DATETIME | Seen.BOOLEAN):
        branches.reverse()
    boolean = f"WHEN lower({value}) IN ('true', 'false') THEN {Seen.BOOLEAN.value}"
    branches.insert(0 if expected & Seen.BOOLEAN else 2, boolean)
    return f"CASE {' '.join(branches)} {_seen_blank(column)} ELSE {Seen.OTHER.value} END"


def _seen_blank(column: SourceColumn) -> str:
    value = column.value
    branches = []
    if column.weak_blanks:
        weak = literals(column.weak_blanks)
        branches.append(f"WHEN {value} IN {weak} THEN {Seen.WEAK_BLANK.value}")
    if column.blanks:
        branches.append(f"WHEN {value} IN {literals(column.blanks)} THEN {Seen.BLANK.value}")
    branches.append(f"WHEN {matches(value, _INFINITY)} THEN {Seen.INFINITY.value}")
    branches.append(f"WHEN {matches(value, _PADDED)} THEN {Seen.PADDED.value}")
    return " ".join(branches)


def _seen_numeral(column: SourceColumn) -> str:
    value = column.value
    return (
        f"CASE WHEN {matches(value, _CODE)} THEN {Seen.CODE.value}"
        f" WHEN {matches(value, _INTEGER)} THEN CASE WHEN TRY_CAST({value} AS BIGINT) IS NULL"
        f" THEN {Seen.BEYOND.value} ELSE {_seen_integer(value)} END"
        f" ELSE {_seen_double(parsed_double(value, column))} END"
    )


def _seen_integer(value: str) -> str:
    """The same of digits that fit 64 bits."""
    wide = f"TRY_CAST({value} AS BIGINT) NOT BETWEEN -{_EXACT} AND {_EXACT}"
    return f"CASE WHEN {wide} THEN {(Seen.INTEGER | Seen.WIDE).value} ELSE {Seen.INTEGER.value} END"


def _seen_double(double: str) -> str:
    return (
        f"CASE WHEN isinf({double}) THEN {Seen.INFINITE.value} WHEN {_integral(double)}"
        f" THEN {Seen.INTEGRAL.value} ELSE {Seen.FRACTION.value} END"
    )


def _integral(double: str) -> str:
    return f"(trunc({double}) = {double} AND abs({double}) <= {_EXACT})"


def with_comma(pattern: str, column: SourceColumn) -> str:
    """A pattern of numbers, for the decimal separator of the column."""
    return pattern.replace(r"\.", ",") if column.decimal == "," else pattern


def _signless(double: str) -> str:
    """The same number, but a negative zero becomes zero: they must not make two digests."""
    return f"({double} + 0.0)"


def parsed_double(sql: str, column: SourceColumn) -> str:
    """A text that is known to be a number, as a float."""
    text = f"replace({sql}, ',', '.')" if column.decimal == "," else sql
    return f"CAST({text} AS DOUBLE)"


def parsed_datetime(sql: str) -> str:
    """A text in the pattern of datetimes, as a timestamp; NULL for a day that isn't."""
    stamp = f"make_timestamp(epoch_us(TRY_CAST({sql} AS TIMESTAMPTZ)))"
    outermost = f"{sql} LIKE '000%' OR {sql} LIKE '9999%'"
    return f"CASE WHEN ({outermost}) AND NOT {_in_range(stamp)} THEN NULL ELSE {stamp} END"


def _in_range(stamp: str) -> str:
    return f"({stamp} >= TIMESTAMP '0001-01-01' AND {stamp} < TIMESTAMP '10000-01-01')"


def inferred_value(column: SourceColumn, type_: str, flags: Seen) -> str:
    """SQL of a cell's value in a column whose cells are all known to be of the type."""
    value = column.value
    if type_ == "string":
        # Numbers become strings only where there are none.
        return "CAST(NULL AS VARCHAR)" if column.kind in NATIVE else value
    if column.kind is Kind.NUMBER:
        double = f"CASE WHEN NOT isnan({value}) THEN {_signless(value)} END"
        return f"CAST({double} AS BIGINT)" if type_ == "integer" else double
    if column.kind in NATIVE:
        return value
    if type_ == "boolean":
        typed = f"(lower({value}) = 'true')"
    elif type_ == "datetime":
        typed = parsed_datetime(value)
    elif type_ == "number":
        typed = _signless(parsed_double(value, column))
    elif flags & Seen.INTEGRAL:
        double = parsed_double(value, column)
        typed = (
            f"CASE WHEN {matches(value, _INTEGER)} THEN CAST({value} AS BIGINT)"
            f" ELSE CAST({double} AS BIGINT) END"
        )
    else:
        typed = f"CAST({value} AS BIGINT)"
    if not flags & (Seen.BLANK | Seen.WEAK_BLANK):
        return typed
    return f"CASE WHEN {value} NOT IN {literals(column.blanks)} THEN {typed} END"


def guessed_value(column: SourceColumn, flags: Seen) -> tuple[str, str] | None:
    """The type of a text column of which such cells were seen, and SQL of a cell's value.

    The SQL fails at a cell that could make another type or a warning of the column, so what it
    gives for all cells is what their inference would have given. None where that can't be said.
    """
    value = column.value
    if column.kind is not Kind.TEXT:
        return None
    if flags & Seen.INTEGER and not flags & ~(Seen.INTEGER | Seen.WIDE):
        type_, typed = "integer", f"TRY_CAST({value} AS BIGINT)"
        holds = f"CAST({typed} AS VARCHAR) = {value}"
    elif flags & Seen.FRACTION and not flags & ~_PLAIN_NUMBERS:
        type_, typed = "number", _signless(parsed_double(value, column))
        holds = matches(value, with_comma(_PLAIN, column))
    elif flags & Seen.DATETIME and not flags & ~(Seen.DATETIME | Seen.OFFSET):
        type_, typed = "datetime", parsed_datetime(value)
        holds = f"{matches(value, _DATETIME)} AND {typed} IS NOT NULL"
    else:
        return None
    checked = f"CASE WHEN {holds} THEN {typed} ELSE error('another type') END"
    return type_, f"CASE WHEN {value} IS NOT NULL THEN {checked} END"


def demanded_value(column: SourceColumn, rule: ColumnRule) -> tuple[str, str]:
    """SQL of a cell's value in the type that a client demands, and of whether it is bad.

    A cell that is neither missing nor of the type is bad, and its value NULL.
    """
    if rule.forced == "string":
        return column.text, f"contains({column.text}, chr(0))"
    text = f"trim({column.text}, ' \t')"
    missing = f"{column.text} IS NULL OR {text} IN {literals(('', *column.blanks))}"
    value = f"CASE WHEN NOT ({missing}) THEN {_demanded(text, column, rule)} END"
    return value, f"NOT ({missing}) AND {value} IS NULL"


def _demanded(text: str, column: SourceColumn, rule: ColumnRule) -> str:
    double = parsed_double(text, column)
    number = matches(text, with_comma(_NUMBER, column))
    if rule.forced == "boolean":
        true, false = literals(TRUE_WORDS), literals(FALSE_WORDS)
        word = f"lower({text})"
        return f"CASE WHEN {word} IN {true} THEN true WHEN {word} IN {false} THEN false END"
    if rule.forced == "number":
        return f"CASE WHEN {number} AND isfinite({double}) THEN {_signless(double)} END"
    if rule.forced == "integer":
        return (
            f"CASE WHEN {matches(text, _INTEGER)} THEN TRY_CAST({text} AS BIGINT)"
            f" WHEN {number} AND {_integral(double)} THEN CAST({double} AS BIGINT) END"
        )
    if rule.format is not None:
        parsed = f"TRY_STRPTIME({text}, {literal(rule.format)})"
        stamp = f"CAST({parsed} AS TIMESTAMP)"
        return f"CASE WHEN {_in_range(stamp)} THEN {stamp} END"
    return f"CASE WHEN {matches(text, _DATETIME)} THEN {parsed_datetime(text)} END"
