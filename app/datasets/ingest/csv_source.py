"""CSV files as a relation: scanned, made plain where needed, read by the engine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from app.datasets.ingest.byte_source import TextSource
from app.datasets.ingest.cell_words import NULL_WORDS, WEAK_NULL_WORDS
from app.datasets.ingest.csv_scan import CsvScan, PlainCopy
from app.datasets.ingest.plain_csv import PlainCsv, in_pieces
from app.datasets.ingest.row_errors import RowErrors
from app.datasets.ingest.table_engine import Beat, literals
from app.datasets.ingest.table_source import Kind, SourceColumn, TableSource
from app.datasets.ingest_request import ColumnRule, IngestRequest


def open_csv(
    request: IngestRequest,
    errors: RowErrors,
    rules: Mapping[str, ColumnRule],
    *,
    work: Path,
    beat: Beat,
) -> TableSource:
    """Scan a CSV file; raises Invalid, TooLarge, Malformed. Ragged rows go to ``errors``."""
    return scanned(request, errors, rules, work=work, beat=beat)[1]


def scanned(
    request: IngestRequest,
    errors: RowErrors,
    rules: Mapping[str, ColumnRule],
    *,
    work: Path,
    beat: Beat,
) -> tuple[CsvScan, TableSource]:
    """The same, with what the scan saw."""
    text = TextSource(request)
    limits = request.limits
    source = request.source if text.verbatim else None
    with PlainCopy(source, work / "plain.csv") as plain:
        scan = CsvScan(plain, errors, limits, request.delimiter)
        first = True
        for piece in text:
            if first and not text.verbatim:
                plain.put(b"")
            first = False
            scan.feed(piece)
            beat()
        scan.finish()
    kept = scan.rows - errors.rows
    csv = PlainCsv(
        (plain.path,),
        len(scan.names),
        scan.longest,
        delimiter=scan.delimiter,
        parallel=not scan.multiline,
    )
    columns = tuple(
        _column(number, name, rules.get(name), request.decimal)
        for number, name in enumerate(scan.names)
    )
    row_bytes = plain.path.stat().st_size // max(1, kept)
    if not csv.parallel:
        csv = in_pieces(csv, row_bytes, work=work, beat=beat)
        return scan, TableSource(_relation(csv, rules), columns, kept, row_bytes)
    serial = TableSource(_relation(replace(csv, parallel=False), rules), columns, kept, row_bytes)
    return scan, replace(serial, relation=_relation(csv, rules), cautious=serial)


def _column(number: int, name: str, rule: ColumnRule | None, decimal: str) -> SourceColumn:
    if rule is None or rule.null_values is None:
        cell, blanks = f"c{number}", (*NULL_WORDS, *WEAK_NULL_WORDS)
        return SourceColumn(name, Kind.TEXT, cell, cell, blanks, WEAK_NULL_WORDS, decimal)
    cell = without(f"d{number}", rule.null_values)
    return SourceColumn(name, Kind.TEXT, cell, cell, ("", *rule.null_values), (), decimal)


def _relation(csv: PlainCsv, rules: Mapping[str, ColumnRule]) -> str:
    """The file once; twice side by side where some columns have null words of their own.

    The engine takes null words for a whole file, and only it knows which cells were in quotes.
    """
    usual = csv.relation(NULL_WORDS)
    if all(rule.null_values is None for rule in rules.values()):
        return usual
    aliases = ", ".join(f"d{number}" for number in range(csv.width))
    own = f"{csv.relation(('',))} AS own({aliases})"
    return f"({usual} AS usual POSITIONAL JOIN {own})"


def without(sql: str, words: tuple[str, ...], of: str | None = None) -> str:
    """SQL of a value that is NULL where it, or the text ``of`` it, is one of the words."""
    text = sql if of is None else of
    return f"CASE WHEN {text} NOT IN {literals(words)} THEN {sql} END" if words else sql
