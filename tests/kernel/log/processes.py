# ruff: noqa: T201 - it tells the test what happens by its output
"""Processes that write to a log and read from it, for tests that kill them.

The process itself forks one for each line ``[name, arguments]`` that it reads, so that the imports
are paid once.
"""

import json
import os
import sys

from sqlalchemy import Column, Integer, MetaData, String, Table, select, update

from app.kernel.errors import Unavailable
from app.kernel.log.nats_link import Address
from app.kernel.log.nats_log import NatsLog
from app.kernel.log.seam import NewRecord
from app.kernel.log.sql_log import SqlLog
from app.kernel.sql import Database
from tests.kernel.log.engines import numbered

positions = Table(
    "positions",
    MetaData(),
    Column("topic", String(64), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", Integer),
    Column("total", Integer),
)


def opened(log_url, database_url):
    """A log of this process's own, and the database in which it remembers its position."""
    database = Database(database_url)
    if log_url.startswith("nats"):
        return NatsLog(Address.parse(log_url), database), database
    return SqlLog(database), database


def write(log_url, database_url, topic, name, count):
    """Append numbers under ids, three at a time; what may be lost is sent again."""
    log, _ = opened(log_url, database_url)
    for start in range(0, count, 3):
        records = numbered(range(start, min(start + 3, count)), ids=name)
        while True:
            try:
                log.append(topic, records)
                break
            except Unavailable:
                continue
    log.close()


def add_up(log_url, database_url, source, target, partition, end):
    """Append for each record of a partition the sum so far, from where the last one came to."""
    log, database = opened(log_url, database_url)
    of_this = (positions.c.topic == source) & (positions.c.partition == partition)
    while True:
        with database.read() as session:
            position, total = session.execute(
                select(positions.c.position, positions.c.total).where(of_this)
            ).one()
        if position == end:
            break
        found = log.read(source, partition, position, 7)
        sums = []
        for record in found:
            total += int(record.value)
            sums.append(NewRecord(str(total).encode(), key=record.key, partition=partition))
        with database.write() as session:
            moved = update(positions).where(of_this, positions.c.position == position)
            session.execute(moved.values(position=position + len(found), total=total))
            log.append_in(session, target, sums)
    log.close()


TASKS = {task.__name__: task for task in (write, add_up)}


def main():
    """Fork what is asked for; a line of nothing waits for one to end and says how it did."""
    for line in sys.stdin:
        asked = json.loads(line)
        if asked is None:
            pid, status = os.wait()
            print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            status = 1
            os.dup2(2, 1)
            try:
                TASKS[asked[0]](*asked[1])
                status = 0
            finally:
                os._exit(status)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
