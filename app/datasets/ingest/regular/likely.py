"""Which files may be regular: told without NumPy, which most files don't need."""

from app.datasets.ingest_request import IngestRequest

LEAST_BYTES = 8 << 20
LONGEST_CELL = 64
MOST_COLUMNS = 128


class Irregular(Exception):
    """A file, a row or a cell isn't as plain as it must be for the shorter way."""


class ReaderDied(Irregular):
    """A process that read blocks has ended by itself, or was killed."""


def may_be_regular(request: IngestRequest) -> bool:
    """Whether a look at its first rows is worth while: files of some size, read by the defaults."""
    if request.format != "csv" or request.gzip or request.codec != "utf-8":
        return False
    if request.decimal != "." or request.columns:
        return False
    limits, size = request.limits, request.source.stat().st_size
    short = limits.max_line_bytes >= MOST_COLUMNS * (LONGEST_CELL + 1)
    return short and LEAST_BYTES <= size <= limits.max_expanded_bytes
