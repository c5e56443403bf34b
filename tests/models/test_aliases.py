"""Aliases: one version at a time, by If-Match, with a history and a way back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kernel.errors import Conflict, NotFound
from app.kernel.sql import new_id
from app.models.tables import CORRUPT, FAILED
from tests.models.modelyard import API, Modelyard, pointers

ALIASES = f"{API}/models/penguins/aliases"
CHAMPION = f"{ALIASES}/champion"


@pytest.fixture
def three(any_yard: Modelyard) -> Modelyard:
    """A yard in which penguins has three versions."""
    for _ in range(3):
        any_yard.register()
    return any_yard


def test_an_alias_is_made_and_moved(three: Modelyard) -> None:
    made = three.put_alias("champion", 1, body={"reason": "first"})
    assert (made.status_code, made.headers["Location"]) == (201, CHAMPION)
    moved = three.put_alias("champion", 2)
    assert (moved.status_code, moved.json["version"]) == (200, 2)
    shown = three.client().get(CHAMPION)
    assert shown.json == moved.json
    assert shown.headers["ETag"] == moved.headers["ETag"] != made.headers["ETag"]
    told = [data for kind, data in three.events() if kind == "alias.moved"]
    assert [(data["version"], data["previous"]) for data in told] == [(1, None), (2, 1)]


def test_of_parallel_puts_with_one_etag_one_wins(three: Modelyard) -> None:
    etag = three.put_alias("champion", 1).headers["ETag"]

    def put(number: int) -> int:
        return three.put_alias("champion", 2 + number % 2, headers={"If-Match": etag}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(put, range(4))) == [200, 412, 412, 412]
    assert len(three.client().get(f"{CHAMPION}/history").json["items"]) == 2


def test_of_parallel_first_puts_one_makes_it(three: Modelyard) -> None:
    def put(number: int) -> int:
        options = {"headers": {"If-None-Match": "*"}}
        return three.put_alias("champion", 1 + number % 3, **options).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(put, range(4))) == [201, 412, 412, 412]


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ("*", 200),
        ('"no", {etag}', 200),
        ("W/{etag}", 412),
        ('"no"', 412),
        ("no", 400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 400),
    ],
)
def test_if_match_is_read_as_the_standard_says(yard: Modelyard, tag: str, status: int) -> None:
    for _ in range(2):
        yard.register()
    etag = yard.put_alias("champion", 1).headers["ETag"]
    answer = yard.put_alias("champion", 2, headers={"If-Match": tag.format(etag=etag)})
    assert answer.status_code == status


def test_an_alias_that_is_not_there_matches_nothing(yard: Modelyard) -> None:
    yard.register()
    assert yard.put_alias("champion", 1, headers={"If-Match": "*"}).status_code == 412


def test_pointing_where_it_points_already_is_no_move(three: Modelyard) -> None:
    first = three.put_alias("champion", 1)
    again = three.put_alias("champion", 1)
    assert (again.status_code, again.headers["ETag"]) == (200, first.headers["ETag"])
    assert len(three.client().get(f"{CHAMPION}/history").json["items"]) == 1


def test_the_history_tells_who_moved_it_when_and_why(three: Modelyard) -> None:
    three.put_alias("champion", 1)
    three.put_alias("champion", 3, body={"reason": "better"})
    three.client().delete(CHAMPION)
    history = three.client().get(f"{CHAMPION}/history").json["items"]
    assert [(m["kind"], m["from_version"], m["to_version"]) for m in history] == [
        ("deleted", 3, None),
        ("set", 1, 3),
        ("set", None, 1),
    ]
    assert history[1]["reason"] == "better"
    assert len(history[0]["moved_by"]) == 8
    page = three.client().get(f"{CHAMPION}/history?page_size=2").json
    rest = three.client().get(f"{CHAMPION}/history?page_token={page['next_page_token']}").json
    assert page["items"] + rest["items"] == history


def test_a_rollback_goes_back_one_move_each_time(three: Modelyard) -> None:
    for version in (1, 2, 3):
        three.put_alias("champion", version)
    client = three.client()
    back = client.post(f"{CHAMPION}/rollback", json={"reason": "worse"})
    assert (back.status_code, back.json["version"], back.json["reason"]) == (200, 2, "worse")
    assert client.post(f"{CHAMPION}/rollback").json["version"] == 1
    assert client.post(f"{CHAMPION}/rollback").status_code == 409
    newest = client.get(f"{CHAMPION}/history").json["items"][0]
    assert (newest["kind"], newest["from_version"], newest["to_version"]) == ("rolled_back", 2, 1)


def test_a_rollback_passes_over_what_is_gone_or_not_ready(three: Modelyard) -> None:
    for version in (1, 2, 1, 3):
        three.put_alias("champion", version)
    three.client().delete(f"{API}/models/penguins/versions/2")
    assert three.client().post(f"{CHAMPION}/rollback").json["version"] == 1
    three.put_alias("champion", 3)
    with three.wiring.database("models").write() as session:
        three.version_row(session, 1).state = CORRUPT
    assert three.client().post(f"{CHAMPION}/rollback").status_code == 409


def test_a_retried_rollback_goes_back_once(three: Modelyard) -> None:
    for version in (1, 2, 3):
        three.put_alias("champion", version)
    key = {"Idempotency-Key": "r1"}
    for _ in range(2):
        back = three.client().post(f"{CHAMPION}/rollback", headers=key)
        assert (back.status_code, back.json["version"]) == (200, 2)
    stale = three.client().post(f"{CHAMPION}/rollback", headers={"If-Match": '"old"'})
    assert stale.status_code == 412


def test_an_alias_made_anew_does_not_go_back_beyond_its_deletion(three: Modelyard) -> None:
    three.put_alias("champion", 1)
    etag = three.client().get(CHAMPION).headers["ETag"]
    assert three.client().delete(CHAMPION, headers={"If-Match": '"no"'}).status_code == 412
    assert three.client().delete(CHAMPION, headers={"If-Match": etag}).status_code == 204
    assert three.client().delete(CHAMPION).status_code == 404
    again = three.put_alias("champion", 2)
    assert again.status_code == 201
    assert again.headers["ETag"] != etag
    assert three.client().post(f"{CHAMPION}/rollback").status_code == 409


@pytest.mark.parametrize("alias", ["3", "007", "latest"])
def test_names_that_mean_something_else_are_no_aliases(shared_yard: Modelyard, alias: str) -> None:
    answer = shared_yard.put_alias(alias, 1)
    assert (answer.status_code, pointers(answer)) == (422, ["alias"])
    assert shared_yard.client().get(f"{ALIASES}/{alias}").status_code == 404


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"version": 9}, "/version"),
        ({"version": 0}, "/version"),
        ({"version": "1"}, "/version"),
        ({"version": True}, "/version"),
        ({}, "/version"),
        ({"version": 1, "stage": "x"}, "/stage"),
        ({"version": 1, "reason": "a\u0000b"}, "/reason"),
    ],
)
def test_a_bad_target_is_refused(
    shared_yard: Modelyard, body: dict[str, object], place: str
) -> None:
    answer = shared_yard.client().put(f"{ALIASES}/x", json=body)
    assert (answer.status_code, pointers(answer)) == (422, [place])


def test_only_a_ready_version_can_be_aliased(three: Modelyard) -> None:
    with three.wiring.database("models").write() as session:
        three.version_row(session, 1).state = FAILED
    assert three.put_alias("champion", 1).status_code == 409
    assert three.put_alias("champion", 2).status_code == 201


def test_aliases_are_listed_by_name(three: Modelyard) -> None:
    for alias, version in (("challenger", 2), ("champion", 1), ("a-1", 3)):
        three.put_alias(alias, version)
    listed = three.client().get(ALIASES).json["items"]
    assert [item["alias"] for item in listed] == ["a-1", "challenger", "champion"]
    found = three.client().get(f"{ALIASES}?version__eq=1").json["items"]
    assert [item["alias"] for item in found] == ["champion"]


def test_reading_is_not_enough_to_move_an_alias(shared_yard: Modelyard) -> None:
    reader = shared_yard.client(shared_yard.key(role="viewer"))
    assert reader.put(CHAMPION, json={"version": 1}).status_code == 403
    assert reader.post(f"{CHAMPION}/rollback").status_code == 403
    assert reader.delete(CHAMPION).status_code == 403


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from([1, 2, 3, "back"]), max_size=12))
def test_rollbacks_undo_sets_like_a_stack(shared_yard: Modelyard, steps: list[int | str]) -> None:
    while shared_yard.models.get(shared_yard.call(), "penguins").last_number < 3:
        shared_yard.register()
    aliases, call, alias = shared_yard.models.aliases, shared_yard.call(), f"a{new_id()}"
    stack: list[int] = []
    for step in steps:
        if isinstance(step, int):
            aliases.put(call, "penguins", alias, step)
            stack += [step] if stack[-1:] != [step] else []
        elif len(stack) < 2:
            with pytest.raises(Conflict if stack else NotFound):
                aliases.rollback(call, "penguins", alias)
        else:
            stack.pop()
            assert aliases.rollback(call, "penguins", alias).version == stack[-1]
