"""How many requests each key may send: a token bucket per key, in this process's memory.

A bucket holds ``burst`` requests and fills up again at ``rate`` a second. All that is kept of one
is the moment at which it will be full, in whole nanoseconds of a clock that never goes back, so no
rounding adds up to a request too many. A full bucket is the same as none, and is forgotten.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_SECOND: Final = 10**9
_MOST_KEYS: Final = 100_000
_POLICY: Final = "key"
# Where there are more keys at work than buckets, those that came last share one.
_SHARED: Final = ""


@dataclass(frozen=True)
class Standing:
    """How a key stands with its quota after a request; ``wait`` is 0 if it was admitted."""

    admitted: bool
    left: int
    wait: float
    full_in: float


class Quotas:
    """The quota of every key; each has the same."""

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        most_keys: int = _MOST_KEYS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._each = math.ceil(_SECOND / rate)
        self._burst = burst
        self._most_keys = most_keys
        self._now = monotonic_ns
        self._lock = threading.Lock()
        self._full_at: dict[str, int] = {}
        self._next_look = 0
        window = math.ceil(burst * self._each / _SECOND)
        self._policy = f'"{_POLICY}";q={burst};w={window}'

    def take(self, key: str) -> Standing:
        """Take one request out of a key's bucket, if it holds one."""
        with self._lock:
            now = self._now()
            bucket = key if key in self._full_at or self._has_room(now) else _SHARED
            missing = max(self._full_at.get(bucket, now) - now, 0)
            admitted = missing + self._each <= self._burst * self._each
            if admitted:
                missing += self._each
                self._full_at[bucket] = now + missing
        left = (self._burst * self._each - missing) // self._each
        wait = 0 if admitted else missing + self._each - self._burst * self._each
        return Standing(admitted, left, wait / _SECOND, missing / _SECOND)

    def headers(self, standing: Standing) -> Mapping[str, str]:
        """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10)."""
        told = f'"{_POLICY}";r={standing.left};t={math.ceil(standing.full_in)}'
        return {"RateLimit-Policy": self._policy, "RateLimit": told}

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._full_at)

    def _has_room(self, now: int) -> bool:
        """Whether there may be one more bucket. Full ones are looked for once a second at most."""
        if len(self._full_at) >= self._most_keys and now >= self._next_look:
            self._next_look = now + _SECOND
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        return len(self._full_at) < self._most_keys
