"""The ports over REST."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from app.kernel.auth import Call
from app.kernel.errors import Conflict, NotFound
from app.kernel.peers import Peer
from app.streams.processors.ports import Part

_SECONDS: Final = 30.0
_UPLOAD_SECONDS: Final = 600.0


class PredictionsPeer:
    """``ports.Predictions`` by the predictions service's API."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def predict(
        self, call: Call, model: str, inputs: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """What a model says of inputs; see the port."""
        name, _, alias = model.partition("@")
        name, _, version = name.partition("/")
        asked = {key: text for key, text in (("alias", alias), ("version", version)) if text}
        reply = self._peer.ask(
            call,
            "POST",
            f"/models/{name}/predict",
            scope="predictions:write",
            json={"inputs": list(inputs)},
            params=asked,
            seconds=_SECONDS,
        )
        told: Mapping[str, Any] = reply.json
        return told


class ArchivesPeer:
    """``ports.Archives`` by the datasets service's API."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def keep(self, call: Call, dataset: str, part: Part, rows: Sequence[Mapping[str, Any]]) -> int:
        """Make rows a version; see the port."""
        try:
            return self._add(call, dataset, part, rows)
        except NotFound:
            make_dataset(self._peer, call, dataset)
        return self._add(call, dataset, part, rows)

    def _add(self, call: Call, dataset: str, part: Part, rows: Sequence[Mapping[str, Any]]) -> int:
        reply = self._peer.ask(
            call,
            "POST",
            f"/datasets/{dataset}/archives",
            scope="datasets:archive",
            json=list(rows),
            params=vars(part),
            seconds=_UPLOAD_SECONDS,
        )
        [offsets] = reply.json["origin"]["offsets"]
        return int(offsets["next"])


def make_dataset(peer: Peer, call: Call, dataset: str) -> None:
    """Have a dataset made, unless it is there."""
    with suppress(Conflict):
        peer.ask(call, "POST", "/datasets", scope="datasets:write", json={"name": dataset})
