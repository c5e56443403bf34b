"""What can be set: name, environment variable, default, how its text is read, and help.

``SETTINGS`` is what ``modelyard doctor`` and the reference pages print.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.setting_values import (
    MOST_WORKERS,
    count,
    duration,
    key,
    level,
    names,
    names_or_none,
    rate,
    size,
    size_or_none,
    switch,
    worker_range,
)

SERVICES = ("access", "datasets", "models", "training", "predictions", "streams")


class SettingsError(Exception):
    """A setting that can't be used; the message names its variable."""


def _services(text: str) -> tuple[str, ...]:
    named = names(text)
    unknown = [name for name in named if name not in SERVICES]
    if unknown:
        raise ValueError(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}")
    return named


@dataclass(frozen=True)
class Setting:
    """One thing that can be set: ``default`` is text, as it would stand in the environment."""

    name: str
    env: str
    default: str
    help: str
    parse: Callable[[str], Any] = str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("home", "MODELYARD_HOME", ".", "Folder that holds all that the server writes.", Path),
    Setting("host", "MODELYARD_HOST", "127.0.0.1", "Address to listen on."),
    Setting("port", "MODELYARD_PORT", "8080", "Port to listen on.", count(most=65_535)),
    Setting(
        "services",
        "MODELYARD_SERVICES",
        ",".join(SERVICES),
        "Services that this process serves.",
        _services,
    ),
    Setting(
        "database_url",
        "MODELYARD_DATABASE_URL",
        "",
        "Database of all services that have none of their own; empty: SQLite in the home. "
        "`MODELYARD_<SERVICE>_DATABASE_URL` gives one service its own.",
        secret=True,
    ),
    Setting(
        "database_wait",
        "MODELYARD_DATABASE_WAIT",
        "20",
        "Longest wait of a write for others', seconds; longer: 503. A statement on Postgres may "
        "take half as long again.",
        duration,
    ),
    Setting(
        "store_url",
        "MODELYARD_STORE_URL",
        "",
        "Artifact store: `file:///dir`, `s3://bucket/prefix`; empty: `models_store/` in the home.",
    ),
    Setting(
        "log_url",
        "MODELYARD_LOG_URL",
        "",
        "Where topics keep their records: `nats://host:port,host:port`, with `user:password@` or "
        "`token@` before the hosts, `tls://` and `?ca=FILE&cert=FILE&key=FILE`; empty: their "
        "database.",
        secret=True,
    ),
    Setting(
        "admin_key",
        "MODELYARD_ADMIN_KEY",
        "",
        "An admin key `myk_<8>_<43>` that every process recognises; empty: made at first start.",
        key,
        secret=True,
    ),
    Setting(
        "keys_believed",
        "MODELYARD_KEYS_BELIEVED",
        "120",
        "While the database of the keys can't be asked, a key that was valid so many seconds ago "
        "still is; 0: none is.",
        rate,
    ),
    Setting(
        "secret",
        "MODELYARD_SECRET",
        "",
        "Secret shared by all hosts, at least 32 characters; several, comma-separated: the first "
        "signs, all verify. Empty: made in `instance/`.",
        secret=True,
    ),
    Setting(
        "hosts",
        "MODELYARD_HOSTS",
        "localhost,127.0.0.1,[::1]",
        "Host names that requests may address; `*` allows any.",
        names,
    ),
    Setting(
        "proxy",
        "MODELYARD_PROXY",
        "0",
        "How many trusted reverse proxies stand in front (X-Forwarded-*).",
        count(least=0, most=10),
    ),
    Setting(
        "api_processes",
        "MODELYARD_API_PROCESSES",
        "1",
        "Processes that answer HTTP on this host; what else is told of the API is each one's own.",
        count(most=64),
    ),
    Setting(
        "threads",
        "MODELYARD_THREADS",
        "128",
        "Requests served at once: more than all slots together, or stalled clients take them all.",
        count(),
    ),
    Setting(
        "one_core",
        "MODELYARD_ONE_CORE",
        "true",
        "Keep an API process to one core, where its threads hand over the interpreter's lock for "
        "less (Linux).",
        switch,
    ),
    Setting(
        "workers",
        "MODELYARD_WORKERS",
        "1",
        "Worker processes: a number, or a range such as `1..4` that follows the queue.",
        worker_range,
    ),
    Setting(
        "worker_idle_seconds",
        "MODELYARD_WORKER_IDLE_SECONDS",
        "15",
        "With a range: after so long with a worker too many, one retires.",
        duration,
    ),
    Setting("slots", "MODELYARD_SLOTS", "1", "Jobs that a worker process runs at once.", count()),
    Setting(
        "fit_threads",
        "MODELYARD_FIT_THREADS",
        "0",
        "Threads of a fit; 0: cores / slots.",
        count(0, 1024),
    ),
    Setting("max_json", "MODELYARD_MAX_JSON", "16M", "Largest JSON body, bytes.", size),
    Setting("max_upload", "MODELYARD_MAX_UPLOAD", "20G", "Largest upload as sent, bytes.", size),
    Setting(
        "max_expanded",
        "MODELYARD_MAX_EXPANDED",
        "100G",
        "Largest upload after decompression, bytes.",
        size,
    ),
    Setting("max_columns", "MODELYARD_MAX_COLUMNS", "5000", "Most columns of a dataset.", count()),
    Setting("max_line", "MODELYARD_MAX_LINE", "16M", "Longest line of a dataset, bytes.", size),
    Setting("max_rows", "MODELYARD_MAX_ROWS", "10000", "Most rows of one prediction.", count()),
    Setting(
        "upload_slots",
        "MODELYARD_UPLOAD_SLOTS",
        "24",
        "Uploads taken at once; more: 503.",
        count(),
    ),
    Setting(
        "peer_slots",
        "MODELYARD_PEER_SLOTS",
        "16",
        "Calls at once of one service that has a URL; more: 503.",
        count(),
    ),
    Setting(
        "body_slots",
        "MODELYARD_BODY_SLOTS",
        "16",
        "JSON bodies received at once; more: 503.",
        count(),
    ),
    Setting(
        "stream_slots",
        "MODELYARD_STREAM_SLOTS",
        "16",
        "Event streams and waits open at once; more: 503.",
        count(),
    ),
    Setting(
        "tail_slots",
        "MODELYARD_TAIL_SLOTS",
        "32",
        "Clients that follow topics at once; more: 503.",
        count(),
    ),
    Setting(
        "reader_lease",
        "MODELYARD_READER_LEASE",
        "12",
        "Seconds after which a silent member of a consumer group is believed dead.",
        duration,
    ),
    Setting(
        "processors",
        "MODELYARD_PROCESSORS",
        "1",
        "Processes that run the processors of topics.",
        count(least=0, most=MOST_WORKERS),
    ),
    Setting(
        "processor_threads",
        "MODELYARD_PROCESSOR_THREADS",
        "4",
        "Partitions that such a process works on at once.",
        count(most=256),
    ),
    Setting(
        "webhook_hosts",
        "MODELYARD_WEBHOOK_HOSTS",
        "",
        "Where webhooks may go, comma-separated: hosts (`hooks.example.com`, `*.example.com`, `*`, "
        "with `:port` unless it is 443 or 80), and networks such as `10.1.0.0/16`, without which "
        "only public addresses are called. Empty: nowhere.",
        names_or_none,
    ),
    Setting(
        "predict_slots",
        "MODELYARD_PREDICT_SLOTS",
        "0",
        "Predictions at work at once; 0: as many as cores for each API process, 2 at least.",
        count(0, 1024),
    ),
    Setting(
        "predict_waiters",
        "MODELYARD_PREDICT_WAITERS",
        "16",
        "Predictions that wait for one of those slots; more: 503.",
        count(0, 10_000),
    ),
    Setting(
        "predict_wait",
        "MODELYARD_PREDICT_WAIT",
        "0.25",
        "Longest wait for one of those slots, seconds; longer: 503.",
        duration,
    ),
    Setting(
        "score_seconds",
        "MODELYARD_SCORE_SECONDS",
        "15",
        "Longest scoring of one request by scikit-learn itself, seconds; longer: 504.",
        duration,
    ),
    Setting(
        "ingest_memory", "MODELYARD_INGEST_MEMORY", "256M", "Memory of one ingest, bytes.", size
    ),
    Setting(
        "model_cache",
        "MODELYARD_MODEL_CACHE",
        "512M",
        "Memory of the loaded models of a process, bytes.",
        size,
    ),
    Setting(
        "disk_reserve",
        "MODELYARD_DISK_RESERVE",
        "8M",
        "Room kept back beside the database, which deletions get on a full disk, bytes; 0: none.",
        size_or_none,
    ),
    Setting(
        "max_wall_seconds",
        "MODELYARD_MAX_WALL_SECONDS",
        "86400",
        "Longest training run or batch prediction, seconds.",
        duration,
    ),
    Setting(
        "max_memory", "MODELYARD_MAX_MEMORY", "64G", "Largest memory limit of a run, bytes.", size
    ),
    Setting(
        "max_queued",
        "MODELYARD_MAX_QUEUED",
        "1000",
        "Most queued runs of a project, most queued batches, most queued uploads; more: 429.",
        count(),
    ),
    Setting(
        "max_queued_in_all",
        "MODELYARD_MAX_QUEUED_IN_ALL",
        "10000",
        "The same of all projects together; more: 503.",
        count(),
    ),
    Setting(
        "quota_rate",
        "MODELYARD_QUOTA_RATE",
        "0",
        "Requests a second of a key, counted by each API process; more: 429. 0: no limit.",
        rate,
    ),
    Setting(
        "quota_burst",
        "MODELYARD_QUOTA_BURST",
        "100",
        "Requests that a key that was silent may send at once, where there is a rate.",
        count(most=10**6),
    ),
    Setting(
        "lease_seconds",
        "MODELYARD_LEASE_SECONDS",
        "6",
        "A worker silent so long is dead.",
        duration,
    ),
    Setting(
        "idempotency_hours",
        "MODELYARD_IDEMPOTENCY_HOURS",
        "24",
        "How long an Idempotency-Key is remembered.",
        duration,
    ),
    Setting(
        "events_days",
        "MODELYARD_EVENTS_DAYS",
        "30",
        "How many days events are kept; who reads after a dropped one is told: 410.",
        duration,
    ),
    Setting(
        "jobs_days",
        "MODELYARD_JOBS_DAYS",
        "30",
        "How many days the queue remembers ended jobs; runs and batches stay.",
        duration,
    ),
    Setting("log_level", "MODELYARD_LOG_LEVEL", "info", "debug, info, warning or error.", level),
    Setting("log_json", "MODELYARD_LOG_JSON", "true", "Logs as JSON lines; else as text.", switch),
)
