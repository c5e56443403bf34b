"""A key's quota: never more than its burst and what came back since, and answers that say so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.quotas import Quotas
from tests.problems import assert_problem
from tests.yard import Yard

PATH = "/api/v1/projects"
RATES = st.floats(0.01, 10_000)


class Clock:
    """A clock that is set by hand, in nanoseconds."""

    def __init__(self):
        self.now = 10**9

    def __call__(self):
        return self.now


@pytest.fixture
def limited(tmp_path):
    yard = Yard(tmp_path, quota_rate=0.001, quota_burst=3)
    yield yard
    yard.close()


@given(RATES, st.integers(1, 50), st.lists(st.integers(0, 3 * 10**9), max_size=120))
def test_no_window_admits_more_than_the_burst_and_what_came_back(rate, burst, pauses):
    clock = Clock()
    quotas = Quotas(rate, burst, monotonic_ns=clock)
    admitted = []
    for pause in pauses:
        clock.now += pause
        if quotas.take("a").admitted:
            admitted.append(clock.now)
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            seconds = (admitted[last] - start) / 10**9
            assert last - first + 1 <= burst + rate * seconds + 1e-9


@given(RATES, st.integers(1, 50), st.lists(st.integers(0, 3 * 10**9), max_size=60))
def test_who_waits_as_told_is_admitted_and_not_a_moment_before(rate, burst, pauses):
    clock = Clock()
    quotas = Quotas(rate, burst, monotonic_ns=clock)
    for pause in pauses:
        clock.now += pause
        standing = quotas.take("a")
        assert standing.admitted == (standing.wait == 0)
        if not standing.admitted:
            nanoseconds = round(standing.wait * 10**9)
            clock.now += nanoseconds - 1000
            assert not quotas.take("a").admitted or nanoseconds <= 1000
            clock.now += 2000
            assert quotas.take("a").admitted


@given(RATES, st.integers(1, 50))
def test_what_is_told_to_be_left_is_left(rate, burst):
    quotas = Quotas(rate, burst, monotonic_ns=Clock())
    told = [quotas.take("a").left for _ in range(burst)]
    assert told == list(reversed(range(burst)))
    assert not quotas.take("a").admitted


def test_keys_do_not_take_from_one_another():
    quotas = Quotas(1, 1, monotonic_ns=Clock())
    assert quotas.take("a").admitted
    assert quotas.take("b").admitted
    assert not quotas.take("a").admitted


def test_memory_is_bounded_and_keys_past_the_bound_share_a_bucket():
    clock = Clock()
    quotas = Quotas(1, 5, most_keys=100, monotonic_ns=clock)
    admitted = sum(quotas.take(f"key-{number}").admitted for number in range(1000))
    assert admitted == 100 + 5
    assert len(quotas) == 101


def test_full_buckets_make_room_for_others():
    clock = Clock()
    quotas = Quotas(1, 5, most_keys=100, monotonic_ns=clock)
    for number in range(101):
        quotas.take(f"key-{number}")
    clock.now += 2 * 10**9
    quotas.take("another")
    assert len(quotas) == 1


def test_past_its_quota_a_key_is_429_and_told_when_to_come_back(limited):
    client = limited.client()
    answers = [client.get(PATH) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert_problem(answers[-1], 429)
    assert int(answers[-1].headers["Retry-After"]) in (999, 1000)
    assert client.get("/livez").status_code == 200


def test_every_answer_tells_how_the_quota_stands(limited):
    client = limited.client()
    told = [client.get(PATH).headers["RateLimit"] for _ in range(4)]
    assert [text.split(";")[1] for text in told] == ["r=2", "r=1", "r=0", "r=0"]
    assert client.get(PATH).headers["RateLimit-Policy"] == '"key";q=3;w=3000'


def test_a_refused_request_is_counted_and_a_stranger_is_not(limited):
    client = limited.client()
    for _ in range(3):
        assert client.get("/api/v1/projects?no_such=1").status_code == 422
        assert "RateLimit" not in limited.client("").get(PATH).headers
    assert client.get(PATH).status_code == 429


def test_another_key_has_a_quota_of_its_own(limited):
    other = limited.key(role="admin")
    for _ in range(3):
        limited.client().get(PATH)
    assert limited.client().get(PATH).status_code == 429
    assert limited.client(other).get(PATH).status_code == 200


def test_what_our_services_ask_of_one_another_is_not_counted(limited):
    peer = limited.wiring.peer("predictions", "access")
    call = limited.call()
    for _ in range(10):
        peer.ask(call, "GET", "/events", scope="events:read")


def test_without_a_rate_nobody_is_counted(sqlite_yard):
    client = sqlite_yard.client()
    answers = [client.get(PATH) for _ in range(150)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers
