"""Deleting models and versions: refused while needed, rows first, then bytes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from app.kernel.sql import utc_now
from app.models.ports import Reference
from tests.models.modelyard import API, Modelyard

MODEL = f"{API}/models/penguins"
BATCH = Reference("predictions", "batch-predictions/1", "running", "It uses the version")


def test_a_deleted_version_is_gone_with_its_bytes(any_yard: Modelyard) -> None:
    any_yard.register()
    assert len(any_yard.stored_keys()) == 1
    client = any_yard.client()
    assert client.delete(f"{MODEL}/versions/1").status_code == 204
    assert client.get(f"{MODEL}/versions/1").status_code == 404
    assert client.delete(f"{MODEL}/versions/1").status_code == 404
    assert any_yard.stored_keys() == []
    assert client.get(MODEL).json["newest_version"] is None
    assert any_yard.events()[-1][0] == "version.deleted"


def test_a_deleted_model_is_gone_with_all_it_had(any_yard: Modelyard) -> None:
    for _ in range(2):
        any_yard.register()
    any_yard.put_alias("champion", 1)
    client = any_yard.client()
    client.delete(f"{MODEL}/aliases/champion")
    assert client.delete(MODEL).status_code == 204
    assert client.get(MODEL).status_code == 404
    assert any_yard.stored_keys() == []
    assert any_yard.events()[-1] == ("model.deleted", {"model": "penguins"})
    assert any_yard.register()["version"] == 1
    assert client.get(f"{MODEL}/aliases/champion/history").status_code == 404


def test_an_alias_keeps_its_version_and_its_model(any_yard: Modelyard) -> None:
    for _ in range(2):
        any_yard.register()
    any_yard.put_alias("champion", 1)
    client = any_yard.client()
    for path in (f"{MODEL}/versions/1", MODEL):
        refused = client.delete(path)
        assert refused.status_code == 409
        (referrer,) = refused.json["referrers"]
        assert referrer["subject"] == "models/penguins/aliases/champion"
    assert client.delete(f"{MODEL}/versions/2").status_code == 204
    assert any_yard.put_alias("champion", 1).status_code == 200


def test_what_others_still_need_stays(any_yard: Modelyard) -> None:
    any_yard.register()
    any_yard.others.found = [BATCH]
    for path in (f"{MODEL}/versions/1", MODEL):
        refused = any_yard.client().delete(path)
        assert refused.status_code == 409
        assert refused.json["referrers"] == [vars(BATCH)]
    assert any_yard.others.asked == [("penguins", 1), ("penguins", None)]
    any_yard.others.found = []
    assert any_yard.client().delete(MODEL).status_code == 204


def test_nothing_is_deleted_while_a_referrer_cannot_be_asked(any_yard: Modelyard) -> None:
    any_yard.register()
    any_yard.others.away = True
    refused = any_yard.client().delete(f"{MODEL}/versions/1")
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    any_yard.others.away = False
    assert any_yard.client().delete(f"{MODEL}/versions/1").status_code == 204


def test_a_refused_deletion_leaves_the_etag_alone(any_yard: Modelyard) -> None:
    any_yard.register()
    before = any_yard.client().get(f"{MODEL}/versions/1").headers["ETag"]
    any_yard.others.found = [BATCH]
    any_yard.client().delete(f"{MODEL}/versions/1")
    assert any_yard.client().get(f"{MODEL}/versions/1").headers["ETag"] == before


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_if_match_guards_a_deletion(any_yard: Modelyard, path: str) -> None:
    any_yard.register()
    client = any_yard.client()
    etag = client.get(path).headers["ETag"]
    client.patch(path, json={"description": "changed"})
    assert client.delete(path, headers={"If-Match": etag}).status_code == 412
    etag = client.get(path).headers["ETag"]
    assert client.delete(path, headers={"If-Match": etag}).status_code == 204


def test_a_dry_run_tells_and_deletes_nothing(any_yard: Modelyard) -> None:
    for _ in range(2):
        any_yard.register()
    any_yard.put_alias("champion", 2)
    any_yard.others.found = [BATCH]
    plan = any_yard.client().delete(f"{MODEL}?dry_run=true")
    assert plan.status_code == 200
    assert (plan.json["versions"], plan.json["artifacts"], plan.json["allowed"]) == (
        [1, 2],
        2,
        False,
    )
    subjects = [referrer["subject"] for referrer in plan.json["referrers"]]
    assert subjects == ["models/penguins/aliases/champion", "batch-predictions/1"]
    any_yard.others.found = []
    free = any_yard.client().delete(f"{MODEL}/versions/1?dry_run=true").json
    assert (free["versions"], free["allowed"]) == ([1], True)
    assert len(any_yard.client().get(f"{MODEL}/versions").json["items"]) == 2
    assert any_yard.client().delete(f"{MODEL}?dry_run=maybe").status_code == 422


def test_while_it_is_being_deleted_nothing_new_can_refer_to_it(any_yard: Modelyard) -> None:
    for _ in range(2):
        any_yard.register()

    def others_try() -> list[int]:
        client, body = any_yard.client(), any_yard.registration()
        peer = any_yard.peer("models:register")
        answers = (
            peer.post(f"{MODEL}/versions", json=body),
            any_yard.put_alias("champion", 1),
            client.delete(MODEL),
            client.patch(MODEL, json={"description": "x"}),
            client.get(MODEL),
        )
        return [answer.status_code for answer in answers]

    with ThreadPoolExecutor(1) as pool:
        asked = []
        any_yard.others.hook = lambda: asked.append(pool.submit(others_try).result())
        assert any_yard.client().delete(MODEL).status_code == 204
    assert asked == [[409, 409, 409, 409, 200]]


def test_the_mark_of_a_process_that_died_is_worth_nothing_later(any_yard: Modelyard) -> None:
    any_yard.register()
    database = any_yard.wiring.database("models")
    with database.write() as session:
        row = any_yard.version_row(session, 1)
        row.removal, row.removal_until = "gone", utc_now() + timedelta(seconds=60)
    assert any_yard.client().delete(f"{MODEL}/versions/1").status_code == 409
    with database.write() as session:
        any_yard.version_row(session, 1).removal_until = utc_now() - timedelta(seconds=1)
    assert any_yard.put_alias("champion", 1).status_code == 201
    any_yard.client().delete(f"{MODEL}/aliases/champion")
    assert any_yard.client().delete(f"{MODEL}/versions/1").status_code == 204


@pytest.mark.parametrize(
    "meanwhile",
    [{"removal": "another one"}, {"removal_until": utc_now()}, {"removal": None}],
    ids=["taken over", "too slow", "called off"],
)
def test_a_deletion_that_was_overtaken_deletes_nothing(
    any_yard: Modelyard, meanwhile: dict[str, Any]
) -> None:
    any_yard.register()

    def overtake() -> None:
        with any_yard.wiring.database("models").write() as session:
            for name, value in meanwhile.items():
                setattr(any_yard.version_row(session, 1), name, value)

    any_yard.others.hook = overtake
    assert any_yard.client().delete(f"{MODEL}/versions/1").status_code == 409
    assert any_yard.client().get(f"{MODEL}/versions/1").status_code == 200
    assert len(any_yard.stored_keys()) == 1


def test_reading_is_not_enough_to_delete(shared_yard: Modelyard) -> None:
    reader = shared_yard.client(shared_yard.key(role="viewer"))
    assert reader.delete(MODEL).status_code == 403
    assert reader.delete(f"{MODEL}/versions/1").status_code == 403
