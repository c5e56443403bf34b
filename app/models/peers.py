"""The services that may still need a model, over REST."""

from typing import Any

from app.kernel.auth import Call
from app.kernel.errors import ServiceError, Unavailable
from app.kernel.peers import Peer
from app.models.ports import Reference


class PeerReferrer:
    """``ports.Referrer`` by the references API of a service.

    Training runs name models and never one of their versions: with ``whole_models_only`` the peer
    isn't asked about a version. With ``tells_default`` it is told whether the bare name means it.
    """

    def __init__(
        self, peer: Peer, *, whole_models_only: bool = False, tells_default: bool = False
    ) -> None:
        self._peer = peer
        self._whole_models_only = whole_models_only
        self._tells_default = tells_default

    def references(
        self, call: Call, model: str, version: int | None, *, is_default: bool = False
    ) -> list[Reference]:
        """What of that service refers to a version, or to any part of the model."""
        if version is not None and self._whole_models_only:
            return []
        asked: dict[str, Any] = {"model": model}
        if version is not None:
            asked["version"] = version
        if self._tells_default and is_default:
            asked["is_default"] = "true"
        name = self._peer.name
        try:
            reply = self._peer.ask(
                call, "GET", f"/references/{name}", scope="references:read", params=asked
            )
        except ServiceError as error:
            # Also a 404: a process that doesn't serve the peer has answered.
            raise Unavailable(
                f"The service {name} can't say what refers to {model}", retry_after=2
            ) from error
        return [
            Reference(name, item["subject"], item["state"], item["reason"])
            for item in reply.json["items"]
        ]
