"""A record log in a cluster of three NATS servers, whose servers die while it is written to."""

import threading
import time

import pytest

from app.kernel.errors import Unavailable
from app.kernel.log.nats_stream import PATIENCE, info
from app.kernel.log.seam import Appended
from tests.kernel.log.conftest import nats_engine_at
from tests.kernel.log.engines import new_topic, numbered, read_all, shape, until, values
from tests.nats import NatsServer
from tests.ports import free_port


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


@pytest.fixture
def joining(tmp_path):
    """Two servers of a cluster, and a third one that knows them and can be started."""
    routes = {name: free_port() for name in ("a", "b", "c")}
    first = {name: routes[name] for name in ("a", "b")}
    made = [
        NatsServer(tmp_path / name, name, routes=routes if name == "c" else first)
        for name in routes
    ]
    for server in made[:2]:
        server.start()
    yield made
    for server in made:
        server.kill()


@pytest.mark.slow
@pytest.mark.long
def test_a_topic_waits_for_servers_that_do_not_know_each_other_yet(joining, tmp_path_factory):
    """It was refused at once, as if no other server could come: a cluster was just starting."""
    for server in joining[:2]:
        server.wait_until_ready()
    with nats_engine_at(f"nats://{joining[0].address}", tmp_path_factory) as engine:
        log, started = engine.open(), time.monotonic()
        with pytest.raises(Unavailable, match="no suitable peers"):
            log.create("t", shape())
        assert time.monotonic() - started > PATIENCE / 2
        joining[2].start()
        until(lambda: is_made(log, "t"))
        assert log.append("t", numbered([1])) == [Appended(0, 0, False)]
        log.close()


def is_made(log, topic):
    """Whether all servers of a cluster keep a topic."""
    try:
        log.create(topic, shape())
    except Unavailable:
        return False
    return True
