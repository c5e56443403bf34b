"""The headers of answers: each that is documented as always there is sent, each sent documented."""

import pytest

from app.kernel.http.pages import spec_of
from app.kernel.http.spec import HEADERS
from app.kernel.quotas import Quotas
from tests.rules.furnished import BODIES, Furnished

PROMISED = {name for name in HEADERS if "Conflict" not in name}
UPLOAD = {"data": "a\n1\n", "content_type": "text/csv"}
CREATED = {
    "createProject": {"name": "team"},
    "createKey": {"name": "n", "role": "viewer"},
    "createDataset": {"name": "new"},
    "createModel": {"name": "new"},
    **BODIES,
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    # With a quota that nobody reaches: its headers are on the answers, too.
    made = Furnished(tmp_path_factory.mktemp("headers"), quota_rate=1e5, quota_burst=10**6)
    yield made
    made.close()


@pytest.fixture(scope="module")
def spec(yard):
    return spec_of(yard.app)


def documented(spec, operation_id, status):
    """The headers of an operation's answer: which there may be, and which there are always."""
    by_id = {
        operation["operationId"]: operation
        for item in spec["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    }
    responses = by_id[operation_id]["responses"]
    response = responses.get(str(status), responses["default"])
    if "$ref" in response:
        response = spec["components"]["responses"][response["$ref"].rpartition("/")[2]]
    may, always = set(), set()
    for name, header in response["headers"].items():
        told = spec["components"]["headers"][header["$ref"].rpartition("/")[2]]
        may.add(name)
        if told["required"]:
            always.add(name)
    return may, always


def assert_headers(spec, operation, answer):
    may, always = documented(spec, operation.operation_id, answer.status_code)
    sent = set(dict(answer.headers)) & PROMISED
    place = (operation.operation_id, answer.status_code)
    assert always <= sent, (*place, "documented, not sent", always - sent)
    assert sent <= may, (*place, "sent, not documented", sent - may)


def ask(yard, rule, method, operation, **more):
    if operation.operation_id == "createDatasetVersion":
        more |= UPLOAD
    elif method in ("POST", "PUT", "PATCH"):
        more["json"] = CREATED.get(operation.operation_id, {})
    return yard.client(more.pop("key", None)).open(yard.path_of(rule), method=method, **more)


def test_every_answer_has_the_headers_that_are_documented(yard, spec):
    # What changes nothing first, and deletions last: each finds what it asks for.
    order = ["GET", "PATCH", "PUT", "POST", "DELETE"]
    for rule, method, operation in sorted(
        yard.operations(), key=lambda found: order.index(found[1])
    ):
        assert_headers(spec, operation, ask(yard, rule, method, operation))


@pytest.mark.parametrize(
    ("more", "statuses"),
    [
        ({"key": ""}, {401}),
        ({"query_string": {"no_such": "1"}}, {422}),
        ({"headers": {"If-None-Match": "*"}}, {200, 304, 404, 409}),
        ({"headers": {"If-Match": '"old"'}}, {412, 409, 404, 200}),
        ({"headers": {"Range": "bytes=0-0"}}, {200, 206, 404, 409}),
        ({"headers": {"Range": "bytes=999999999-"}}, {200, 416, 404, 409}),
    ],
)
def test_every_refusal_has_the_headers_that_are_documented(yard, spec, more, statuses):
    seen = set()
    for rule, method, operation in yard.operations():
        if method == "GET" and operation.scopes:
            answer = ask(yard, rule, method, operation, **more)
            assert_headers(spec, operation, answer)
            seen.add(answer.status_code)
    assert seen & statuses


def test_an_answer_repeated_for_its_key_has_the_same_headers(yard, spec):
    """The second answer under an Idempotency-Key has all headers of the first."""
    replayed = 0
    for rule, method, operation in yard.operations():
        if method != "POST" or operation.operation_id not in CREATED:
            continue
        key = {"Idempotency-Key": f"key-{operation.operation_id}"}
        for _ in range(2):
            answer = ask(yard, rule, method, operation, headers=key)
            assert_headers(spec, operation, answer)
        replayed += answer.headers.get("Idempotent-Replayed") == "true"
    assert replayed


def test_another_method_is_405_with_the_methods_that_there_are(yard, spec):
    for rule, _, operation in yard.operations():
        answer = yard.client().open(yard.path_of(rule), method="TRACE")
        assert answer.status_code == 405
        assert "Allow" in answer.headers
        assert_headers(spec, operation, answer)


def test_every_operation_past_the_quota_is_429_with_the_headers_that_are_documented(
    yard, spec, monkeypatch
):
    rate, burst = 1e-6, 1
    monkeypatch.setattr(yard.wiring.quotas, "take", Quotas(rate, burst).take)
    assert yard.client().get("/api/v1/projects").status_code == 200
    for rule, method, operation in yard.operations():
        if operation.scopes:
            answer = ask(yard, rule, method, operation)
            assert answer.status_code == 429, operation.operation_id
            assert_headers(spec, operation, answer)
