"""The way to the scorer process next door."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from app.kernel.errors import DeadlineExceeded
from app.kernel.local_rpc import Client

_SECONDS = 30.0


class ScorerClient:
    """``ports.Scorer`` over the local socket."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def score(
        self,
        location: Mapping[str, Any],
        columns: Mapping[str, Sequence[Any]],
        *,
        deadline: float | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """One output per row; see the port."""
        left = _SECONDS if deadline is None else min(_SECONDS, deadline - time.monotonic())
        if left <= 0:
            raise DeadlineExceeded
        arguments = {
            "seconds": left,
            "location": dict(location),
            "columns": {name: list(values) for name, values in columns.items()},
        }
        outputs: list[dict[str, Any]] = self._client.ask("score", arguments, seconds=left)
        return outputs
