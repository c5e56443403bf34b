"""What every request meets before its view: host, key, query names, body; and how it is refused."""

import json

import pytest

from tests.problems import assert_problem
from tests.yard import Yard

JSON = "application/json"


@pytest.fixture
def client(sqlite_yard):
    return sqlite_yard.client()


def post(client, body, content_type=JSON, path="/api/v1/projects"):
    return client.post(path, data=body, content_type=content_type)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("[" * 1000 + "]" * 1000, 400),
        ('{"name": ' * 150 + "1" + "}" * 150, 400),
        ('{"name": "a", "name": "b"}', 400),
        ('{"name": NaN}', 400),
        ('{"name": Infinity}', 400),
        ('{"name": ' + "9" * 6000 + "}", 400),
        (b'{"name": "\xff"}', 400),
        ('{"name": 1e999}', 422),
        ('{"name": 9223372036854775808}', 422),
        ('{"name": "a\\u0000b"}', 422),
        ('{"name": "\\ud800"}', 422),
        ('{"\\ud800": "a"}', 422),
        ("[]", 422),
        ("null", 422),
        ('"text"', 422),
        ('{"name": 1}', 422),
        ('{"name": true}', 422),
        ('{"name": null}', 422),
        ("{}", 422),
        ('{"name": "a", "state": "x"}', 422),
    ],
)
def test_bad_json_is_refused_with_a_problem(client, body, status):
    assert_problem(post(client, body), status)


def test_a_refused_value_is_pointed_at(client):
    answer = post(client, json.dumps({"name": "ok", "description": "a\0b"}))

    problem = assert_problem(answer, 422)
    assert problem["errors"][0]["pointer"] == "/description"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_another_content_type_is_415(client, content_type):
    assert_problem(post(client, '{"name": "a"}', content_type), 415)


def test_a_body_over_the_limit_is_413(tmp_path):
    yard = Yard(tmp_path, max_json=1000)
    try:
        assert_problem(post(yard.client(), json.dumps({"name": "a" * 2000})), 413)
    finally:
        yard.close()


def test_an_unknown_query_parameter_is_named_with_those_that_there_are(client):
    problem = assert_problem(client.get("/api/v1/projects?limt=5"), 422)

    assert problem["errors"][0]["pointer"] == "?limt"
    assert "page_size" in problem["errors"][0]["allowed"]


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=-1",
        "page_size=1e6",
        "page_size=501",
        "page_size=abc",
        "order_by=name;drop",
        "order_by=decs",
        "created_at__lt=yesterday",
        "created_at__lt=2020-01-01T00:00:00",
        "name__like=x",
    ],
)
def test_a_bad_query_is_422(client, query):
    assert_problem(client.get(f"/api/v1/projects?{query}"), 422)


@pytest.mark.parametrize("token", ["x", "a.b", "..", "é", "x" * 1500])
def test_a_page_token_that_is_not_ours_is_400(client, token):
    assert_problem(client.get("/api/v1/projects", query_string={"page_token": token}), 400)


def test_an_unknown_host_is_400(client):
    assert_problem(client.get("/api/v1/projects", headers={"Host": "evil.example"}), 400)


def test_an_unknown_path_is_404_and_another_method_405_with_allow(client):
    assert_problem(client.get("/api/v1/nothing"), 404)
    answer = client.patch("/api/v1/projects")
    assert_problem(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer myk_AAAAAAAA_" + "a" * 43, "Bearer myp_x.y"],
)
def test_a_key_that_is_none_is_401(sqlite_yard, header):
    answer = sqlite_yard.client("").get("/api/v1/projects", headers={"Authorization": header})

    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_in_the_query_string_or_twice_is_no_key(sqlite_yard):
    key = sqlite_yard.admin_key
    client = sqlite_yard.client("")

    assert_problem(client.get(f"/api/v1/projects?key={key}"), 401)
    headers = [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer x")]
    assert client.get("/api/v1/projects", headers=headers).status_code in (400, 401)


def test_a_request_id_is_kept_and_a_forged_one_replaced(client):
    sent = client.get("/livez", headers={"X-Request-Id": "abc-1"})
    forged = client.get("/livez", headers={"X-Request-Id": "a b\x1b[31m"})

    assert sent.headers["X-Request-Id"] == "abc-1"
    assert "\x1b" not in forged.headers["X-Request-Id"]


def test_every_answer_varies_by_authorization_and_none_allows_other_origins(client):
    answer = client.get("/api/v1/projects", headers={"Origin": "http://evil.example"})

    assert "Authorization" in answer.headers["Vary"]
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("header", "status"),
    [('"x"', 412), ('W/"x"', 412), ('"x", "y"', 412), ("quoted garbage", 400), ('"x" "y"', 400)],
)
def test_if_match_is_read_as_rfc_9110_says(sqlite_yard, header, status):
    client = sqlite_yard.client()
    made = client.post("/api/v1/keys", json={"name": "n", "role": "viewer"}).json

    answer = client.delete(f"/api/v1/keys/{made['key_id']}", headers={"If-Match": header})

    assert_problem(answer, status)


def test_if_match_with_a_star_or_one_of_several_tags_matches(sqlite_yard):
    client = sqlite_yard.client()
    for header in ("*", '"no", {}'):
        answer = client.post("/api/v1/keys", json={"name": "n", "role": "viewer"})
        path = answer.headers["Location"]
        tags = header.format(answer.headers["ETag"])
        assert client.delete(path, headers={"If-Match": tags}).status_code == 204
