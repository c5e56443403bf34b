"""A producer ten times as fast as its processor: bounded lag, refusals, no loss that isn't told.

    python -m benchmarks.pressure [--seconds 120] [--pause 0.02] [--log-url nats://..]

Starts a server of its own on the loopback (SQLite, or the record log that is named) with two topics
of one partition: `held` has a bound of its lag, `dropping` drops its oldest records. A processor
sends the records of each to a receiver that takes so many seconds for one. A producer of each topic
sends twelve times as many as could be received in that time, in batches, whatever it is answered.
Once a second the lag of both processors is read; at the start (once both topics are full), in the
middle and at the end the memory (PSS) of the API and of the processors' process. Then producing
stops, the processors read all that is left, and everything is counted: what was accepted must have
been received, or be told as `gone` by the resource and by `/metrics`. It ends with what was
promised and what was found, and exits with 1 when a promise was not kept.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.footprint import pss_of, roles_below
from benchmarks.measured import judged
from tests.server import Server
from tests.streams.processors.receiver import Receiver

_TIMES, _PACE = 10, 12
_BATCH, _MOST = 25, 1000
_MOST_GROWTH = 1.2
_DRAIN_SECONDS = 300.0
_TOPICS: Mapping[str, Mapping[str, Any]] = {
    "held": {"max_lag": _MOST},
    "dropping": {"overflow": "drop_oldest", "retention": {"max_records": _MOST}},
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_ROLES = {"API": "API", "API's starter": "API", "processor": "processors"}


class _Producer:
    """Sends batches to a topic at a pace of its own, and counts what becomes of them."""

    def __init__(self, server: Server, topic: str, pace: float) -> None:
        self.answers: Counter[str] = Counter()
        self._server = server
        self._topic = topic
        self._pace = pace

    @property
    def accepted(self) -> int:
        """Records that were promised to be kept."""
        return self.answers["201"] * _BATCH

    @property
    def sent(self) -> int:
        """Records, with those that were refused."""
        return self.answers.total() * _BATCH

    def run(self, stopped: threading.Event) -> None:
        """Produce until stopped."""
        due, path = time.monotonic(), f"/topics/{self._topic}/records"
        with self._server.client() as client:
            while not stopped.is_set():
                first = self.sent
                values = [{"value": {"number": first + place}} for place in range(_BATCH)]
                answer = client.post(path, json={"records": values})
                later = " with Retry-After" if "Retry-After" in answer.headers else ""
                self.answers[f"{answer.status_code}{later}"] += 1
                due += _BATCH / self._pace
                stopped.wait(max(0.0, due - time.monotonic()))


class _Pressed:
    """One server, under a load that it can't do."""

    def __init__(self, server: Server, receiver: Receiver, pace: float) -> None:
        self._server = server
        self._receiver = receiver
        self.producers = {topic: _Producer(server, topic, pace) for topic in _TOPICS}
        self.most_lag = dict.fromkeys(_TOPICS, 0)
        self.memory: list[Counter[str]] = []
        self.at_the_end: dict[str, tuple[int, int]] = {}

    def run(self, seconds: float) -> None:
        """Load and look for so long, once both topics are full."""
        stopped = threading.Event()
        producers = self.producers.values()
        with self._server.client() as client:
            for topic in _TOPICS:
                self._make(client, topic)
            threads = [threading.Thread(target=one.run, args=(stopped,)) for one in producers]
            for thread in threads:
                thread.start()
            self._watch(client, lambda: min(self.most_lag.values()) >= _MOST)
            began = time.monotonic()
            for part in (0.0, 0.5, 1.0):
                self._watch(client, partial(_is_past, began + part * seconds))
                self.memory.append(self._memory())
            for topic, producer in self.producers.items():
                self.at_the_end[topic] = producer.sent, self.counts(client, topic)["taken"]
            stopped.set()
            for thread in threads:
                thread.join()
            self._drain(client)

    def _make(self, client: httpx.Client, topic: str) -> None:
        hook = {"url": f"http://localhost:{self._receiver.port}/{topic}", "secret": _SECRET}
        processor = {"name": topic, "kind": "webhook", "topic": topic, "webhook": hook}
        for path, body in (
            ("/topics", {"name": topic, **_TOPICS[topic]}),
            ("/processors", {**processor, "dead_letter_topic": None}),
        ):
            made = client.post(path, json=body)
            assert made.status_code == 201, made.text

    def _watch(self, client: httpx.Client, ended: Callable[[], bool]) -> None:
        """Look at the lags once a second until something is so."""
        while not ended():
            for topic in _TOPICS:
                lag = _asked(client, topic)["lag"]
                self.most_lag[topic] = max(self.most_lag[topic], lag)
            time.sleep(1.0)

    def _memory(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for pid, role in roles_below(self._server.pid):
            if role in _ROLES:
                found[_ROLES[role]] += round(pss_of(pid))
        return found

    def _drain(self, client: httpx.Client) -> None:
        until = time.monotonic() + _DRAIN_SECONDS
        while any(_asked(client, topic)["lag"] for topic in _TOPICS):
            assert time.monotonic() < until, "the processors don't come to an end"
            time.sleep(0.5)

    def counts(self, client: httpx.Client, topic: str) -> dict[str, int]:
        """What has become of a topic's records."""
        return dict(_asked(client, topic)["counts"])

    def received(self, topic: str) -> int:
        """Records that the receiver has got; one that came again counts once."""
        seen = self._receiver.seen
        return len({told["webhook-id"] for path, told, _ in seen if path == f"/{topic}"})


def _asked(client: httpx.Client, topic: str) -> Any:
    answer = client.get(f"/processors/{topic}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def _gone_in_metrics(client: httpx.Client, server: Server, topic: str) -> int:
    labels = f'outcome="gone",processor="{topic}",project="default"'
    begin = f"modelyard_processor_records_total{{{labels}}} "
    told = client.get(f"{server.url}/metrics").text.splitlines()
    [line] = [line for line in told if line.startswith(begin)]
    return int(float(line.removeprefix(begin)))


def _judged(pressed: _Pressed, server: Server) -> Iterator[tuple[str, bool]]:
    for topic, producer in pressed.producers.items():
        with server.client() as client:
            counts = pressed.counts(client, topic)
            told = _gone_in_metrics(client, server, topic)
        sent, taken = pressed.at_the_end[topic]
        received, most_lag = pressed.received(topic), pressed.most_lag[topic]
        print(f"{topic}: requests {dict(producer.answers)}; lag {most_lag:,} at most;")
        print(f"  accepted {producer.accepted:,}, received {received:,}, {counts}")
        yield f"{topic}: {sent / taken:.1f} times as many sent as taken", sent >= _TIMES * taken
        yield f"{topic}: the lag stays below {_MOST + _BATCH:,}", most_lag <= _MOST + _BATCH
        answers = {"201", "429 with Retry-After"} if topic == "held" else {"201"}
        yield f"{topic}: answers are {sorted(answers)}", set(producer.answers) == answers
        yield f"{topic}: what was taken was received", counts["taken"] == received
        counted = counts["taken"] + counts["gone"] == producer.accepted
        yield f"{topic}: taken and gone are what was accepted", counted and counts["gone"] == told
        if topic == "held":
            yield f"{topic}: nothing is gone", counts["gone"] == 0
    for role in sorted(set(_ROLES.values())):
        sizes = [found[role] for found in pressed.memory]
        growth = sizes[-1] / sizes[0]
        yield f"{role}: {sizes} MB, {growth:.2f} times at the end", growth <= _MOST_GROWTH


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds for a record")
    parser.add_argument("--log-url", default="")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    receiver = Receiver(given.pause)
    environment = {
        "MODELYARD_WORKERS": "0",
        "MODELYARD_LOG_LEVEL": "error",
        "MODELYARD_WEBHOOK_HOSTS": ",".join(receiver.allowed),
    }
    if given.log_url:
        environment["MODELYARD_LOG_URL"] = given.log_url
    with (
        tempfile.TemporaryDirectory(prefix="pressure-") as folder,
        Server(Path(folder), environment) as server,
    ):
        pressed = _Pressed(server, receiver, _PACE / given.pause)
        pressed.run(given.seconds)
        kept = list(_judged(pressed, server))
    receiver.close()
    print(f"load average {os.getloadavg()[0]:.1f}")
    return judged(kept)


if __name__ == "__main__":
    sys.exit(main())
