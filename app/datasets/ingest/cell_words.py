"""Words that mean something else than text, unless a column is of strings."""

NULL_WORDS = (
    "", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NaT", "NULL", "Null", "null", "None",
)  # fmt: skip
WEAK_NULL_WORDS = ("?", "-", "--", ".")
TRUE_WORDS = ("true", "t", "yes", "y", "on", "1")
FALSE_WORDS = ("false", "f", "no", "n", "off", "0")
