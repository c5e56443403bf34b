"""Every route, by the app's own URL map: it wants a key, its scope, and shows nothing of others."""

import pytest

from app.access.service import SCOPES
from app.kernel.auth import make_peer_token
from tests.problems import assert_problem
from tests.rules.furnished import BODIES

OPEN = {"/livez", "/readyz", "/openapi.json", "/openapi.yaml", "/docs", "/docs/start.js"}


@pytest.fixture(scope="module")
def operations(furnished):
    """Each method of each route: its rule, method and operation."""
    found = list(furnished.operations())
    documented = {rule.rule for rule, *_ in found}
    others = {rule.rule for rule in furnished.app.url_map.iter_rules()} - documented
    assert {rule for rule in others if not rule.startswith("/docs/")} <= OPEN
    assert len(found) > 60
    return found


def body_of(method):
    return {"json": {}} if method in ("POST", "PUT", "PATCH") else {}


def test_every_operation_but_the_open_ones_wants_a_key(furnished, operations):
    client = furnished.client("")
    for rule, method, operation in operations:
        if not operation.scopes:
            assert rule.rule in OPEN, rule.rule
            continue
        answer = client.open(furnished.path_of(rule), method=method, **body_of(method))
        assert_problem(answer, 401)


def test_a_key_without_the_scope_is_refused_whatever_the_body(furnished, operations):
    for rule, method, operation in operations:
        if not operation.scopes:
            continue
        others = sorted(set(SCOPES) - set(operation.scopes))
        key = make_peer_token(
            furnished.wiring.ring,
            service="test",
            project="default",
            scopes=frozenset(others),
            lifetime=60,
        )
        answer = furnished.client(key).open(
            furnished.path_of(rule), method=method, **body_of(method)
        )
        assert_problem(answer, 403)


def test_no_key_can_hold_a_scope_of_peers(furnished, operations):
    peers = {scope for *_, operation in operations for scope in operation.scopes} - set(SCOPES)

    assert peers == {
        "installation:examine",
        "keys:verify",
        "datasets:archive",
        "datasets:hold",
        "datasets:refer",
        "models:register",
        "models:locate",
        "references:read",
    } - ({"datasets:refer"} - peers)
    for scope in peers:
        body = {"name": "n", "scopes": [scope]}
        assert_problem(furnished.client().post("/api/v1/keys", json=body), 422)


PART = {"source": "x", "topic": "in", "processor": "x", "partition": 0, "first": 0, "next": 1}
SHARED = {
    "/api/v1/estimators/<string(maxlength=100):name>",
    "/api/v1/projects/<name:project>",
    "/api/v1/keys/<key_id:key_id>/record",
}


def test_anothers_things_are_not_there(furnished, operations):
    """A key of another project with every scope gets 404 on every route that takes an id."""
    checked = 0
    for rule, method, operation in operations:
        if not rule.arguments or rule.rule in SHARED:
            continue
        key = make_peer_token(
            furnished.wiring.ring,
            service="test",
            project="other",
            scopes=frozenset(operation.scopes),
            lifetime=60,
        )
        body = body_of(method)
        if operation.operation_id in BODIES:
            body = {"json": BODIES[operation.operation_id]}
        if operation.operation_id == "createModelVersion":
            continue  # makes the model in the caller's own project
        if operation.operation_id == "createDatasetVersion":
            body = {"data": "a\n1\n", "content_type": "text/csv"}
        if operation.operation_id == "createDatasetArchive":
            body = {"json": [{"a": 1}], "query_string": PART}
        answer = furnished.client(key).open(furnished.path_of(rule), method=method, **body)
        assert answer.status_code == 404, (operation.operation_id, answer.text[:300])
        checked += 1
    assert checked > 30


def test_an_older_etag_changes_nothing(furnished, operations):
    """Every PUT, PATCH and DELETE of one thing honours If-Match."""
    skipped = {"deletePredictions"}
    for rule, method, operation in operations:
        if method not in ("PUT", "PATCH", "DELETE") or operation.operation_id in skipped:
            continue
        body = body_of(method)
        if operation.operation_id in BODIES:
            body = {"json": BODIES[operation.operation_id]}
        path = furnished.path_of(rule)
        answer = furnished.client().open(path, method=method, headers={"If-Match": '"old"'}, **body)
        assert answer.status_code == 412, (operation.operation_id, answer.text)
