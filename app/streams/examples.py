"""What the documentation shows of this service's resources."""

from typing import Any

SUMMARY: dict[str, Any] = {
    "name": "flights",
    "partitions": 3,
    "replicas": 1,
    "retention": {"max_age_seconds": 604800, "max_records": None, "max_bytes": None},
    "overflow": "reject",
    "description": "Departures, by origin",
    "tags": {"source": "airport"},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
TOPIC: dict[str, Any] = {
    **SUMMARY,
    "partition_bounds": [
        {"partition": 0, "first": 0, "end": 812},
        {"partition": 1, "first": 0, "end": 0},
        {"partition": 2, "first": 40, "end": 1021},
    ],
}
