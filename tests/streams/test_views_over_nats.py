"""Lambda views of topics whose records are in a NATS: the same answers, to the byte."""

import time
from dataclasses import replace
from itertools import count

import pytest

from app.kernel.errors import Unavailable
from app.kernel.log.nats_stream import info
from tests.nats import NatsCluster, NatsServer
from tests.streams.test_view_layers import rebuilt, three_times_killed
from tests.streams.viewing import Viewing, flights

FLIGHTS = list(flights(300))


@pytest.fixture
def nats(tmp_path):
    """A real server."""
    server = NatsServer(tmp_path / "nats").start()
    server.wait_until_ready()
    yield server
    server.kill()


@pytest.fixture
def both(nats, tmp_path):
    """A view over a log in the database, and one over NATS."""
    found = []
    for name, url in (("sql", None), ("nats", f"nats://{nats.address}")):
        database = f"sqlite:///{tmp_path / name / 'views.db'}"
        found.append(Viewing(tmp_path / name, database, nats=url))
    yield found
    for viewing in found:
        viewing.close()


def test_both_logs_lead_to_the_same_states_batches_and_answers(both):
    told = []
    for viewing in both:
        viewing.produce(FLIGHTS[:200])
        viewing.catch_up()
        states = {place: state.digest for place, state in viewing.states().items()}
        batch = viewing.batch()
        viewing.produce(FLIGHTS[200:])
        viewing.catch_up()
        answer = viewing.told()
        assert answer["items"] == viewing.recomputed(answer["speed_offsets"])
        told.append((states, batch.digest, batch.outcome, answer))
    assert told[0] == told[1]
    assert told[0][2] == "serving"


def test_while_nats_is_away_answers_stay_as_they_were(both, nats):
    """Who closed a log whose server had died met a ConnectionResetError."""
    _, viewing = both
    viewing.produce(FLIGHTS[:50])
    viewing.catch_up()
    before = viewing.told()
    nats.kill()
    after = viewing.told()
    assert after["items"] == before["items"]
    assert (before["behind"], after["behind"]) == (0, None)


@pytest.mark.slow
@pytest.mark.long
def test_a_speed_layer_killed_three_times_comes_to_the_state_that_sql_leads_to(both):
    smooth, disturbed = both
    three_times_killed(disturbed, smooth)


def patiently(act):
    """What it gives at last, once the servers have agreed on a leader again."""
    until = time.monotonic() + 120
    while True:
        try:
            return act()
        except Unavailable:
            assert time.monotonic() < until


class PatientLog:
    """A log that is asked again while it is away, by the ids of its records."""

    def __init__(self, log):
        self._log = log
        self._numbers = count()

    def append(self, topic, records):
        known = [replace(record, id=str(next(self._numbers))) for record in records]
        return patiently(lambda: self._log.append(topic, known))

    def __getattr__(self, name):
        called = getattr(self._log, name)
        return lambda *args, **named: patiently(lambda: called(*args, **named))

    def leader(self, topic, partition):
        """The name of the server that leads a partition."""
        link = self._log._link
        told = patiently(lambda: link.run(lambda client: info(client, topic, partition)))
        return told["cluster"]["leader"]


class PatientViewing(Viewing):
    """One whose log is patient."""

    def open_log(self):
        return PatientLog(super().open_log())


class Killing:
    """Kills the server that leads a partition, each time another one, and starts the last again."""

    def __init__(self, cluster, viewing):
        self._cluster = cluster
        self._viewing = viewing
        self._dead = None
        self.names = []

    def __call__(self, moment):
        if self._dead is not None:
            self._dead.start()
            self._dead.wait_until_ready()
        self.names.append(self._viewing.log.leader(self._viewing.topic, moment % 3))
        self._dead = self._cluster.servers[self.names[-1]]
        self._dead.kill()


@pytest.mark.fault("F37")
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_answers_stay_exact_while_the_servers_below_a_view_die_in_turn(tmp_path):
    database = f"sqlite:///{tmp_path / 'views.db'}"
    with NatsCluster(tmp_path / "nats") as cluster:
        viewing = PatientViewing(tmp_path, database, nats=cluster.url, shape={"replicas": 3})
        killing = Killing(cluster, viewing)
        rebuilt(viewing, list(flights(1500)), moments=8, seed=3, before=killing)
        viewing.close()
    assert len(set(killing.names)) > 1
