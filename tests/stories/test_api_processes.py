"""Several API processes on one host: one server to its clients, whichever of them answers."""

import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import Server, wait_for
from tests.stories.main_job import PENGUINS, first_rows, main_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PREDICT = "/models/penguins/predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environment = {"MODELYARD_API_PROCESSES": "2", "MODELYARD_PROCESSORS": "0"}
    with Server(tmp_path_factory.mktemp("api") / "home", environment) as started:
        with started.client() as client:
            main_job(client, estimator={"name": "LogisticRegression"})
        yield started


def eventually(condition, seconds=60):
    """What a condition gives, once that is something; by a new connection at each look."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def ask(server, method, path, **sent):
    """By a new connection, so that any of the processes may get it."""
    with server.client() as client:
        return client.request(method, path, **sent)


def predictions_by_process(server):
    """How many each process has answered, as any of them tells it."""
    with server.client() as client:
        text = client.get(f"{server.url}/metrics").text
    counted = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == "modelyard_predicted_rows_total":
                process = one.labels["process"]
                counted[process] = counted.get(process, 0) + one.value
    return counted


def test_each_has_its_share_and_any_of_them_tells_all_figures(server):
    before = predictions_by_process(server)
    sent = 0

    def both_have_answered():
        nonlocal sent
        answer = ask(server, "POST", PREDICT, json={"inputs": first_rows(1)})
        assert answer.status_code == 200, answer.text
        sent += 1
        now = predictions_by_process(server)
        assert sum(now.values()) == sum(before.values()) + sent
        return all(now.get(name, 0) > before.get(name, 0) for name in ("api-1", "api-2"))

    eventually(both_have_answered)


def test_a_moved_alias_is_in_force_in_each(server):
    accepted = ask(
        server,
        "POST",
        "/training-runs",
        json={
            "model": "penguins",
            "dataset": "penguins",
            "target": "species",
            "estimator": {"name": "DummyClassifier"},
        },
    ).json()
    with server.client() as client:
        assert wait_for(client, f"/training-runs/{accepted['id']}")["state"] == "succeeded"
    for version in (1, 2, 1):
        moved = ask(server, "PUT", "/models/penguins/aliases/champion", json={"version": version})
        assert moved.status_code in (200, 201)
        # Twenty in a row come to both: one that never does, or not for long, would be seen.
        row = 0

        def twenty_in_a_row(version=version):
            nonlocal row
            answer = ask(server, "POST", PREDICT, json={"inputs": first_rows(1)})
            row = row + 1 if answer.json()["version"] == version else 0
            return row == 20

        eventually(twenty_in_a_row)


def test_an_upload_and_its_reading_may_meet_different_processes(server):
    for number in range(6):
        name = f"table-{number}"
        table = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}
        made = ask(server, "POST", "/datasets", data={"name": name}, files=table)
        assert made.status_code == 201, made.text
        assert ask(server, "GET", f"/datasets/{name}/versions/1").json()["rows"] == 344


def test_one_that_is_killed_is_replaced_and_the_other_answers(server):
    killed = server.processes("role api")[-1]
    before = len(server.processes("role api"))
    killed.kill()

    def answers():
        try:
            return ask(server, "GET", f"{server.url}/livez").status_code == 200
        except httpx.TransportError:
            # It was one of the dead one's last connections.
            return False

    eventually(answers)
    eventually(lambda: len(server.processes("role api")) == before)
    eventually(lambda: {"api-1", "api-2"} <= up(server))


def up(server):
    """The processes that answer to their neighbours."""
    try:
        with server.client() as client:
            text = client.get(f"{server.url}/metrics").text
    except httpx.TransportError:
        return set()
    return {
        one.labels["process"]
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "modelyard_process_up" and one.value == 1
    }
