"""Workers that die amidst the batch of a model view: the next one makes it, and it comes once."""

import pytest
from sqlalchemy import select

from app.streams.learning.tables import ViewModelState
from app.streams.views.tables import LambdaView, SpeedState
from tests.faults.workers import eventually, workers_of_module
from tests.streams.flights import moments
from tests.streams.model_viewing import VIEWS, ModelViewing

pytestmark = [pytest.mark.slow, pytest.mark.long]
CUT, MEANWHILE, END = 1500, 1700, 1900


@pytest.fixture(scope="module")
def workers():
    """Starts and kills real workers."""
    with workers_of_module() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def viewing(request, tmp_path, workers):
    """A topic with two views of the same flights."""
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    made = ModelViewing(tmp_path / "home", url)
    for name in ("calm", "shot"):
        made.make_view(name, model=name, dataset=name)
    made.produce(moments(60)[:CUT])
    made.fold()
    yield made
    workers.end()
    made.close()


def ask_for_batch(viewing, name):
    answer = viewing.client().post(f"{VIEWS}/{name}/batches")
    assert answer.status_code == 202, answer.text


def ended(viewing, name):
    """The one batch of a view once it has ended."""

    def look():
        [batch] = viewing.told("/batches", name)["items"]
        return batch if batch["state"] in ("succeeded", "failed") else None

    return eventually(look, seconds=120)


def states(viewing, name):
    """What the answers of a view are merged with, and how its layers were judged."""
    told = viewing.told("/state", name)
    places = [(one["speed_offset"], one["records"], one["digest"]) for one in told["partitions"]]
    return places, viewing.told("/metrics", name)["in_all"]


def numbers(viewing, name):
    """The batches after which there are speed states and learners."""
    with viewing.wiring.database("streams").read() as session:
        view = session.scalar(select(LambdaView.id).where(LambdaView.name == name))
        return [
            set(session.scalars(select(table.number).where(table.view_id == view)))
            for table in (SpeedState, ViewModelState)
        ]


@pytest.mark.fault("F38")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["examples_kept", "caught_up", "swapped"])
def test_a_batch_whose_worker_is_killed_comes_into_place_once(viewing, workers, moment):
    ask_for_batch(viewing, "calm")
    workers.start(viewing)
    assert ended(viewing, "calm")["outcome"] == "serving"
    workers.end()
    ask_for_batch(viewing, "shot")
    mortal = workers.start(viewing, f"views.{moment}=kill@1")
    eventually(mortal.has_ended, seconds=120)
    came = viewing.told("", "shot")["batch_version"] == 1
    assert came is (moment == "swapped")
    if came:
        viewing.produce(moments(60)[CUT:MEANWHILE])
        viewing.fold()
    workers.start(viewing)
    batch = ended(viewing, "shot")
    assert (batch["outcome"], batch["records"]) == ("serving", CUT)
    # Of one that is in place already the next worker says no more than that.
    assert batch["attempt"] > 1 or came
    viewing.produce(moments(60)[MEANWHILE if came else CUT : END])
    viewing.fold()
    assert states(viewing, "shot") == states(viewing, "calm")
    assert numbers(viewing, "shot") == [{1}, {1}]
    [version] = viewing.client().get("/api/v1/models/shot/versions").json["items"]
    assert version["tags"]["batch"] == "1"
