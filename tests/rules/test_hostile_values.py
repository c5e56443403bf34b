"""Hostile values at every place that the specification tells of: never an error of ours."""

import json

import pytest

from app.kernel.auth import make_peer_token
from app.kernel.http.pages import spec_of
from tests.problems import assert_problem
from tests.rules.furnished import Furnished

# As they stand in the JSON text: no client's encoder writes them.
NEVER_KEPT = {
    "NUL": r'"a\u0000b"',
    "a lone surrogate": r'"\ud800"',
    "NUL in a name": r'{"a\u0000b": 1}',
    "a lone surrogate in a name": r'{"\udfff": 1}',
    "6,000 digits": "9" * 6000,
    "past 64 bits": str(2**63),
    "a float past all floats": "1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "1,000 levels": "[" * 1000 + "]" * 1000,
    "1,000 levels of objects": '{"a":' * 1000 + "1" + "}" * 1000,
    "one name twice": '{"a": 1, "a": 2}',
    "half a text": '"',
}
ODD = {
    "the largest float": "1.7976931348623157e308",
    "the least float": "-5e-324",
    "a very long text": json.dumps("x" * 100_000),
    "the empty text": '""',
    "an empty list": "[]",
    "an empty object": "{}",
    "null": "null",
    "zero below zero": "-0.0",
    "text from right to left": json.dumps("\u202e\ufeff\U000e0001"),
}
# One of three for each parameter and header: the kinds are few, and all of them meet every value.
TURNS = 3
IN_A_QUERY = [
    "%00",
    "%FF",
    "%ED%A0%80",
    "9" * 6000,
    "NaN",
    "1e999",
    "x" * 5000,
    "",
    "-",
    "%25",
    "%",
]
IN_A_HEADER = ["", " ", "\x7f", "é", "," * 5000, "9" * 6000, '"', "bytes=" + "9" * 6000 + "-", "{"]
IN_A_PATH = ["%00", "%FF", "%ED%A0%80", "x" * 5000, "9" * 6000, "..", "%2e%2e", "%2F", "%5C", "-1"]
TYPES = [
    "application/json; charset=utf-16",
    "application/json; charset=none",
    'application/json; charset="',
    "APPLICATION/JSON;;",
    "application/json, text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "x" * 5000,
    "/",
    "é/é",
]
ACCEPTED = ["", "*", "text/*;q=x", "application/json;q=0", "a/b," * 2000, "é", "text/csv;q=1e999"]


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    made = Furnished(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def spec(yard):
    return spec_of(yard.app)


@pytest.fixture(scope="module")
def told(spec):
    """What the specification says of an operation, by its operationId."""
    return {
        operation["operationId"]: operation
        for item in spec["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    }


def resolved(spec, schema):
    while "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def places(spec, schema, path=()):
    """Each place of a body that its schema names."""
    schema = resolved(spec, schema)
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name)
        yield from places(spec, inner, (*path, name))
    if "items" in schema:
        yield (*path, 0)
        yield from places(spec, schema["items"], (*path, 0))


def put(example, path, marker):
    """A copy of an example with something else at one place."""
    if not path:
        return marker
    head, *rest = path
    if isinstance(head, int):
        return [put(example[0] if isinstance(example, list) and example else None, rest, marker)]
    members = example if isinstance(example, dict) else {}
    return {**members, head: put(members.get(head), rest, marker)}


def json_bodies(spec, told, yard):
    """Each place of each JSON body: the route, its method and the text around the place."""
    for rule, method, operation in yard.operations():
        content = told[operation.operation_id].get("requestBody", {}).get("content", {})
        media = content.get("application/json")
        if media is None or media["schema"].get("type") == "array":
            continue  # an array is a file: no body of ours
        shown = [found["value"] for found in media.get("examples", {}).values()]
        example = media.get("example", shown[0] if shown else {})
        for path in [(), *places(spec, media["schema"])]:
            text = json.dumps(put(example, path, "@@here@@"))
            yield operation, yard.path_of(rule), method, text.split('"@@here@@"')


def client_of(yard, operation):
    """A client that may do this, and no more."""
    token = make_peer_token(
        yard.wiring.ring,
        service="test",
        project="default",
        scopes=frozenset(operation.scopes),
        lifetime=60,
    )
    return yard.client(token)


def refused(answer):
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert_problem(answer, answer.status_code)


def borne(answer):
    assert answer.status_code != 500, answer.text[:300]
    if answer.status_code >= 400:
        assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("name", NEVER_KEPT)
def test_what_no_body_may_hold_is_refused_at_every_place(yard, spec, told, name):
    seen = set()
    for operation, path, method, (before, after) in json_bodies(spec, told, yard):
        client, body = client_of(yard, operation), (before + NEVER_KEPT[name] + after).encode()
        refused(client.open(path, method=method, data=body, content_type="application/json"))
        seen.add(operation.operation_id)
    assert len(seen) > 15


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_no_error_of_ours_at_any_place(yard, spec, told, name):
    for operation, path, method, (before, after) in json_bodies(spec, told, yard):
        client, body = client_of(yard, operation), (before + ODD[name] + after).encode()
        borne(client.open(path, method=method, data=body, content_type="application/json"))


def test_every_query_parameter_bears_every_text(yard):
    for turn, (rule, method, operation) in enumerate(yard.operations()):
        client = client_of(yard, operation)
        for number, name in enumerate(sorted(operation.query)):
            for value in IN_A_QUERY[(number + turn) % TURNS :: TURNS]:
                borne(client.open(f"{yard.path_of(rule)}?{name}={value}", method=method, json={}))


def test_no_query_parameter_may_come_twice_or_hold_a_nul(yard):
    for rule, method, operation in yard.operations():
        client = client_of(yard, operation)
        for name in sorted(operation.query):
            for query in (f"{name}=1&{name}=1", f"{name}=a%00b"):
                answer = client.open(f"{yard.path_of(rule)}?{query}", method=method, json={})
                assert assert_problem(answer, 422)["errors"][0]["pointer"] == f"?{name}"


def test_every_header_bears_every_text(yard, told):
    always = ["X-Request-Id", "traceparent", "Prefer", "If-Modified-Since", "Range", "Cookie"]
    for turn, (rule, method, operation) in enumerate(yard.operations()):
        parameters = told[operation.operation_id].get("parameters", [])
        named = [found["name"] for found in parameters if found["in"] == "header"]
        client = client_of(yard, operation)
        for number, name in enumerate([*named, always[turn % len(always)]]):
            for value in IN_A_HEADER[(number + turn) % TURNS :: TURNS]:
                headers = {name: value}
                borne(client.open(yard.path_of(rule), method=method, json={}, headers=headers))


def test_no_place_of_a_path_takes_anything_else(yard):
    for rule, method, operation in yard.operations():
        client = client_of(yard, operation)
        for number, name in enumerate(rule.arguments):
            for value in IN_A_PATH[number % TURNS :: TURNS]:
                path = yard.path_of(rule).replace(f"/{yard.places[name]}", f"/{value}")
                refused(client.open(path, method=method, json={}))


def test_every_content_type_is_borne(yard):
    for turn, (rule, method, operation) in enumerate(yard.operations()):
        client, path = client_of(yard, operation), yard.path_of(rule)
        for content_type in TYPES if method == "POST" else TYPES[turn % TURNS :: TURNS]:
            borne(client.open(path, method=method, data=b'{"a": 1}', content_type=content_type))


def test_every_accept_is_borne(yard):
    for rule, method, operation in yard.operations():
        if method == "GET":
            for accepted in ACCEPTED:
                headers = {"Accept": accepted}
                borne(client_of(yard, operation).get(yard.path_of(rule), headers=headers))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_path_that_there_is_not_is_404_for_every_method(yard, method):
    """An OPTIONS there had lost its content type."""
    answer = yard.client().open("/api/v1/nothing", method=method)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_head_says_what_get_says_without_a_body_and_options_tells_the_methods(yard):
    for rule, method, operation in yard.operations():
        client, path = client_of(yard, operation), yard.path_of(rule)
        assert method in client.options(path).headers["Allow"].split(", "), path
        if method == "GET":
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.data) == (get.status_code, b""), path
            assert head.headers.get("ETag") == get.headers.get("ETag")
