"""Of which rows of a large table the quantiles are told: spread evenly, the same in every run."""

MOST_EXACT_ROWS = 1_000_000
SPREAD, SPREAD_END = 2_654_435_761, 1 << 32


def is_sampled(rows: int) -> bool:
    """Whether the quantiles of so many rows are those of a sample."""
    return rows > MOST_EXACT_ROWS


def spread_threshold(rows: int) -> int:
    """Which rows are of the sample of so many: those whose number times ``SPREAD``, modulo
    ``SPREAD_END``, is less."""
    return SPREAD_END * MOST_EXACT_ROWS // rows
