"""What an attacker does with connections: the real server stays there for everybody else."""

import contextlib
import itertools
import json
import socket
import time

import httpx
import pytest

from tests.server import NO_TLS, NO_WORK, Server

PROJECTS = "/api/v1/projects"
JSON = "Content-Type: application/json"
# Of a server that is alive on a machine that has much else to do; one that is frozen never answers.
SOON = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """``modelyard serve`` with what it logs."""
    home = tmp_path_factory.mktemp("attacked")
    with Server(home, {"MODELYARD_LOG_LEVEL": "info", **NO_WORK}) as started:
        yield started


def head(server, line, *headers, key=True):
    """The head of a request."""
    told = [line, f"Host: 127.0.0.1:{server.port}", *headers]
    if key:
        told.append(f"Authorization: Bearer {server.admin_key}")
    return ("\r\n".join(told) + "\r\n\r\n").encode("latin-1")


def connected(server, *sent):
    """A connection on which something was sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    for piece in sent:
        # Who is refused early may find the door shut while still sending.
        with contextlib.suppress(ConnectionError):
            connection.sendall(piece)
    return connection


def said(connection, seconds=5.0):
    """All that the server says until it closes the connection or falls silent."""
    heard = b""
    connection.settimeout(seconds)
    with connection, contextlib.suppress(TimeoutError, ConnectionError):
        while piece := connection.recv(65_536):
            heard += piece
    return heard


def eventually(condition, seconds=60):
    """Wait until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def statuses(heard):
    """The statuses of the answers in what was heard."""
    lines = [part.split(b"\r\n")[0] for part in heard.split(b"HTTP/1.1 ")[1:]]
    return [int(line[:3]) for line in lines]


def slowest_of(server, count=5):
    """The longest time that the simplest request takes."""
    slowest = 0.0
    for _ in range(count):
        started = time.monotonic()
        assert httpx.get(f"{server.url}/livez", timeout=30, verify=NO_TLS).status_code == 200
        slowest = max(slowest, time.monotonic() - started)
    return slowest


@pytest.fixture(autouse=True)
def _still_there(server):
    """After each attack the server answers at once, and has had no error of its own."""
    yield
    assert slowest_of(server) < SOON
    assert "unforeseen_error" not in server.log()


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 16", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 16"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: \x0bchunked"],
        ["Content-Length: +16"],
        ["Content-Length: 16, 16"],
        ["Content-Length: 16", "Content-Length: 17"],
        ["Content-Length: -1"],
        ["Content-Length: 0x10"],
        ["Content-Length: 1_6"],
        ["Content-Length: 99999999999999999999999"],
        ["X-A: b", " Content-Length: 16"],
        ["X-A: b\rContent-Length: 16"],
        ["X-A: b\0c"],
    ],
)
def test_a_length_that_two_servers_could_read_differently_ends_the_connection(server, headers):
    """Request smuggling: a second request hidden in the body of the first is never answered."""
    hidden = head(server, "GET /metrics HTTP/1.1")
    first = head(server, f"POST {PROJECTS} HTTP/1.1", JSON, *headers)
    body = b'10\r\n{"name":"hidden"}\r\n0\r\n\r\n'
    heard = said(connected(server, first + body + hidden), seconds=2)
    assert statuses(heard) == [400]
    assert b"modelyard_requests_total" not in heard


@pytest.mark.parametrize(
    "chunk", [b"-1\r\n", b"f" * 40 + b"\r\nabc", b"1;" + b"a" * 100_000 + b"\r\n{"]
)
def test_a_chunk_that_is_none_is_400(server, chunk):
    first = head(server, f"POST {PROJECTS} HTTP/1.1", JSON, "Transfer-Encoding: chunked")
    assert statuses(said(connected(server, first, chunk, b"\r\n0\r\n\r\n"), seconds=2))[:1] == [400]


def test_an_unread_body_is_never_taken_for_a_request(server):
    body = head(server, "GET /metrics HTTP/1.1") + b"x" * 100
    for content_type, key in (("text/plain", True), ("application/json", False)):
        first = head(
            server,
            f"POST {PROJECTS} HTTP/1.1",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            key=key,
        )
        heard = said(connected(server, first + body), seconds=2)
        assert len(statuses(heard)) == 1
        assert b"modelyard_requests_total" not in heard


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_413_also_in_chunks(server, announced):
    """The bug: a chunked body was cut at the limit, and what was left of it was read as JSON."""
    size = 17_000_000
    length = f"Content-Length: {size}" if announced else "Transfer-Encoding: chunked"
    first = head(server, f"POST {PROJECTS} HTTP/1.1", JSON, length, "Connection: close")
    body = b'{"name": "cut-short"}' + b" " * (size - 21)
    if not announced:
        body = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert statuses(said(connected(server, first, body)))[:1] == [413]


def test_a_body_of_ten_thousand_chunks_is_taken(server):
    text = json.dumps({"name": "many-chunks", "description": "x" * 900}).encode()
    spaces = b" " * 10_000
    pieces = b"".join(b"1\r\n%c\r\n" % char for char in spaces + text) + b"0\r\n\r\n"
    first = head(
        server, f"POST {PROJECTS} HTTP/1.1", JSON, "Transfer-Encoding: chunked", "Connection: close"
    )
    assert statuses(said(connected(server, first + pieces))) == [201]


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET /livez HTTP/1.1", ["X-A: " + "a" * 1_000_000], 431),
        ("GET /api/v1/models HTTP/1.1", ["Authorization: Bearer " + "a" * 1_000_000], 431),
        ("GET /livez HTTP/1.1", [f"X-{number}: a" for number in range(1000)], 431),
        ("GET /livez?" + "a" * 100_000 + " HTTP/1.1", [], 414),
    ],
)
def test_an_oversized_head_is_refused(server, line, headers, status):
    heard = said(connected(server, head(server, line, *headers, key=False)))
    assert statuses(heard) == [status]


