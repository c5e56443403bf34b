"""A moved alias: what it moves to is loaded first, and no answer is wrong, late or refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from app.factory import create_app
from app.predictions import follower
from app.wiring import Wiring
from tests.predictions.predicting import ROW, Predicting

API = "/api/v1/models/fast"
BODY = {"inputs": [ROW]}
PROMISED_SECONDS = 1.0


def with_two_versions(made):
    """The model ``fast`` has two versions that answer differently; champion is the first."""
    made.outputs = {1: made.expected("fast", [ROW])}
    made.make("fast", LogisticRegression(C=1e-3))
    made.outputs[2] = made.expected("fast", [ROW])
    move(made, 1)
    return made


@pytest.fixture
def yard(tmp_path):
    """Over SQLite: what the database is has no part in what is loaded when."""
    made = with_two_versions(Predicting(tmp_path))
    yield made
    made.close()


def move(yard, version):
    moved = yard.client().put(f"{API}/aliases/champion", json={"version": version})
    assert moved.status_code in (200, 201)


def ask(yard, query="", app=None):
    client = (app or yard.app).test_client()
    headers = {"Authorization": f"Bearer {yard.admin_key}"}
    return client.post(f"{API}/predict{query}", json=BODY, headers=headers)


def answered_by(yard, query="", app=None):
    """The version that the answer names; the answer is that version's own."""
    answer = ask(yard, query, app)
    assert answer.status_code == 200, answer.text
    given = answer.json["outputs"][0]["probabilities"]
    expected = yard.outputs[answer.json["version"]][0]
    assert np.allclose([given["heavy"], given["light"]], expected, atol=1e-9)
    return answer.json["version"]


def misses(wiring):
    value = wiring.registry.get_sample_value
    return value("modelyard_model_cache_lookups_total", {"outcome": "miss"})


class Gate:
    """Holds up whoever opens an artifact of a version, until it is let go."""

    def __init__(self, yard, version):
        cache = yard.wiring.engine._cache
        self.reached, self.go_on, self._open = threading.Event(), threading.Event(), cache._open
        self._version = version
        cache._open = self.open

    def open(self, location, format_):
        if location["version"] == self._version:
            self.reached.set()
            assert self.go_on.wait(30)
        return self._open(location, format_)


@pytest.fixture
def following(yard):
    """As in the API: a thread follows."""
    answered_by(yard)
    with followed(yard, [yard.wiring]):
        yield


