"""What an attacker sends in one request: refused in plain words, cheaply, with nothing touched."""

import io
import json
import sys
import threading
import time

import pytest

from app.kernel.http.api import api_of
from app.kernel.http.bodies import MOST_MEMBERS, MOST_VALUES
from tests.problems import assert_problem
from tests.yard import Yard

PROJECTS = "/api/v1/projects"
SEGMENTS = [
    "..",
    ".",
    "%2e%2e",
    "%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "....%2f%2fetc%2fpasswd",
    ".;%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "a%00b",
    "a%0d%0aX-Evil:%20yes",
    "a%0a",
    "a\u200bb",
    "\u0430dmin",
    "\uff1f\uff0e\uff0e\uff0f",
    "a" * 5000,
    "",
]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A whole installation that no test changes."""
    yard = Yard(tmp_path_factory.mktemp("attacked") / "home")
    yield yard
    yard.close()


class Opened:
    """The files that this process opens, by name, while ``watching``."""

    def __init__(self):
        self.names, self.watching = [], False
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if self.watching and event == "open":
            self.names.append(str(arguments[0]))


@pytest.fixture(scope="module")
def opened():
    """There is no way to take an audit hook off again: one for all tests."""
    return Opened()


def places(yard):
    """Each path with a hole, of whatever method, and the hole's name."""
    for rule in yard.app.url_map.iter_rules():
        for name in sorted(rule.arguments):
            path = rule.rule
            for other in rule.arguments - {name}:
                path = _replaced(path, other, "1" if other == "version" else "a")
            yield path, name, sorted(rule.methods - {"OPTIONS"})


def _replaced(path, argument, value):
    before, _, rest = path.partition("<")
    inside, _, after = rest.partition(">")
    if inside.rpartition(":")[2] == argument:
        return f"{before}{value}{after}"
    return f"{before}<{inside}>{_replaced(after, argument, value)}"


def test_no_segment_of_a_path_leads_anywhere_else(attacked, opened):
    client, checked = attacked.client(), 0
    before = sorted(path for path in attacked.settings.home.rglob("*"))
    opened.names.clear()
    opened.watching = True
    for path, name, methods in places(attacked):
        for segment in SEGMENTS:
            answer = client.open(
                _replaced(path, name, segment), method=methods[checked % len(methods)]
            )
            assert answer.status_code in (404, 405), (path, segment, answer.text[:200])
            checked += 1
    opened.watching = False
    assert checked > 500
    assert not [file for file in opened.names if "etc" in file or "passwd" in file]
    assert sorted(path for path in attacked.settings.home.rglob("*")) == before


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/api/v1//models", "//api/v1/models", "/api/v1/models/", "/docs/", "/api"],
)
def test_a_path_that_is_not_quite_one_is_404_and_no_redirect(attacked, path):
    """The bug: Werkzeug merged slashes by a redirect to a URL made of the Host header, as HTML."""
    for method in ("GET", "DELETE"):
        answer = attacked.client().open(path, method=method, base_url="http://localhost")
        assert_problem(answer, 404)
        assert "Location" not in answer.headers


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "/etc/passwd", "none.js"])
def test_the_docs_page_serves_its_own_files_only(attacked, name):
    assert_problem(attacked.client("").get(f"/docs/{name}"), 404)


def test_an_address_in_location_is_relative_whatever_the_host(tmp_path):
    yard = Yard(tmp_path, hosts=("*",))
    try:
        answer = yard.client().post(
            PROJECTS,
            json={"name": "team-a"},
            headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        )
        assert answer.headers["Location"] == "/api/v1/projects/team-a"
        assert "evil" not in answer.text + str(answer.headers)
    finally:
        yard.close()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "localhost@evil.example", "localhost/a", "[::2]"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_rebound_host_is_400_for_every_method(attacked, host, method):
    """DNS rebinding: a browser's page of another name that has come to mean this address."""
    answer = attacked.client().open("/api/v1/models", method=method, headers={"Host": host})
    assert answer.status_code == 400


def test_without_a_trusted_proxy_forwarded_headers_mean_nothing(attacked):
    forged = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Host": "evil.example"}
    attacked.client("no-key").get(PROJECTS, headers=forged)
    with attacked.wiring.database("access").read() as session:
        told = [
            row[0]
            for row in session.connection().exec_driver_sql("SELECT address FROM kernel_audit")
        ]
    assert set(told) == {"127.0.0.1"}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_no_other_origin_is_let_in(attacked, origin, method):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    client = attacked.client()
    for answer in (
        client.options("/api/v1/models", headers=asked),
        client.open("/api/v1/models", method=method, headers=asked),
    ):
        assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]


def test_a_form_of_another_site_does_nothing_without_a_key(attacked):
    """A browser adds no Authorization by itself, and cookies mean nothing here."""
    client = attacked.client("")
    client.set_cookie("Authorization", f"Bearer {attacked.admin_key}")
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = client.post(PROJECTS, data='{"name": "csrf"}', content_type=content_type)
        assert_problem(answer, 401)


