"""What a NATS server tells at its monitoring address, and tells no client."""

import httpx

from app.kernel.errors import Unavailable

_SECONDS = 5.0


def waits_for_the_disk(monitor: str) -> bool:
    """Whether JetStream acknowledges only what has reached the disk; raises Unavailable."""
    try:
        answer = httpx.get(f"{monitor.rstrip('/')}/varz", timeout=_SECONDS)
        config = answer.raise_for_status().json()["jetstream"]["config"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{monitor} doesn't tell of JetStream: {type(error).__name__}") from error
    return bool(config.get("sync_always"))
