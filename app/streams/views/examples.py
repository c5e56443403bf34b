"""What the documentation shows of Lambda views."""

from typing import Any

NEW: dict[str, Any] = {
    "name": "delays",
    "kind": "aggregate",
    "topic": "flights",
    "aggregate": {
        "group_by": ["origin", "carrier"],
        "measures": [
            {"name": "flights", "function": "count"},
            {"name": "minutes", "function": "sum", "field": "arr_delay"},
            {
                "name": "shares",
                "function": "quantiles",
                "field": "arr_delay",
                "quantiles": [0.5, 0.9],
            },
        ],
    },
    "batch": {"every_seconds": 86400, "lag_records": 1_000_000},
}
VIEW: dict[str, Any] = {
    **NEW,
    "origin_offsets": {"0": 0, "1": 0},
    "batch_version": 3,
    "description": "",
    "tags": {},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
BATCH: dict[str, Any] = {
    "view": "delays",
    "version": 3,
    "cause": "schedule",
    "offsets": {"0": 812, "1": 1021},
    "base": None,
    "records": 1833,
    "skipped": 0,
    "groups": 35,
    "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "training": None,
    "outcome": "serving",
}
_POSITION: dict[str, Any] = {
    "view": "delays",
    "batch_version": 3,
    "batch_offsets": {"0": 812, "1": 1021},
    "speed_offsets": {"0": 840, "1": 1033},
    "merge": "sum",
    "behind": 0,
    "staleness_ms": 0,
    "skipped": 0,
}
_GROUP: dict[str, Any] = {
    "key": ["EWR", "UA"],
    "group": {"origin": "EWR", "carrier": "UA"},
    "values": {"flights": 512, "minutes": 1843, "shares": {"0.5": -4.03125, "0.9": 51.25}},
    "ignored": {},
}
VALUE: dict[str, Any] = {**_POSITION, **_GROUP}
VALUES: dict[str, Any] = {**_POSITION, "items": [_GROUP], "next_page_token": None}
STATE: dict[str, Any] = {
    "view": "delays",
    "kind": "aggregate",
    "merge": "sum",
    "origin_offsets": {"0": 0},
    "batch_version": 3,
    "batch_offsets": {"0": 812},
    "batch_digest": BATCH["digest"],
    "batch_since": "2026-01-01T00:00:00Z",
    "partitions": [
        {
            "partition": 0,
            "batch_offset": 812,
            "speed_offset": 840,
            "first": 0,
            "head": 840,
            "records": 28,
            "skipped": 0,
            "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "moved_at": "2026-01-01T00:00:00Z",
            "gap": False,
        }
    ],
    "behind": 0,
    "staleness_ms": 0,
}
