"""What is asked of the streams of NATS, in which each partition lies alone.

A question without an answer is asked again for some seconds: a leader may have died, and its
followers need a while to agree on the next.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from app.kernel.errors import Conflict, NotFound, ServiceError, StorageFull, Unavailable
from app.kernel.log.nats_link import ANSWER_SECONDS, CONNECT_SECONDS
from app.kernel.log.nats_messages import stream_of, subject_of
from app.kernel.log.seam import Shape

PATIENCE = 10.0
"""How long anything is tried again, in seconds."""
_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_RETRY_SECONDS = 2.0
_NOT_FOUND, _OTHER_CONFIGURATION, _ONE_SERVER = 10059, 10058, 10074
_TOO_FEW_SERVERS = 10005
_NO_ROOM = (10002, 10023, 10028, 10047)
_MICROSECOND = timedelta(microseconds=1)
Answer = Mapping[str, Any]


class Patience:
    """Pauses that grow between tries, until there is no time left, or nobody to ask."""

    def __init__(self, client: Client, seconds: float = PATIENCE) -> None:
        self._client = client
        self._since = time.monotonic()
        self._seconds = seconds
        self._pause = _PAUSE

    async def or_give_up(self, reason: str) -> None:
        """Wait for a moment; raises Unavailable when the time is over."""
        passed = time.monotonic() + self._pause - self._since
        most = self._seconds if self._client.is_connected else min(self._seconds, CONNECT_SECONDS)
        if passed > most:
            raise Unavailable(f"The record log can't be used: {reason}", retry_after=_RETRY_SECONDS)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


async def ask(
    client: Client, subject: str, body: Any = None, patience: Patience | None = None
) -> Answer:
    """The answer of JetStream to a question that may be asked twice; raises what it refused."""
    patience = patience or Patience(client)
    payload = b"" if body is None else json.dumps(body).encode()
    while True:
        try:
            reply = await client.request(f"$JS.API.{subject}", payload, timeout=ANSWER_SECONDS)
        except NatsError as error:
            await patience.or_give_up(_reason(error))
            continue
        answer: Answer = json.loads(reply.data)
        refused = answer.get("error")
        if refused is None:
            return answer
        # Servers that have just come are not known to each other at once.
        passing = int(refused["code"]) >= 500 or refused["err_code"] == _TOO_FEW_SERVERS
        if not passing or refused["err_code"] in (*_NO_ROOM, _ONE_SERVER):
            raise refusal(refused)
        await patience.or_give_up(str(refused["description"]))


def _reason(error: NatsError) -> str:
    return {"TimeoutError": "no answer in time"}.get(type(error).__name__, "no connection")


def refusal(error: Answer) -> ServiceError:
    """What JetStream refused, in our words."""
    code, told = error.get("err_code"), str(error.get("description"))
    if code == _NOT_FOUND:
        return NotFound("No such topic")
    if code == _OTHER_CONFIGURATION:
        return Conflict("There is a topic of this name and of another shape")
    if code == _ONE_SERVER:
        return OneServer(told)
    if code in _NO_ROOM:
        return StorageFull(f"The record log has no room: {told}", retry_after=_RETRY_SECONDS)
    return Unavailable(f"The record log refused: {told}", retry_after=_RETRY_SECONDS)


class OneServer(Unavailable):
    """A single server can't replicate."""


async def make_streams(client: Client, topic: str, shape: Shape, verb: str) -> None:
    """Make (``CREATE``) or change (``UPDATE``) the streams of a topic, the first one first."""
    for partition in range(shape.partitions):
        body = configuration(topic, partition, shape, shape.replicas)
        subject = f"STREAM.{verb}.{stream_of(topic, partition)}"
        try:
            await ask(client, subject, body)
        except OneServer:
            await ask(client, subject, {**body, "num_replicas": 1})


async def delete_streams(client: Client, topic: str, partitions: int) -> None:
    """Delete the streams of a topic, the first one last: it knows how many there are."""
    for partition in reversed(range(partitions)):
        try:
            await ask(client, f"STREAM.DELETE.{stream_of(topic, partition)}")
        except NotFound:
            continue


def configuration(topic: str, partition: int, shape: Shape, replicas: int) -> dict[str, Any]:
    """What a stream is to be like. Nothing is deleted from within: sequences have no gaps."""
    age = 0 if shape.max_age is None else shape.max_age // _MICROSECOND * 1000
    window = 2 * 60 * 10**9
    return {
        "name": stream_of(topic, partition),
        "subjects": [subject_of(topic, partition, "*")],
        "storage": "file",
        "num_replicas": replicas,
        "retention": "limits",
        "discard": "new" if shape.overflow == "reject" else "old",
        "max_age": age,
        "max_msgs": shape.max_records or -1,
        "max_bytes": shape.max_bytes or -1,
        "duplicate_window": min(age, window) if age else window,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": {"partitions": str(shape.partitions), "replicas": str(shape.replicas)},
    }


async def info(client: Client, topic: str, partition: int) -> Answer:
    """What the leader of a stream knows of it; raises NotFound."""
    patience = Patience(client)
    while True:
        try:
            return await ask(client, f"STREAM.INFO.{stream_of(topic, partition)}", None, patience)
        except NotFound:
            if not await _is_assigned(client, topic, partition, patience):
                raise
        # Who is to lead it has not made its own copy yet, and took that for an answer.
        await patience.or_give_up("its leader has not made it yet")


async def _is_assigned(client: Client, topic: str, partition: int, patience: Patience) -> bool:
    """Whether the leader of the whole cluster knows of a stream."""
    only = {"subject": subject_of(topic, partition, "*")}
    told = await ask(client, "STREAM.NAMES", only, patience)
    return stream_of(topic, partition) in (told.get("streams") or ())


def shape_of(told: Answer) -> Shape:
    """The shape that a stream was made for."""
    config = told["config"]
    age, records, size = config["max_age"], config["max_msgs"], config["max_bytes"]
    return Shape(
        partitions=int(config["metadata"]["partitions"]),
        replicas=int(config["metadata"]["replicas"]),
        max_age=timedelta(microseconds=age // 1000) if age else None,
        max_records=records if records > 0 else None,
        max_bytes=size if size > 0 else None,
        overflow="reject" if config["discard"] == "new" else "drop_oldest",
    )


def bounds_of(told: Answer) -> tuple[int, int]:
    """The first offset that is kept and the one that comes next."""
    state = told["state"]
    return max(state["first_seq"], 1) - 1, state["last_seq"]


async def stored(
    client: Client, topic: str, partition: int, body: Mapping[str, Any]
) -> tuple[Sequence[Msg], str | None]:
    """Messages of a stream as one of its replicas has them, and how it ended; None: it didn't."""
    inbox, found = client.new_inbox(), []
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            found.append(message)
        elif not ended.done():
            ended.set_result(status)

    subscription = await client.subscribe(inbox, cb=take)
    try:
        subject = f"$JS.API.DIRECT.GET.{stream_of(topic, partition)}"
        await client.publish(subject, json.dumps(body).encode(), reply=inbox)
        return found, await asyncio.wait_for(ended, ANSWER_SECONDS)
    except TimeoutError:
        return found, None
    finally:
        await subscription.unsubscribe()
