"""What a NATS cluster tells its clients of itself: version, servers, copies that lag behind."""

from dataclasses import dataclass

from nats.aio.client import Client

from app.kernel.log.nats_link import Address, Link
from app.kernel.log.nats_stream import Answer, ask


@dataclass(frozen=True)
class Stream:
    """One partition: how many copies it is to have, and which servers lag behind with theirs."""

    name: str
    replicas: int
    lagging: tuple[str, ...]


@dataclass(frozen=True)
class Cluster:
    """A cluster as one of its clients sees it."""

    version: tuple[int, int, int]
    servers: int
    streams: tuple[Stream, ...]


def look_at(address: Address) -> Cluster:
    """Ask a cluster about itself; raises Unavailable."""
    link = Link(address)
    try:
        return link.run(lambda client: _look(client, address))
    finally:
        link.close()


async def _look(client: Client, address: Address) -> Cluster:
    version = client.connected_server_version
    streams: list[Stream] = []
    while True:
        told = await ask(client, "STREAM.LIST", {"offset": len(streams)})
        page = told.get("streams") or ()
        streams += map(_stream, page)
        if not page or len(streams) >= int(told["total"]):
            break
    servers = max(len(address.servers), len(client.discovered_servers) + 1)
    found = (version.major, version.minor, version.patch)
    return Cluster(found, servers, tuple(streams))


def _stream(told: Answer) -> Stream:
    config = told["config"]
    others = (told.get("cluster") or {}).get("replicas") or ()
    lagging = (str(one["name"]) for one in others if one.get("offline") or not one["current"])
    return Stream(str(config["name"]), int(config["num_replicas"]), tuple(lagging))
