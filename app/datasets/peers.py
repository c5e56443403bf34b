"""The services that may refer to a dataset version, over REST."""

from app.datasets.ports import Reference
from app.kernel.auth import Call
from app.kernel.errors import NotFound, Unavailable
from app.kernel.peers import Peer


class PeerReferrer:
    """``ports.Referrer`` by the references API of a service.

    With ``whole_datasets_only`` the peer writes to datasets and needs none of their versions: it
    isn't asked about one.
    """

    def __init__(self, peer: Peer, *, whole_datasets_only: bool = False) -> None:
        self._peer = peer
        self._whole_datasets_only = whole_datasets_only

    def references(self, call: Call, dataset: str, version: int | None) -> list[Reference]:
        """What of that service refers to a version, or to any of the dataset."""
        if version is not None and self._whole_datasets_only:
            return []
        asked = {"dataset": dataset} | ({} if version is None else {"version": version})
        name = self._peer.name
        try:
            reply = self._peer.ask(
                call, "GET", f"/references/{name}", scope="references:read", params=asked
            )
        except NotFound as error:
            # Not "nothing refers to it": a process that doesn't serve the peer has answered.
            raise Unavailable(f"The service {name} is not where it should be") from error
        return [
            Reference(name, item["subject"], item["state"], item["reason"])
            for item in reply.json["items"]
        ]