@pytest.mark.parametrize("path", [PROJECTS, "/livez", "/nothing", "/docs/index.html"])
def test_no_answer_is_run_framed_or_guessed_at_by_a_browser(attacked, path):
    headers = attacked.client().get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_docs_page_runs_its_own_scripts_only_and_in_no_frame(attacked):
    policy = attacked.client("").get("/docs").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy


def test_options_tells_the_methods_and_nothing_else(attacked):
    """The bug: it was answered as text/html."""
    answer = attacked.client().options("/api/v1/models")
    assert (answer.status_code, answer.data) == (200, b"")
    assert "Content-Type" not in answer.headers
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "DEBUG", "PATCH"])
def test_a_method_that_there_is_not_is_405_with_allow(attacked, method):
    answer = attacked.client().open(PROJECTS, method=method)
    assert_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_no_header_and_no_parameter_changes_the_method(attacked, name):
    answer = attacked.client().get(PROJECTS, headers={name: "DELETE"})
    assert answer.status_code == 200
    assert_problem(attacked.client().get(f"{PROJECTS}?_method=DELETE"), 422)


def test_methods_that_are_made_up_do_not_fill_the_memory(attacked):
    """The bug: each method was a label of its own, kept for ever, and no key was needed."""
    client = attacked.client()
    for number in range(30):
        client.open("/livez", method=f"MADEUP{number}")
    told = client.get("/metrics").text
    assert "MADEUP" not in told
    assert 'method="other"' in told


def test_paths_that_are_made_up_do_not_fill_the_memory(attacked):
    client = attacked.client()
    for number in range(30):
        client.get(f"/made-up-{number}")
    assert "made-up" not in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/livez", "/api/v1/models"])
def test_thousands_of_unknown_parameters_get_a_short_answer(attacked, path):
    """The bug: 60 kB of query, without a key, were answered by five megabytes."""
    query = "&".join(f"a{number}" for number in range(9000))
    answer = attacked.client().get(f"{path}?{query}")
    assert len(assert_problem(answer, 422)["errors"]) <= 20
    assert len(answer.data) < 50_000


@pytest.mark.parametrize("name", ["filter", "expr", "query", "sort", "q", "fields"])
def test_nothing_that_could_be_an_expression_is_a_parameter(attacked, name):
    """`DataFrame.query` and `eval` run what they are given; no list has anything of the kind."""
    query = {name: "@pd.io.common.os.system('id')"}
    assert_problem(attacked.client().get("/api/v1/models", query_string=query), 422)


@pytest.mark.parametrize("value", ["' OR 1=1--", "%", "_%", "a'; DROP TABLE access_keys;--", "\\"])
@pytest.mark.parametrize("operator", ["eq", "in", "prefix"])
def test_a_filters_value_is_only_ever_a_value(yard, value, operator):
    client = yard.client()
    client.post(PROJECTS, json={"name": "team-a"})
    found = client.get(PROJECTS, query_string={f"name__{operator}": value})
    assert (found.status_code, found.json["items"]) == (200, [])
    assert len(client.get(PROJECTS).json["items"]) == 2


@pytest.mark.parametrize("place", ["order_by", "page_token", "name__eq", "created_at__lt"])
@pytest.mark.parametrize(
    "value", ["\0", "x" * 3000, "(select 1)", "\ud800".encode("utf-8", "replace")]
)
def test_a_query_of_rubbish_is_refused_or_finds_nothing(yard, place, value):
    answer = yard.client().get(PROJECTS, query_string={place: value})
    if answer.status_code == 200:
        assert (place, answer.json["items"]) == ("name__eq", [])
    else:
        assert answer.status_code in (400, 422)


def array_of(item, count):
    return b'{"name":[' + b",".join([item] * count) + b"]}"


@pytest.mark.parametrize("item", [b"[]", b"{}", b"1", b'"a"', b'{"a":1}'])
def test_a_small_body_of_very_many_values_is_413(attacked, item):
    """The bug: 16 MB of `[],[],..` took a gigabyte and half a minute."""
    body = array_of(item, MOST_VALUES)
    started = time.monotonic()
    answer = attacked.client().post(PROJECTS, data=body, content_type="application/json")
    assert_problem(answer, 413)
    assert time.monotonic() - started < 15


def test_an_array_or_object_of_very_many_members_is_413(attacked):
    wide = json.dumps({f"{number:x}": 1 for number in range(MOST_MEMBERS + 1)})
    for body in (array_of(b"1", MOST_MEMBERS + 1), wide):
        answer = attacked.client().post(PROJECTS, data=body, content_type="application/json")
        assert_problem(answer, 413)


def test_a_hundred_thousand_faults_get_a_short_answer_soon(attacked):
    started = time.monotonic()
    body = {"name": "n", "scopes": [1] * MOST_MEMBERS}
    answer = attacked.client().post("/api/v1/keys", json=body)
    assert len(assert_problem(answer, 422)["errors"]) <= 100
    assert len(answer.data) < 50_000
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_compressed_json_is_415(attacked, coding):
    """The bug: the header was ignored."""
    answer = attacked.client().post(
        PROJECTS, json={"name": "zipped"}, headers={"Content-Encoding": coding}
    )
    assert_problem(answer, 415)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-python-serialize",
        "application/x-pickle",
        "application/octet-stream",
        "application/yaml",
        "application/xml",
        "application/json5",
        "application/problem+json",
        "application/json/../x-pickle",
    ],
)
def test_no_body_of_json_is_taken_as_anything_else(attacked, content_type):
    operations = _operations(attacked)
    checked = 0
    for rule, method in operations:
        answer = attacked.client().open(
            _path_of(rule), method=method, data=b"\x80\x04N.", content_type=content_type
        )
        # Of what only a peer may do, not even the body is looked at.
        assert answer.status_code in (403, 404, 415, 422), (rule.rule, answer.text[:200])
        checked += answer.status_code == 415
    assert checked >= 15


def _operations(yard):
    api = api_of(yard.app)
    return [
        (rule, method)
        for rule in yard.app.url_map.iter_rules()
        for method in sorted(rule.methods & {"POST", "PUT", "PATCH"})
        if (rule.endpoint, method) in api.operations and "hold" not in rule.rule
    ]


def _path_of(rule):
    values = dict.fromkeys(rule.arguments, "a")
    values |= dict.fromkeys(
        rule.arguments & {"run", "batch", "prediction"}, "0" * 8 + "-0000" * 3 + "-" + "0" * 12
    )
    values |= dict.fromkeys(rule.arguments & {"version"}, 1)
    values |= dict.fromkeys(rule.arguments & {"key_id"}, "AAAAAAAA")
    return rule.build(values)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", '"' + "x" * 60_000 + '"'),
        ("If-Match", " " * 60_000 + "x"),
        ("If-Match", '"a",' * 10_000 + "b"),
        ("If-None-Match", '"a",' * 10_000),
        ("Accept", "a/b;q=0.1," * 5000),
        ("Range", "bytes=0-" + "9" * 6000),
        ("Range", "bytes=" + "0-," * 9000),
        ("If-Modified-Since", "9" * 6000),
        ("Cookie", "a=b;" * 10_000),
        ("Idempotency-Key", "k" * 60_000),
        ("traceparent", "0" * 60_000),
        ("X-Request-Id", "a" * 60_000),
        ("Prefer", "wait=" * 10_000),
        ("X-Columns", '{"a":' * 10_000),
    ],
)
def test_an_overlong_header_costs_no_time_and_is_no_error_of_ours(attacked, name, value):
    started = time.monotonic()
    client = attacked.client()
    answers = [
        client.get(PROJECTS, headers={name: value}),
        client.get("/docs/swagger-ui.css", headers={name: value}, buffered=True),
        client.delete("/api/v1/keys/AAAAAAAA", headers={name: value}),
        client.post(PROJECTS, json={}, headers={name: value}),
    ]
    assert {answer.status_code for answer in answers} <= {200, 400, 404, 412, 416, 422}
    assert time.monotonic() - started < 15


def test_bodies_that_stall_take_a_bounded_number_of_places(tmp_path):
    """The bug: a server of 64 threads was frozen by 64 bodies that never came."""
    yard = Yard(tmp_path, body_slots=2)
    released, answers, begun = threading.Event(), [], threading.Semaphore(0)

    class Stalled(io.RawIOBase):
        """A body said to have 9 bytes, which ends when it is told to and has brought nothing."""

        place = 0

        def readable(self):
            return True

        def readinto(self, _into):
            begun.release()
            released.wait(60)
            return 0

        def tell(self):
            return self.place

        def seek(self, place, whence=io.SEEK_SET):
            self.place = 9 if whence == io.SEEK_END else place

    def ask():
        answers.append(
            yard.client().post(PROJECTS, input_stream=Stalled(), content_type="application/json")
        )

    stalled = [threading.Thread(target=ask) for _ in range(2)]
    for thread in stalled:
        thread.start()
    assert all(begun.acquire(timeout=30) for _ in stalled)
    refused = yard.client().post(PROJECTS, json={"name": "third"})
    assert yard.client().get(PROJECTS).status_code == 200
    released.set()
    for thread in stalled:
        thread.join()
    assert_problem(refused, 503)
    assert [answer.status_code for answer in answers] == [400, 400]
    assert yard.client().post(PROJECTS, json={"name": "third"}).status_code == 201
    yard.close()


def test_the_places_of_those_who_can_stall_leave_threads_for_others(sqlite_yard):
    settings = sqlite_yard.settings
    stalling = settings.upload_slots + settings.body_slots + 2 * settings.stream_slots
    assert settings.threads >= stalling + 16


def test_keys_of_one_hash_cannot_be_made():
    """Python salts the hashes of texts by process, unless it is told not to."""
    assert sys.flags.hash_randomization == 1