@pytest.mark.parametrize(
    "headers", [["Host: evil.example"], ["Host: 127.0.0.1@evil.example"], ["Host:"], []]
)
def test_a_request_for_another_host_is_400(server, headers):
    request = "\r\n".join(["GET /livez HTTP/1.1", *headers, "Connection: close"]) + "\r\n\r\n"
    assert statuses(said(connected(server, request.encode()))) == [400]


def test_two_hosts_are_400(server):
    request = head(server, "GET /livez HTTP/1.1", "Host: evil.example", "Connection: close")
    assert statuses(said(connected(server, request))) == [400]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nX-A: ",
        b"POST /api/v1/projects HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body, no key"],
)
def test_stalled_connections_delay_nobody(server, sent):
    stalled = [connected(server, sent) for _ in range(200)]
    time.sleep(0.3)
    assert slowest_of(server) < SOON
    for connection in stalled:
        connection.close()


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_stalled_bodies_with_a_key_delay_nobody(server, length):
    """The bug: as many as there are threads froze the server until their clients went away."""
    first = head(server, f"POST {PROJECTS} HTTP/1.1", JSON, length)
    begun = b"5\r\n{" if "chunked" in length else b"{"
    stalled = [connected(server, first + begun) for _ in range(150)]

    def posted(name):
        with server.client() as client:
            return client.post("/projects", json={"name": f"{name}-{length[:3].lower()}"})

    try:
        assert slowest_of(server) < SOON
        with server.client() as client:
            assert client.get("/projects").status_code == 200
        # There is no place for another body, and no waiting for one.
        tried = itertools.count()
        eventually(lambda: posted(f"in-vain-{next(tried)}").status_code == 503)
        assert posted("in-vain").headers["Retry-After"] == "1"
    finally:
        for connection in stalled:
            connection.close()
    eventually(lambda: posted("after").is_success)


def test_a_client_that_reads_nothing_delays_nobody(server):
    request = head(server, "GET /openapi.json HTTP/1.1") * 50
    deaf = [connected(server, request) for _ in range(100)]
    time.sleep(0.5)
    assert slowest_of(server) < SOON
    for connection in deaf:
        connection.close()


@pytest.mark.parametrize(
    "credential",
    [
        ["Authorization: Basic {key}"],
        ["Authorization: {key}"],
        ["Authorization: Bearer {key}, Bearer x"],
        ["Authorization: Bearer {key}", "Authorization: Bearer {key}"],
        ["Cookie: Authorization={key}; key={key}; session={key}"],
        ["X-Api-Key: {key}"],
        ["Proxy-Authorization: Bearer {key}"],
    ],
)
def test_a_key_counts_in_one_place_only(server, credential):
    headers = [text.format(key=server.admin_key) for text in credential]
    request = head(
        server, "GET /api/v1/projects HTTP/1.1", *headers, "Connection: close", key=False
    )
    assert statuses(said(connected(server, request)))[0] in (400, 401)


def test_a_key_that_strayed_is_in_no_log(server):
    """Wherever a client puts it by mistake: the path, the query, the id of the request."""
    key = server.admin_key
    with server.client() as client:
        client.get(f"/keys/{key}")
        client.get("/projects", params={"key": key, "name__eq": key})
        client.get("/projects", headers={"X-Request-Id": key, "Cookie": key, "Referer": key})
        client.post("/projects", json={"name": key})
    told = server.log()
    assert key.split("_", 2)[2] not in told
    assert "myk_" in told


@pytest.mark.parametrize(
    "path",
    [
        "/a%0a%7b%22event%22:%22forged%22%7d",
        "/a%0d%0aforged",
        "/%1b%5b31mforged",
        "/%e2%80%a8forged",
        "/%c2%85forged",
        "/%00forged",
        "/%ffforged",
    ],
)
def test_what_a_client_sends_is_one_line_of_the_log(server, path):
    before = len(server.log().splitlines())

    def about():
        return [line for line in server.log().split("\n")[before:] if "forged" in line]

    httpx.get(server.url + path, headers={"X-Request-Id": "a b"})
    eventually(about)
    # What is logged later comes after it: it had no second line.
    httpx.get(server.url + "/after")
    eventually(lambda: "/after" in "".join(server.log().split("\n")[before:]))
    (line,) = about()
    assert json.loads(line)["event"] == "request"
    assert line.isprintable()


@pytest.mark.slow
def test_connections_that_say_nothing_are_closed(server):
    """15 seconds for a head, however it trickles in, and for the next request on a connection."""
    silent = connected(server)
    kept = connected(server, head(server, "GET /livez HTTP/1.1"))
    kept.recv(65_536)
    trickling = connected(server, b"GET /livez HTTP/1.1\r\n")
    started = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for number in range(20):
            trickling.sendall(b"X-%d: a\r\n" % number)
            time.sleep(1)
    for connection in (silent, kept, trickling):
        assert statuses(said(connection)) in ([], [408])
    assert time.monotonic() - started < 25
