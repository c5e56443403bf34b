"""Appending to a partition in NATS: all of a batch or nothing, and nothing twice.

A batch is one atomic publication, so its order holds and a killed leader keeps all of it or none.
Each of its messages must be the first of its subject: what is sent again, or was thought lost and
comes late, is refused. After a refusal the stream is asked which of the messages it has.
"""

import json
from collections.abc import Sequence

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from app.kernel.errors import StorageFull, TooLarge
from app.kernel.log.nats_link import ANSWER_SECONDS
from app.kernel.log.nats_messages import RECORD_HEADER, Message, subject_of
from app.kernel.log.nats_stream import Answer, Patience, info, refusal, shape_of, stored
from app.kernel.log.seam import Appended, Full

MOST_TOGETHER = 500
MOST_BYTES_TOGETHER = 4_000_000
_WRONG_SEQUENCE, _FULL = (10071, 10164), 10077
_FULL_SECONDS = 2.0


class Appending:
    """A batch on its way into a partition; no two of its messages have one id."""

    def __init__(
        self, client: Client, topic: str, partition: int, messages: Sequence[Message]
    ) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._messages = messages
        self._places: dict[int, Appended] = {}
        self._attempts: dict[str, list[int]] = {}
        self._patience = Patience(client)

    async def run(self) -> list[Appended]:
        """Where each message lies at last. Raises Full, TooLarge, Unavailable, NotFound."""
        while todo := [n for n in range(len(self._messages)) if n not in self._places]:
            attempt = self._client.new_inbox().rpartition(".")[2]
            self._attempts[attempt] = todo
            answer = await self._publish(attempt, todo)
            if answer is None:
                await self._patience.or_give_up("no answer in time")
            elif "error" in answer:
                await self._settle(answer["error"], todo)
            else:
                self._place(todo, answer["seq"] - len(todo))
        return [self._places[n] for n in range(len(self._messages))]

    async def _publish(self, attempt: str, todo: Sequence[int]) -> Answer | None:
        """The answer to a batch of messages; None: nobody knows what became of it."""
        if not self._client.is_connected:
            # The client would keep them, and send them when we have long said that it failed.
            return None
        try:
            for number, n in enumerate(todo, start=1):
                message = self._messages[n]
                subject = subject_of(self._topic, self._partition, message.mark)
                headers = {
                    RECORD_HEADER: message.told,
                    "Nats-Batch-Id": attempt,
                    "Nats-Batch-Sequence": str(number),
                }
                if message.is_first_of_mark:
                    headers["Nats-Expected-Last-Subject-Sequence"] = "0"
                if number < len(todo):
                    await self._client.publish(subject, message.payload, headers=headers)
            headers["Nats-Batch-Commit"] = "1"
            reply = await self._client.request(
                subject, message.payload, timeout=ANSWER_SECONDS, headers=headers
            )
        except NoRespondersError:
            await info(self._client, self._topic, self._partition)
            return None
        except NatsError:
            return None
        answer: Answer = json.loads(reply.data)
        return answer

    async def _settle(self, error: Answer, todo: Sequence[int]) -> None:
        """Find out what a refusal was about."""
        refused = refusal(error)
        if isinstance(refused, StorageFull):
            raise refused
        about_these = error["err_code"] in _WRONG_SEQUENCE or error["err_code"] == _FULL
        if about_these and await self._look_up(todo):
            return
        if error["err_code"] == _FULL:
            await self._refuse_full(todo)
        await self._patience.or_give_up(refused.detail)

    async def _look_up(self, todo: Sequence[int]) -> bool:
        """Whether the stream, as one of its replicas has it, holds some of the messages."""
        numbers = {self._subject(n): n for n in todo}
        body = {"multi_last": list(numbers)}
        found, _ = await stored(self._client, self._topic, self._partition, body)
        for message in found:
            headers = message.headers or {}
            sequence = int(headers["Nats-Sequence"])
            attempt = self._attempts.get(headers["Nats-Batch-Id"])
            if attempt is not None:
                self._place(attempt, sequence - int(headers["Nats-Batch-Sequence"]))
                return True
            n = numbers[headers["Nats-Subject"]]
            self._places[n] = Appended(self._partition, sequence - 1, duplicate=True)
        return bool(found)

    def _subject(self, n: int) -> str:
        return subject_of(self._topic, self._partition, self._messages[n].mark)

    def _place(self, todo: Sequence[int], first: int) -> None:
        """A batch was kept as a whole, from this offset on."""
        for offset, n in enumerate(todo, start=first):
            self._places[n] = Appended(self._partition, offset, duplicate=False)

    async def _refuse_full(self, todo: Sequence[int]) -> None:
        most = shape_of(await info(self._client, self._topic, self._partition)).max_bytes
        if most is not None and any(self._messages[n].size > most for n in todo):
            raise TooLarge("A record is larger than all that a partition may keep")
        raise Full(
            f"Partition {self._partition} is full",
            retry_after=_FULL_SECONDS,
            extra={"partition": self._partition},
        )
