"""Who a key stands for is asked of the service that keeps it; nobody else reads its tables."""

import time

import pytest
from sqlalchemy import select

from app.kernel.audit import AuditRow

LIST = "/models"
# A revocation is in force everywhere within 5 seconds.
IN_FORCE = 15


@pytest.fixture(scope="module")
def apart(apart_for_all):
    """All tests share them."""
    return apart_for_all


@pytest.fixture
def key(apart):
    """A key that may read models."""
    with apart.client("access") as access:
        made = access.post("/keys", json={"name": "reader", "scopes": ["models:read"]})
        assert made.status_code == 201, made.text
        return made.json()


def test_a_key_made_by_one_service_is_good_for_the_others_until_it_is_revoked(apart, key):
    with (
        apart.client("models", key["secret"]) as models,
        apart.client("access") as access,
    ):
        assert models.get(LIST).status_code == 200
        assert models.post(LIST, json={"name": "m"}).status_code == 403
        assert access.delete(f"/keys/{key['key_id']}").status_code == 204
        until = time.monotonic() + IN_FORCE
        while models.get(LIST).status_code != 401:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.parametrize("other", ["myk_unknown1_" + "x" * 43, "nonsense"])
def test_a_key_that_nobody_made_is_no_key(apart, other):
    with apart.client("models", other) as models:
        assert models.get(LIST).status_code == 401


def test_the_secret_of_another_key_is_no_key(apart, key):
    with apart.client("models", key["secret"][:-3] + "abc") as models:
        assert models.get(LIST).status_code == 401


def test_a_known_key_is_good_while_the_service_of_keys_is_away_and_a_strange_one_is_503(apart, key):
    with apart.client("models", key["secret"]) as models:
        assert models.get(LIST).status_code == 200
        apart.services["access"].stop()
        try:
            time.sleep(2.1)
            assert models.get(LIST).status_code == 200
            with apart.client("models", "myk_unknown2_" + "x" * 43) as stranger:
                answer = stranger.get(LIST)
                assert answer.status_code == 503
                assert answer.headers["Retry-After"]
        finally:
            apart.services["access"].start()


def test_only_peers_are_told_whom_a_key_stands_for(apart, key):
    path = f"/keys/{key['key_id']}/record"
    with (
        apart.client("access") as admin,
        apart.peer("access", "models", "keys:verify") as peer,
    ):
        assert admin.get(path).status_code == 403
        told = peer.get(path)
        assert told.json()["scopes"] == ["models:read"]
        assert told.headers["Cache-Control"] == "no-store"
        assert peer.get("/keys/unknown1/record").status_code == 404


def test_what_is_refused_is_in_the_trail_of_the_service_that_refused_it(apart):
    with apart.client("models", "myk_unknown3_" + "x" * 43) as stranger:
        until = time.monotonic() + IN_FORCE
        # The service of keys may just have come back.
        while stranger.get(LIST).status_code != 401:
            assert time.monotonic() < until
            time.sleep(0.1)
    refused = select(AuditRow).where(AuditRow.outcome == "denied")
    with apart.services["models"].wiring.database("models").read() as session:
        assert session.scalars(refused).first() is not None
