"""An installation whose processors are run by the test itself."""

import json
import time

from app.kernel.log.seam import NewRecord
from app.processor_role import make_runtime

PROCESSORS = "/api/v1/processors"
WINDOWS = {
    "window": {"size_seconds": 10},
    "aggregates": {
        "n": {"function": "count"},
        "total": {"function": "sum", "field": "x"},
    },
    "time_field": "at",
}
AGGREGATE = {
    "name": "sums",
    "kind": "aggregate",
    "topic": "in",
    "output_topic": "out",
    "dead_letter_topic": "dead",
    "aggregate": WINDOWS,
}


class Streaming:
    """Topics and processors of a yard."""

    def __init__(self, yard):
        self.yard = yard
        self.log = yard.wiring.record_log
        self.client = yard.client()
        self.runtimes = []

    def topics(self, *names, **fields):
        """Make topics."""
        for name in names:
            answer = self.client.post("/api/v1/topics", json={"name": name, **fields})
            assert answer.status_code == 201, answer.text

    def topic_id(self, name):
        return self.yard.wiring.topics.find(self.yard.call(), name).id

    def append(self, topic, *values, key=b"k"):
        """Append values as JSON; bytes as they are."""
        records = [
            NewRecord(value if isinstance(value, bytes) else json.dumps(value).encode(), key=key)
            for value in values
        ]
        self.log.append(self.topic_id(topic), records)

    def records(self, topic):
        """All records of a topic, partition by partition."""
        name = self.topic_id(topic)
        found = []
        for partition, (first, end) in self.log.bounds(name).items():
            offset = first
            while offset < end:
                found += self.log.read(name, partition, offset, 1000)
                offset = found[-1].offset + 1
        return found

    def values(self, topic):
        return [json.loads(record.value) for record in self.records(topic)]

    def create(self, **changes):
        """Make a processor."""
        body = {**AGGREGATE, **changes}
        if body["kind"] != "aggregate":
            del body["aggregate"]
        answer = self.client.post(PROCESSORS, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json

    def get(self, name="sums"):
        answer = self.client.get(f"{PROCESSORS}/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json

    def runtime(self, client="one"):
        """Another process, as far as the groups can tell; it goes on when it is turned."""
        made = make_runtime(self.yard.wiring, client)
        self.runtimes.append(made)
        return made

    def run_until(self, condition, seconds=90):
        """Let all runtimes go on until something is so."""
        if not self.runtimes:
            self.runtime()
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it doesn't come"
            for runtime in self.runtimes:
                runtime.turn()
            time.sleep(0.005)

    def run_out(self, name="sums"):
        """Until a processor has read everything."""
        self.run_until(lambda: self.get(name)["lag"] == 0)

    def close(self):
        for runtime in self.runtimes:
            runtime.stop()
            runtime.run()