def until(condition):
    """Wait for it; how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < 30
        time.sleep(0.005)
    return time.monotonic() - started


@pytest.mark.parametrize("way", ["alias", "newest"])
def test_no_request_loads_what_is_switched_to(yard, way):
    """Each replica's first request after a move waited for the new version's loading."""
    yard.wiring.follower.follow_once(wait=0)
    assert answered_by(yard) == 1
    if way == "alias":
        move(yard, 2)
    else:
        assert yard.client().delete(f"{API}/aliases/champion").status_code == 204
    yard.wiring.follower.follow_once(wait=0)
    loaded = misses(yard.wiring)
    assert answered_by(yard) == 2
    assert misses(yard.wiring) == loaded == 2


def test_an_alias_of_the_scorers_versions_moves_too(yard):
    yard.wiring.follower.follow_once(wait=0)
    assert answered_by(yard) == 1
    yard.make("fast", KNeighborsClassifier())
    yard.outputs[3] = yard.expected("fast", [ROW])
    for version in (3, 2):
        move(yard, version)
        yard.wiring.follower.follow_once(wait=0)
        assert answered_by(yard) == version


def test_the_newest_version_of_a_model_in_use_is_loaded_before_an_alias_moves_to_it(yard):
    yard.wiring.follower.follow_once(wait=0)
    assert answered_by(yard) == 1
    yard.make("fast", LogisticRegression(C=1e-2))
    yard.wiring.follower.follow_once(wait=0)
    yard.outputs[3] = yard.expected("fast", [ROW])
    loaded = misses(yard.wiring)
    assert answered_by(yard, "?version=3") == 3
    assert misses(yard.wiring) == loaded


def test_the_old_version_answers_while_the_new_one_is_loaded(yard, following):
    gate = Gate(yard, 2)
    move(yard, 2)
    assert gate.reached.wait(30)
    assert [answered_by(yard) for _ in range(5)] == [1] * 5
    with ThreadPoolExecutor(1) as named:
        asked = named.submit(answered_by, yard, "?version=2")
        assert answered_by(yard, "?alias=champion") == 1
        gate.go_on.set()
        assert asked.result() == 2
    assert until(lambda: answered_by(yard) == 2) < 10 * PROMISED_SECONDS


def test_what_takes_too_long_to_load_is_switched_to_in_the_end(yard, following, monkeypatch):
    monkeypatch.setattr(follower, "SWITCH_SECONDS", 0.2)
    gate = Gate(yard, 2)
    move(yard, 2)
    assert gate.reached.wait(30)
    place = ("default", "fast")
    until(lambda: yard.wiring.directory.known_of(place).state["aliases"]["champion"] == 2)
    with ThreadPoolExecutor(1) as waiting:
        asked = waiting.submit(answered_by, yard)
        gate.go_on.set()
        assert asked.result() == 2


def test_a_later_move_is_not_undone_by_an_earlier_one_that_took_longer(yard, following):
    yard.make("fast", LogisticRegression(C=1e-2))
    yard.outputs[3] = yard.expected("fast", [ROW])
    gate = Gate(yard, 2)
    move(yard, 2)
    assert gate.reached.wait(30)
    move(yard, 3)
    until(lambda: answered_by(yard) == 3)
    gate.go_on.set()
    until(lambda: yard.wiring.engine._cache._loading == {})
    assert [answered_by(yard) for _ in range(20)] == [3] * 20


def test_a_version_that_is_no_more_is_no_longer_held(yard):
    yard.wiring.follower.follow_once(wait=0)
    assert (answered_by(yard), answered_by(yard, "?version=2")) == (1, 2)
    assert len(yard.wiring.engine._cache._loaded) == 2
    assert yard.client().delete(f"{API}/versions/2").status_code == 204
    yard.wiring.follower.follow_once(wait=0)
    assert len(yard.wiring.engine._cache._loaded) == 1
    for path in (f"{API}/aliases/champion", API):
        assert yard.client().delete(path).status_code == 204
    yard.wiring.follower.follow_once(wait=0)
    assert len(yard.wiring.engine._cache._loaded) == 0


@contextmanager
def hammered(yard, apps):
    """All the apps are asked, without a pause, meanwhile; raises what any answer was not."""
    stopped = threading.Event()

    def hammer(app):
        while not stopped.is_set():
            answered_by(yard, app=app)

    with ThreadPoolExecutor(len(apps)) as executor:
        hammers = [executor.submit(hammer, app) for app in apps]
        try:
            yield
        finally:
            stopped.set()
        for done in hammers:
            done.result()


@contextmanager
def followed(yard, wirings):
    """As in the API processes: a thread of each follows."""
    threads = [threading.Thread(target=w.follower.follow, daemon=True) for w in wirings]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for wiring in wirings:
            wiring.follower.stop()
        yard.client().patch(API, json={"description": "This ends their waiting"})
        for thread in threads:
            thread.join(30)


def test_an_alias_that_moves_to_and_fro_is_followed_by_replicas_under_load(any_predicting):
    """Two replicas, both asked all the time: each answer is that of the version it names."""
    yard = with_two_versions(any_predicting)
    other = Wiring(yard.settings)
    apps = [yard.app, create_app(other.settings, other)]
    took = []
    with followed(yard, [yard.wiring, other]), hammered(yard, apps):
        for version in (2, 1, 2, 1):
            move(yard, version)
            took += [until(lambda a=a, v=version: answered_by(yard, app=a) == v) for a in apps]
    other.close()
    assert max(took) < 10 * PROMISED_SECONDS


class Meanwhile:
    """Does something once, between an answer about a model's state and its arrival."""

    def __init__(self, asked, name, act):
        self._act, self._answer = act, getattr(asked, name)
        setattr(asked, name, self)

    def __call__(self, call, model):
        answer = self._answer(call, model)
        act, self._act = self._act, lambda: None
        act()
        return answer


def test_a_first_request_beside_a_move_is_told_of_it(yard):
    """The state before the move came after its event, and stayed in force until the next one."""
    yard.wiring.follower.follow_once(wait=0)

    def move_and_follow():
        move(yard, 2)
        yard.wiring.follower.follow_once(wait=0)

    Meanwhile(yard.wiring.directory._models, "state", move_and_follow)
    assert answered_by(yard) == 2


def test_a_first_request_beside_a_deletion_finds_nothing(yard):
    yard.wiring.follower.follow_once(wait=0)

    def delete_and_follow():
        for path in (f"{API}/aliases/champion", API):
            assert yard.client().delete(path).status_code == 204
        yard.wiring.follower.follow_once(wait=0)

    Meanwhile(yard.wiring.directory._models, "state", delete_and_follow)
    assert ask(yard).status_code == 404


def test_what_is_loaded_while_news_are_asked_for_stays_loaded(yard):
    """A version in use was let go by older news; with its bytes out of reach it was gone."""
    yard.wiring.follower.follow_once(wait=0)
    assert answered_by(yard) == 1
    yard.client().patch(API, json={"description": "News, but none that matters here"})
    Meanwhile(yard.wiring.directory, "ask_state", lambda: answered_by(yard, "?version=2"))
    yard.wiring.follower.follow_once(wait=0)
    loaded = misses(yard.wiring)
    assert answered_by(yard, "?version=2") == 2
    assert misses(yard.wiring) == loaded == 2
