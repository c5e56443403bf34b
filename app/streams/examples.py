"""What the documentation shows of this service's resources."""

from typing import Any

SUMMARY: dict[str, Any] = {
    "name": "flights",
    "partitions": 3,
    "replicas": 1,
    "retention": {"max_age_seconds": 604800, "max_records": None, "max_bytes": None},
    "overflow": "reject",
    "max_lag": None,
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
PRODUCED: dict[str, Any] = {"offsets": [{"partition": 2, "offset": 1021, "duplicate": False}]}
RECORD: dict[str, Any] = {
    "partition": 2,
    "offset": 1021,
    "timestamp": "2026-01-01T00:00:00Z",
    "id": "2026-01-01-JFK-411",
    "key": "JFK",
    "value": {"carrier": "AA", "dep_delay": 4},
    "headers": {},
}
PAGE: dict[str, Any] = {"items": [RECORD], "next_offset": 1022}
NEW_RECORDS: list[dict[str, Any]] = [
    {"key": "JFK", "value": {"carrier": "AA", "dep_delay": 4}, "id": "2026-01-01-JFK-411"},
]
EVENT = (
    'id: 0:42,1:0,2:1022\ndata: {"partition": 2, "offset": 1021, "key": "JFK",'
    ' "value": {"carrier": "AA", "dep_delay": 4}}\n\n'
)
PROCESSOR_SUMMARY: dict[str, Any] = {
    "name": "delays",
    "description": "",
    "tags": {},
    "kind": "aggregate",
    "state": "running",
    "topic": "flights",
    "output_topic": "delays-by-origin",
    "dead_letter_topic": "given-up",
    "tries": 5,
    "generation": 0,
    "aggregate": {
        "window": {"size_seconds": 3600.0, "hop_seconds": None},
        "aggregates": {"mean_delay": {"function": "mean", "field": "delay"}},
        "time_field": "landed_at",
        "lateness_seconds": 600.0,
        "ahead_seconds": 86400.0,
        "late": "dead_letter",
        "emit": "close",
    },
    "created_at": "2026-11-23T04:00:00Z",
    "updated_at": "2026-11-23T04:00:00Z",
}
PROCESSOR: dict[str, Any] = {
    **PROCESSOR_SUMMARY,
    "lag": 12,
    "rate": 41.5,
    "counts": {
        "taken": 4711,
        "written": 96,
        "dead": 1,
        "dropped": 0,
        "late": 0,
        "gone": 0,
        "errors": 0,
    },
    "last_failure": {
        "partition": 0,
        "offset": 17,
        "code": "not_json",
        "detail": "The value is not JSON",
        "at": "2026-11-23T04:05:06Z",
    },
    "partitions": [{"partition": 0, "offset": 4711, "lag": 12, "active": True, "retrying": 0}],
}
_MEMBER = "01a203dd-2710-7023-bd67-9d8929f69490"
GROUP: dict[str, Any] = {
    "name": "dashboard",
    "topic": "flights",
    "epoch": 2,
    "description": "",
    "tags": {},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
LAG: dict[str, Any] = {
    "epoch": 2,
    "lag": 21,
    "items": [
        {
            "partition": 0,
            "offset": 791,
            "first": 0,
            "end": 812,
            "lag": 21,
            "member": _MEMBER,
            "note": "",
            "committed_at": "2026-01-01T00:00:00Z",
        }
    ],
}
MEMBER_SUMMARY: dict[str, Any] = {
    "id": _MEMBER,
    "client": "host-1",
    "lease_until": "2026-01-01T00:00:12Z",
    "created_at": "2026-01-01T00:00:00Z",
}
MEMBER: dict[str, Any] = {
    **MEMBER_SUMMARY,
    "epoch": 2,
    "assignments": [{"partition": 2, "epoch": 2, "offset": 1021}],
}
FETCHED: dict[str, Any] = {
    "items": [RECORD],
    "offsets": [{"partition": 2, "offset": 1022}],
    "epoch": 2,
}
