"""The ports over REST."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from app.kernel.auth import Call
from app.kernel.errors import Conflict, NotFound, Unavailable
from app.kernel.peers import Peer
from app.streams.processors.peers import make_dataset

_UPLOAD_SECONDS: Final = 600.0


class TrainingPeers:
    """``ports.Training`` by the APIs of three services."""

    def __init__(self, datasets: Peer, training: Peer, models: Peer) -> None:
        self._datasets = datasets
        self._training = training
        self._models = models

    def keep_rows(self, call: Call, dataset: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Make rows a version; see the port."""
        make_dataset(self._datasets, call, dataset)
        reply = self._datasets.ask(
            call,
            "POST",
            f"/datasets/{dataset}/versions",
            scope="datasets:write",
            json=list(rows),
            seconds=_UPLOAD_SECONDS,
        )
        return int(reply.json["version"])

    def train(self, call: Call, wanted: Mapping[str, Any]) -> str:
        """Ask for a run; see the port."""
        reply = self._training.ask(
            call, "POST", "/training-runs", scope="runs:write", json=dict(wanted)
        )
        return str(reply.json["id"])

    def run(self, call: Call, run: str) -> Mapping[str, Any]:
        """A run; see the port."""
        path = f"/training-runs/{run}"
        return dict(self._training.ask(call, "GET", path, scope="runs:read").json)

    def cancel(self, call: Call, run: str) -> None:
        """Stop a run; see the port."""
        path = f"/training-runs/{run}/cancel"
        with suppress(Conflict, NotFound, Unavailable):
            self._training.ask(call, "POST", path, scope="runs:write")

    def version(self, call: Call, model: str, version: int) -> Mapping[str, Any]:
        """A version; see the port."""
        path = f"/models/{model}/versions/{version}"
        return dict(self._models.ask(call, "GET", path, scope="models:read").json)

    def tag(self, call: Call, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Tag a version; see the port."""
        path = f"/models/{model}/versions/{version}"
        body = {"tags": dict(tags)}
        self._models.ask(call, "PATCH", path, scope="models:write", json=body)
