"""The record logs that the contract is tried on, and a clock that can be moved."""

import time
from datetime import timedelta
from itertools import count

from app.kernel.log.nats_link import Address
from app.kernel.log.nats_log import NatsLog
from app.kernel.log.seam import NewRecord, Shape
from app.kernel.log.sql_log import SqlLog
from app.kernel.sql import Database, utc_now

_NAMES = count()


class SqlEngine:
    """Handles on one database; its clock is moved by hand."""

    def __init__(self, url):
        self.url = self.database_url = url
        self.database = Database(url)
        self.ahead = timedelta(0)

    def open(self):
        """Another handle on the same records."""
        return SqlLog(self.database, lambda: utc_now() + self.ahead)

    def let_pass(self, age):
        """Let records grow so old."""
        self.ahead += age

    def close(self):
        """Give back what is held."""
        self.database.close()


class NatsEngine:
    """Handles on one NATS; it has the time of day. Their outboxes share a database."""

    def __init__(self, url, database_url):
        self.url, self.database_url = url, database_url
        self.database = Database(database_url)

    def open(self):
        """Another handle on the same records."""
        return NatsLog(Address.parse(self.url), self.database)

    def let_pass(self, age):
        """Let records grow so old."""
        time.sleep(age.total_seconds())

    def close(self):
        """Give back what is held."""
        self.database.close()


def shape(partitions=1, **bounds):
    """Of a topic that each server of a cluster keeps."""
    return Shape(partitions, replicas=3, **bounds)


def new_topic(log, partitions=1, **bounds):
    """A topic of its own for a test."""
    name = f"t{next(_NAMES)}"
    log.create(name, shape(partitions, **bounds))
    return name


def numbered(numbers, *, key=None, ids=None):
    """Records whose values are numbers."""
    return [
        NewRecord(str(number).encode(), key=key, id=None if ids is None else f"{ids}-{number}")
        for number in numbers
    ]


def read_all(log, topic, partition=0, limit=100):
    """Every record of a partition that is kept, page by page."""
    position = log.bounds(topic)[partition][0]
    found = []
    while some := log.read(topic, partition, position, limit):
        found += some
        position = some[-1].offset + 1
    return found


def values(records):
    """The numbers of records made by ``numbered``."""
    return [int(record.value) for record in records]


def until(condition, seconds=60):
    """Until it holds; AssertionError when it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
