"""Lambda views of topics whose records are in a NATS: the same answers, to the byte."""

import pytest

from tests.nats import NatsServer
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
