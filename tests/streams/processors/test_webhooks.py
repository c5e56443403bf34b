"""Webhooks against a real server: signed, in order, tried again, given up."""

import json
import socket
import threading
import time

import pytest

from app.streams.processors.dead_letters import PREFIX
from app.streams.processors.hook_guard import HookGuard
from app.streams.processors.hook_signature import headers, key_of
from app.streams.processors.webhook import Webhook
from tests.streams.processors.installation import Streaming
from tests.streams.processors.receiver import Receiver
from tests.yard import Yard

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(tmp_path, receiver):
    """An installation that may call the receiver, and a webhook that does."""
    yard = Yard(tmp_path / "home", webhook_hosts=receiver.allowed)
    made = Streaming(yard)
    made.topics("in", "dead")
    made.create(
        name="hook",
        kind="webhook",
        output_topic=None,
        tries=2,
        webhook={"url": f"http://localhost:{receiver.port}/in?a=b", "secret": SECRET},
    )
    yield made
    made.close()
    yard.close()


def test_each_record_is_sent_in_order_with_a_signature(hooked, receiver):
    hooked.append("in", *({"n": n} for n in range(30)))
    hooked.run_out("hook")

    assert [body["record"]["value"]["n"] for body in receiver.bodies] == list(range(30))
    path, sent, body = receiver.seen[0]
    assert path == "/in?a=b"
    assert sent["Host"] == f"localhost:{receiver.port}"
    assert sent["webhook-id"] == json.loads(body)["id"]
    assert abs(int(sent["webhook-timestamp"]) - time.time()) < 300
    signed = headers(SECRET, sent["webhook-id"], int(sent["webhook-timestamp"]), body)
    assert sent["webhook-signature"] == signed["webhook-signature"]
    assert len({body["id"] for body in receiver.bodies}) == 30
    shown = hooked.get("hook")
    assert "secret" not in json.dumps(shown)
    assert shown["counts"]["taken"] == 30


def test_one_that_is_not_taken_is_sent_again_under_its_id(hooked, receiver):
    receiver.answers = [204, 503, 204]
    hooked.append("in", {"n": 0}, {"n": 1}, {"n": 2})
    hooked.run_out("hook")
    assert [body["record"]["value"]["n"] for body in receiver.bodies] == [0, 1, 1, 2]
    assert receiver.bodies[1]["id"] == receiver.bodies[2]["id"]
    assert hooked.records("dead") == []
    assert hooked.get("hook")["counts"]["errors"] == 1


def test_after_the_last_try_it_is_given_up_and_the_next_is_sent(hooked, receiver):
    receiver.answers = [500, 302, 204]
    hooked.append("in", {"n": 0}, {"n": 1})
    hooked.run_out("hook")
    # A redirect is an answer like any other that is no 2xx: it is not followed.
    assert [path for path, *_ in receiver.seen] == ["/in?a=b"] * 3
    (dead,) = hooked.records("dead")
    assert json.loads(dead.value) == {"n": 0}
    assert dead.headers[f"{PREFIX}reason"] == "not_taken"
    assert dead.headers[f"{PREFIX}detail"] == "The answer was 302"
    assert dead.headers[f"{PREFIX}tries"] == "2"


def test_a_patch_leads_it_elsewhere_and_the_guard_is_asked_again(hooked, receiver):
    path = "/api/v1/processors/hook"
    body = {"webhook": {"url": "https://hooks.example.com/", "secret": SECRET}}
    assert hooked.client.patch(path, json=body).status_code == 422
    body["webhook"]["url"] = f"http://localhost:{receiver.port}/other"
    assert hooked.client.patch(path, json=body).status_code == 200
    hooked.append("in", {"n": 0})
    hooked.run_out("hook")
    assert receiver.seen[0][0] == "/other"


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"HTTP/1.1 103 x\r\n\r\n", b"H" * 99_999],
)
def test_what_is_no_http_answer_is_a_failure_in_bounded_time_and_memory(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=answering)
        thread.start()
        port = server.getsockname()[1]
        hooks = Webhook(HookGuard([f"localhost:{port}", "127.0.0.0/8", "::1/128"]), seconds=5)
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls it
            hooks.deliver(f"http://localhost:{port}/", SECRET, "1", b"{}")
        thread.join()


def test_one_that_drips_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def dripping():
            connection, _ = server.accept()
            with connection:
                while not ended.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=dripping)
        thread.start()
        port = server.getsockname()[1]
        hooks = Webhook(HookGuard([f"localhost:{port}", "127.0.0.0/8", "::1/128"]), seconds=0.5)
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls it
            hooks.deliver(f"http://localhost:{port}/", SECRET, "1", b"{}")
        assert time.monotonic() - started < 15
        ended.set()
        thread.join()


def test_a_provisional_answer_is_passed_over(receiver):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(
                    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 Ok\r\n"
                )

        thread = threading.Thread(target=answering)
        thread.start()
        port = server.getsockname()[1]
        hooks = Webhook(HookGuard([f"localhost:{port}", "127.0.0.0/8", "::1/128"]))
        assert hooks.deliver(f"http://localhost:{port}/", SECRET, "1", b"{}") == 202
        thread.join()


def test_a_signature_is_that_of_the_published_example():
    signed = headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_" + "A" * 33]
)
def test_what_is_no_secret_is_refused(secret):
    with pytest.raises(ValueError, match="whsec_"):
        key_of(secret)
