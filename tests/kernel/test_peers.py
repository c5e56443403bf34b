"""A peer over the wire that is away, slow or starting: refused soon, healed soon, nothing twice."""

import threading
import time
from collections import Counter, deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry

from app.kernel.auth import Call
from app.kernel.errors import DeadlineExceeded, NotFound, Unavailable
from app.kernel.peer_guard import PeerGuard, PeerMeters
from app.kernel.peers import Peer
from app.kernel.signing import KeyRing
from tests.ports import free_port

RING = KeyRing(["s" * 40])
CALL = Call("default", "testtest", frozenset(), "test-request")


class Service:
    """A service that can be stopped, started again on its port, and told how to answer."""

    def __init__(self):
        self.port = free_port()
        self.answers = []
        self.asked = Counter()
        self._server = None

    def answer(self):
        return self.answers.pop(0) if self.answers else (200, "application/json", b"{}")

    def start(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.asked[self.command] += 1
                told = service.answer()
                if callable(told):
                    told = told()
                if told is None:
                    self.close_connection = True
                    return
                status, kind, body = told
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = respond  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def service():
    made = Service()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def guarded(service, registry):
    """A function that makes the service's peer with so many places."""

    def make(places=16):
        guard = PeerGuard("models", places, PeerMeters(registry))
        url = f"http://127.0.0.1:{service.port}"
        return Peer("models", caller="training", keys=RING, base_urls=[url], guard=guard)

    return make


def ask(peer, method="GET", call=CALL, **more):
    return peer.ask(call, method, "/models", scope="models:read", **more)


def fail(peer):
    with pytest.raises(Unavailable) as caught:
        ask(peer)
    return caught.value


def test_a_peer_that_is_away_is_soon_refused_at_once_and_heals_by_itself(
    service, guarded, registry, monkeypatch
):
    peer = guarded()
    assert ask(peer).status == 200
    service.stop()
    for _ in range(5):
        fail(peer)
    with monkeypatch.context() as patched:
        # From here on it isn't even tried.
        patched.setattr(peer._connect(), "request", None)
        for _ in range(5):
            assert fail(peer).retry_after >= 1
    assert registry.get_sample_value("modelyard_peer_open", {"peer": "models"}) == 1
    service.start()
    returned = time.monotonic()
    while True:
        with suppress(Unavailable):
            assert ask(peer).status == 200
            break
        assert time.monotonic() - returned < 60
        time.sleep(0.05)
    assert all(ask(peer).status == 200 for _ in range(5))
    assert registry.get_sample_value("modelyard_peer_open", {"peer": "models"}) == 0


def test_a_peer_that_restarts_is_not_noticed(service, guarded):
    peer = guarded()
    service.answers = [(502, "text/html", b"<html>"), None]
    assert ask(peer).status == 200
    assert service.asked == {"GET": 3}


@pytest.fixture
def replicas(registry):
    """Two servers of one service, and what asks them, the first one first."""
    made = [Service(), Service()]
    for one in made:
        one.start()
    urls = [f"http://127.0.0.1:{one.port}" for one in made]
    guard = PeerGuard("models", 16, PeerMeters(registry))
    peer = Peer("models", caller="training", keys=RING, base_urls=urls, guard=guard)
    peer._base_urls = deque(urls)
    yield *made, peer
    for one in made:
        one.stop()


def test_of_two_servers_the_other_one_is_asked_where_one_does_not_listen(replicas, registry):
    first, second, peer = replicas
    first.stop()
    for _ in range(8):
        assert ask(peer, "POST", json={}).status == 200
    assert second.asked == {"POST": 8}
    second.stop()
    first.start()
    for _ in range(8):
        assert ask(peer, "POST", json={}).status == 200
    assert first.asked == {"POST": 8}
    assert registry.get_sample_value("modelyard_peer_open", {"peer": "models"}) == 0


def test_of_two_servers_only_one_is_asked_what_it_may_have_done(replicas):
    first, second, peer = replicas
    first.answers = [None, None]
    with pytest.raises(Unavailable):
        ask(peer, "POST", json={})
    assert (first.asked["POST"], second.asked["POST"]) == (1, 0)
    first.answers = [None]
    assert ask(peer).status == 200


def test_what_may_have_been_done_is_not_done_again(service, guarded):
    """A creation whose answer is lost must be its caller's to repeat: with the same key."""
    service.answers = [None]
    with pytest.raises(Unavailable):
        ask(guarded(), "POST", json={})
    assert service.asked == {"POST": 1}


def test_a_creation_that_never_left_is_sent_again(service, guarded, monkeypatch):
    service.stop()
    monkeypatch.setattr("app.kernel.peers.nap", lambda _: service.start() or 0.0)
    assert ask(guarded(), "POST", json={}).status == 200
    assert service.asked == {"POST": 1}


def test_what_the_peer_itself_says_is_neither_repeated_nor_held_against_it(service, guarded):
    peer = guarded()
    missing = b'{"type": "/problems/not-found", "detail": "gone"}'
    full = b'{"type": "/problems/unavailable", "detail": "too much"}'
    service.answers = [(404, "application/problem+json", missing)] * 10
    for _ in range(10):
        with pytest.raises(NotFound):
            ask(peer)
    service.answers = [(503, "application/problem+json", full)] * 10
    for _ in range(10):
        fail(peer)
    assert ask(peer).status == 200
    assert service.asked == {"GET": 21}


def test_repeats_have_a_budget(service, guarded):
    """Three tries of every call would triple the load of a peer that is just coming back."""
    peer = guarded()
    calls = 60
    for _ in range(calls):
        service.answers = [(502, "text/html", b"")]
        with suppress(Unavailable):
            ask(peer)
    assert service.asked["GET"] <= calls + 10 + 0.1 * calls + 1


def test_a_peer_that_hangs_holds_as_many_threads_as_it_has_places(service, guarded):
    peer, go = guarded(places=2), threading.Event()

    def hang():
        go.wait(60)
        return 200, "application/json", b"{}"

    service.answers = [hang, hang]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(peer))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while service.asked["GET"] < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "at once" in str(fail(peer))
    go.set()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == [200, 200]
    assert ask(peer).status == 200


def test_a_caller_in_haste_says_nothing_of_the_peer(service, guarded):
    peer = guarded()

    def slow():
        time.sleep(0.2)
        return 200, "application/json", b"{}"

    service.answers = [slow] * 8
    for _ in range(8):
        hasty = Call("default", "t", frozenset(), "r", deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineExceeded):
            ask(peer, call=hasty)
    assert ask(peer).status == 200
