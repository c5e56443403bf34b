"""In which forms rows come in and outputs go out."""

from typing import Final

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
CSV: Final = "text/csv"
OFFERED: Final = (JSON, ARROW, CSV)
TABLES: Final = (ARROW, CSV)
