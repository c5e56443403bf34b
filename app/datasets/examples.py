"""What the documentation shows of this service's resources."""

from typing import Any

from app.lineage import ORIGIN

_DIGEST = "sha-256:" + "160a873e" * 8
_TIMES = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}

DATASET: dict[str, Any] = {
    "name": "penguins",
    "description": "Three species near Palmer Station",
    "tags": {"source": "lter"},
    "newest_version": 1,
    **_TIMES,
}
SUMMARY: dict[str, Any] = {
    "dataset": "penguins",
    "version": 1,
    "state": "succeeded",
    "format": "csv",
    "filename": "penguins.csv",
    "source_digest": "sha-256:" + "f204db2c" * 8,
    "source_bytes": 15241,
    "digest": _DIGEST,
    "origin": None,
    "rows": 344,
    "rejected": 0,
    "bytes": 4000,
    "progress": {"fraction": 1.0, "step": "done", "message": ""},
    "attempt": 1,
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:00Z",
    "finished_at": "2026-01-01T00:00:01Z",
}
COLUMN: dict[str, Any] = {
    "name": "island",
    "type": "string",
    "nullable": False,
    "missing": 0,
    "distinct": 3,
    "min": "Biscoe",
    "max": "Torgersen",
    "mean": None,
    "std": None,
    "quantiles": None,
    "top_values": [{"value": "Biscoe", "count": 168}],
    "histogram": None,
    "sampled": False,
}
VERSION: dict[str, Any] = {**SUMMARY, "columns": [COLUMN], "warnings": []}
MADE: dict[str, Any] = {**DATASET, "version": SUMMARY}
ROWS: dict[str, Any] = {
    "dataset": "penguins",
    "version": 1,
    "rows": 344,
    "offset": 0,
    "columns": ["species", "island"],
    "items": [{"species": "Adelie", "island": "Torgersen"}],
    "next_offset": 1,
}
REJECTS: dict[str, Any] = {
    "dataset": "penguins",
    "version": 1,
    "rows": 1,
    "offset": 0,
    "items": [{"row": 17, "column": "year", "reason": "Not an integer", "raw": "Adelie,x"}],
    "next_offset": None,
}
PLAN: dict[str, Any] = {
    "dataset": "penguins",
    "versions": [1],
    "bytes": 4000,
    "allowed": True,
    "referrers": [],
}
HOLD: dict[str, Any] = {
    "dataset": "penguins",
    "version": 1,
    "digest": _DIGEST,
    "rows": 344,
    "columns": [COLUMN],
    "origin": ORIGIN,
    "storage": {"key": "default/datasets/01a2.parquet", "digest": _DIGEST, "bytes": 4000},
}
