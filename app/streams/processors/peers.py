"""The ports over REST."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.kernel.auth import Call
from app.kernel.peers import Peer

_SECONDS: Final = 30.0


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
