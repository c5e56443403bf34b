"""Fifty writers on one model at once: no gap, no update lost, one winner for each ETag."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.rounds import rounds
from tests.models.modelyard import API, Modelyard

WRITERS = 50
MODEL = f"{API}/models/penguins"
CHAMPION = f"{MODEL}/aliases/champion"
pytestmark = pytest.mark.fault("F20")


@pytest.fixture
def written(tmp_path, database_url):
    made = Modelyard(tmp_path / "home", database_url)
    made.register()
    made.put_alias("champion", 1)
    yield made
    made.close()


def all_at_once(write, writers=WRITERS):
    """The answers of as many writers that begin together."""
    together = threading.Barrier(writers)

    def begin(number):
        together.wait(60)
        return write(number)

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(begin, range(writers)))


def statuses(answers):
    return Counter(answer.status_code for answer in answers)


def test_versions_are_numbered_without_a_gap(written):
    peer = {"Authorization": written.peer("models:register").environ_base["HTTP_AUTHORIZATION"]}
    bodies = [written.registration() for _ in range(WRITERS)]

    def register(number):
        path = f"{MODEL}/versions"
        return written.client("").post(path, json=bodies[number], headers=peer)

    answers = all_at_once(register)
    assert statuses(answers) == {201: WRITERS}
    assert sorted(answer.json["version"] for answer in answers) == list(range(2, WRITERS + 2))
    made = {answer.json["version"]: answer.json["lineage"]["training_run"] for answer in answers}
    assert sorted(made.values()) == sorted(body["training_run"] for body in bodies)
    told = [data["version"] for kind, data in written.events() if kind == "version.registered"]
    assert told == list(range(1, WRITERS + 2))
    assert written.client().get(MODEL).json["newest_version"] == WRITERS + 1


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        (MODEL, "patch", lambda number, turn: {"tags": {"writer": f"{number} of {turn}"}}),
        (CHAMPION, "put", lambda _, turn: {"version": 1 + turn % 2}),
        (
            f"{MODEL}/versions/1",
            "patch",
            lambda number, turn: {"tags": {"writer": f"{number} of {turn}"}},
        ),
    ],
)
def test_of_many_who_have_read_the_same_one_wins(written, path, method, body):
    """Two won where one wrote what was there already, which changes nothing."""
    written.register()
    for turn in range(1, rounds(quick=1, full=20) + 1):
        etag = written.client().get(path).headers["ETag"]

        def write(number, etag=etag, turn=turn):
            call = getattr(written.client(), method)
            return call(path, json=body(number, turn), headers={"If-Match": etag})

        answers = all_at_once(write)
        assert statuses(answers) == {200: 1, 412: WRITERS - 1}
        [winner] = [answer for answer in answers if answer.status_code == 200]
        now = written.client().get(path)
        assert (now.json, now.headers["ETag"]) == (winner.json, winner.headers["ETag"])


def test_an_alias_that_many_make_is_made_once_and_each_move_is_in_its_history(written):
    path = f"{MODEL}/aliases/new"
    answers = all_at_once(lambda _: written.client().put(path, json={"version": 1}))
    assert statuses(answers) == {201: 1, 200: WRITERS - 1}
    assert written.client().get(path).json["version"] == 1


def test_changes_on_several_things_at_once_are_all_there(written):
    def write(number):
        client = written.client()
        if number % 2:
            return client.put(f"{MODEL}/aliases/a-{number}", json={"version": 1})
        return client.patch(MODEL, json={"description": f"by {number}"})

    answers = all_at_once(write)
    assert statuses(answers) == {201: WRITERS // 2, 200: WRITERS // 2}
    listed = written.client().get(f"{MODEL}/aliases?page_size=100").json["items"]
    assert len(listed) == WRITERS // 2 + 1
