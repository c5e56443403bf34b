"""What the doctor learns of NATS, from real servers."""

import pytest

from app.config import Settings
from app.examination import record_log
from app.installation import examine_monitors
from app.kernel.log.nats_cluster import look_at
from app.kernel.log.nats_link import Address
from app.kernel.log.seam import Shape
from app.kernel.migrations import upgrade
from app.wiring import Wiring
from tests.nats import NatsCluster, NatsServer


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One server that waits for the disk."""
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    server.wait_until_ready()
    yield server
    server.kill()


@pytest.fixture
def wired(tmp_path):
    """Makes the wiring of an installation whose records lie in NATS."""
    made = []

    def make(url):
        environment = {"MODELYARD_HOME": str(tmp_path), "MODELYARD_LOG_URL": url}
        made.append(Wiring(Settings.from_environment(environment)))
        for history in ("kernel", "streams"):
            upgrade(made[-1].database("streams"), history)
        return made[-1]

    yield make
    for wiring in made:
        wiring.close()


def test_one_server_is_told_with_what_it_lacks(alone, wired):
    wiring = wired(f"nats://{alone.address}")
    wiring.record_log.create("flights", Shape(2))
    well, note = record_log(wiring)
    assert well.level == "ok"
    assert well.text.endswith(", 1 server, 2 streams")
    assert (note.level, note.advice) == ("note", "make NATS a cluster of three")
    assert look_at(Address.parse(f"nats://{alone.address}")).version >= (2, 12, 0)


def test_a_server_that_is_away_is_told(wired):
    (found,) = record_log(wired("nats://127.0.0.1:1"))
    assert (found.level, found.advice) == ("bad", "start NATS, or mend MODELYARD_LOG_URL")


def test_whether_a_server_waits_for_the_disk_is_told_by_its_monitor(alone, tmp_path):
    hasty = NatsServer(tmp_path / "hasty")
    configuration = hasty.folder / "server.conf"
    configuration.write_text(configuration.read_text().replace(", sync_interval: always", ""))
    hasty.start().wait_until_ready()
    try:
        addresses = [f"http://127.0.0.1:{server.monitor}" for server in (alone, hasty)]
        found = list(examine_monitors([*addresses, "http://127.0.0.1:1", "nonsense"]))
    finally:
        hasty.kill()
    assert [finding.level for finding in found] == ["ok", "note", "bad", "bad"]
    assert "sync_interval: always" in found[1].advice


@pytest.mark.slow
@pytest.mark.long
def test_a_cluster_that_has_lost_a_server(tmp_path, wired):
    with NatsCluster(tmp_path / "cluster") as cluster:
        wiring = wired(cluster.url)
        wiring.record_log.create("flights", Shape(1, replicas=3))
        wiring.record_log.create("hasty", Shape(1, replicas=1))
        before = list(record_log(wiring))
        assert [finding.level for finding in before] == ["ok", "note"]
        assert "modelyard-hasty-0 has 1 of 3 copies" in before[1].text
        leader = look_at(Address.parse(cluster.url))
        assert leader.servers >= 3
        cluster.servers["c"].kill()
        lagging = []
        while not lagging:
            lagging = [one for one in record_log(wiring) if "lags behind on c" in one.text]
