"""A record log in a cluster of three NATS servers, whose servers die while it is written to."""

import threading
import time

import pytest

from app.kernel.errors import Unavailable
from app.kernel.log.nats_stream import info
from tests.kernel.log.engines import new_topic, numbered, read_all, until, values


@pytest.fixture
def engine(cluster_engine):
    return cluster_engine


def leader_of(log, topic):
    """The name of the server that leads the topic's first partition."""
    return log._link.run(lambda client: info(client, topic, 0))["cluster"]["leader"]


def kill_leaders(cluster, log, topic, at, revive):
    """Kill the leader each time the topic has come so far; start it again if asked to."""
    for count in at:
        while log.bounds(topic)[0][1] < count:
            time.sleep(0.005)
        server = cluster.servers[leader_of(log, topic)]
        server.kill()
        if revive:
            time.sleep(1.0)
            server.start()
            server.wait_until_ready()


def produce(engine, cluster, count, kills):
    """Append numbers in batches while leaders are killed; what the topic holds then."""
    log, watcher = engine.open(), engine.open()
    topic = new_topic(log)
    killer = threading.Thread(target=kill_leaders, args=(cluster, watcher, topic, kills, True))
    killer.start()
    for start in range(0, count, 25):
        batch = numbered(range(start, start + 25), key=b"k", ids="p")
        while True:
            try:
                told = log.append(topic, batch)
                break
            except Unavailable:
                continue
        assert [item.offset for item in told] == list(range(start, start + 25))
    killer.join()
    found = read_all(log, topic)
    log.close()
    watcher.close()
    return found


@pytest.mark.fault("F37")
def test_a_leader_that_is_killed_while_producing_loses_doubles_and_reorders_nothing(
    cluster, engine
):
    found = produce(engine, cluster, 1500, [500])
    assert values(found) == list(range(1500))
    assert [record.offset for record in found] == list(range(1500))


@pytest.mark.fault("F37")
@pytest.mark.slow
@pytest.mark.long
def test_three_leaders_killed_while_producing_6000_records(cluster, engine):
    found = produce(engine, cluster, 6000, [1000, 2500, 4500])
    assert values(found) == list(range(6000))
    assert [record.offset for record in found] == list(range(6000))


def is_usable(log):
    """Whether ``/readyz`` would say so."""
    try:
        log.ping()
    except Unavailable:
        return False
    return True


@pytest.mark.fault("F37")
@pytest.mark.slow
@pytest.mark.long
def test_without_a_majority_nothing_is_taken_and_all_of_it_goes_on_after(cluster, engine):
    log = engine.open()
    topic = new_topic(log)
    log.append(topic, numbered(range(10), ids="a"))
    two = list(cluster.servers.values())[:2]
    for server in two:
        server.kill()
    with pytest.raises(Unavailable) as refused:
        log.append(topic, numbered(range(10, 20), ids="a"))
    assert refused.value.retry_after
    # A leader takes some seconds to believe that its followers are gone.
    until(lambda: not is_usable(log))
    for server in two:
        server.start()
    until(lambda: is_usable(log))
    log.append(topic, numbered(range(20), ids="a"))
    assert values(read_all(log, topic)) == list(range(20))
    log.close()
