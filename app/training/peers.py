"""The ports over REST."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from app.kernel.auth import Call
from app.kernel.errors import NotFound, ServiceError
from app.kernel.peers import Peer
from app.training.ports import HeldDataset


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
        return HeldDataset(
            dataset=reply.json["dataset"],
            version=reply.json["version"],
            digest=reply.json["digest"],
            rows=reply.json["rows"],
            columns=reply.json["columns"],
            storage=reply.json["storage"],
            # A datasets service of the release before says nothing of it.
            origin=reply.json.get("origin"),
        )

    def release(self, call: Call, held: HeldDataset, *, holder: str) -> None:
        """Let go of a version; see the port. Unless it succeeds, the hold runs out by itself."""
        with suppress(ServiceError):
            self.hold(call, held.dataset, held.version, holder=holder, seconds=0)


class ModelsPeer:
    """``ports.Models`` by the models service's API."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def register(self, call: Call, model: str, version: Mapping[str, Any]) -> int:
        """Register a run's model; see the port."""
        reply = self._peer.ask(
            call,
            "POST",
            f"/models/{model}/versions",
            scope="models:register",
            json=dict(version),
            seconds=60,
        )
        return int(reply.json["version"])

    def version_of(self, call: Call, model: str, run: str) -> int | None:
        """The version of a run; see the port."""
        asked = {"training_run__eq": run, "page_size": 1}
        path = f"/models/{model}/versions"
        try:
            reply = self._peer.ask(call, "GET", path, scope="models:read", params=asked)
        except NotFound:
            return None
        return next((int(item["version"]) for item in reply.json["items"]), None)
