"""The ports over REST."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from app.kernel.auth import Call
from app.kernel.errors import ServiceError
from app.kernel.peers import Peer
from app.predictions.ports import HeldDataset, ModelEvent

_READ_SECONDS = 60.0


class ModelsPeer:
    """``ports.Models`` by the models service's API, and its events."""

    def __init__(self, models: Peer) -> None:
        self._models = models

    def state(self, call: Call, model: str) -> Mapping[str, Any]:
        """Aliases and ready versions of a model; see the port."""
        return dict(
            self._models.ask(call, "GET", f"/models/{model}/state", scope="models:locate").json
        )

    def location(self, call: Call, model: str, version: int) -> Mapping[str, Any]:
        """A version and where its artifacts lie; see the port."""
        path = f"/models/{model}/versions/{version}/location"
        return dict(self._models.ask(call, "GET", path, scope="models:locate").json)

    def verify(self, call: Call, model: str, version: int) -> str:
        """Have a version's bytes looked at; see the port."""
        path = f"/models/{model}/versions/{version}/verify"
        reply = self._models.ask(call, "POST", path, scope="models:locate", seconds=_READ_SECONDS)
        return str(reply.json["state"])

    def events(
        self, call: Call, after: str | None, *, wait: int
    ) -> tuple[Sequence[ModelEvent], str]:
        """What happened to models since a position; see the port."""
        params: dict[str, Any] = {"source": "models", "wait": wait, "limit": 1000}
        if after is not None:
            params["after"] = after
        reply = self._models.ask(
            call, "GET", "/events", scope="events:read", params=params, seconds=wait + 10
        )
        found = [
            ModelEvent(item["project"], item["data"]["model"])
            for item in reply.json["items"]
            if "model" in item["data"]
        ]
        return found, reply.json["next_position"]


class DatasetsPeer:
    """``ports.Datasets`` by the datasets service's API."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def hold(
        self, call: Call, dataset: str, version: int | None, *, holder: str, seconds: int
    ) -> HeldDataset:
        """Keep a version from deletion; see the port."""
        body = {"version": version, "holder": holder, "seconds": seconds}
        reply = self._peer.ask(
            call, "POST", f"/datasets/{dataset}/holds", scope="datasets:hold", json=body
        )
        told = reply.json
        return HeldDataset(told["dataset"], told["version"], told["columns"], told["storage"])

    def release(self, call: Call, held: HeldDataset, *, holder: str) -> None:
        """Let go of a version; see the port. Unless it succeeds, the hold runs out by itself."""
        with suppress(ServiceError):
            self.hold(call, held.dataset, held.version, holder=holder, seconds=0)
