"""Records that are produced all the time under ids, and what has become of them at the end.

A producer sends a batch until it is acknowledged, then the next one: so in the end the topic must
hold each record that was asked for once, in the order in which they were sent.
"""

import itertools
import threading
from typing import Any

from tests.outages.probes import TOPIC, wait_for_it
from tests.soak.caller import Caller
from tests.soak.report import Report

_BATCH, _PAUSE = 10, 0.15
VIEW = "counted"
_RECORDS = f"/topics/{TOPIC}/records"


def furnish(client: Any) -> None:
    """A topic of one partition, and a view that counts its records."""
    measures = {"measures": [{"name": "n", "function": "count"}]}
    view = {"name": VIEW, "kind": "aggregate", "topic": TOPIC, "aggregate": measures}
    for path, body in (("/topics", {"name": TOPIC}), ("/lambda-views", view)):
        made = client.post(path, json=body)
        assert made.status_code == 201, made.text


class Producer(threading.Thread):
    """Sends batches of numbered records, one after another."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(name="producer", daemon=True)
        self.caller = caller
        self.sent = 0
        self._numbers = itertools.count()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Produce until stopped; the last batch is acknowledged, too."""
        while not self._stopping.wait(_PAUSE):
            numbers = list(itertools.islice(self._numbers, _BATCH))
            records = [{"id": f"r{n}", "value": {"number": n}} for n in numbers]
            while True:
                answer = self.caller.send("POST", _RECORDS, json={"records": records})
                if answer is not None:
                    break
                self._stopping.wait(0.3)
            if not answer.is_success:
                self.caller.wrong(f"POST {_RECORDS}: {answer.status_code} {answer.text[:300]}")
                return
            self.sent += _BATCH

    def stop(self) -> None:
        """Produce no more."""
        self._stopping.set()


def check_records(client: Any, producer: Producer, report: Report) -> None:
    """Each record is there once, in its order, and the view has counted each once."""
    check = report.check("no message is lost, doubled or out of order")
    found = [record["value"]["number"] for record in read_all(client, TOPIC)]
    check.expect(found == list(range(producer.sent)), _first_difference(found, producer.sent))
    check.checked = producer.sent

    def counted() -> int:
        answer = client.get(f"/lambda-views/{VIEW}/value")
        return int(answer.json()["values"]["n"]) if answer.is_success else -1

    check = report.check("the view of the messages converges")
    wait_for_it(lambda: counted() == producer.sent, 60)
    check.expect(counted() == producer.sent, f"counted {counted()} of {producer.sent}")


def read_all(client: Any, topic: str) -> list[dict[str, Any]]:
    """All records of a topic with one partition."""
    found: list[dict[str, Any]] = []
    offset = 0
    while True:
        query = {"offset": offset, "limit": 1000}
        answer = client.get(f"/topics/{topic}/partitions/0/records", params=query)
        answer.raise_for_status()
        items = answer.json()["items"]
        if not items:
            return found
        found += items
        offset = answer.json()["next_offset"]


def _first_difference(found: list[int], sent: int) -> str:
    wrong = next((n for n, value in enumerate(found) if n != value), len(found))
    return f"{len(found)} of {sent}; at {wrong}: {found[wrong : wrong + 5]}"
