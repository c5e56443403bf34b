"""What running processors do with records, whatever happens to them meanwhile."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.kernel.errors import Unavailable
from app.streams.groups import Groups
from app.streams.processors.aggregate import AggregateHandler
from app.streams.processors.dead_letters import PREFIX
from app.streams.processors.tables import ProcessorWindow
from tests.streams.processors.installation import PROCESSORS, WINDOWS


def events(count, *, start=0, step=1000):
    """Records with a time in milliseconds and a number."""
    return [{"at": start + index * step, "x": index} for index in range(count)]


def closed(streaming):
    return {
        (value["key"], value["window"]["start"]): value["values"]
        for value in streaming.values("out")
    }


def test_windows_are_told_when_they_close(any_streaming):
    any_streaming.topics("in", "out", "dead", partitions=2)
    any_streaming.create()
    any_streaming.append("in", *events(25), key=b"a")
    any_streaming.append("in", *events(11), key=b"bc")

    any_streaming.run_out()

    assert closed(any_streaming) == {
        ("a", "1970-01-01T00:00:00Z"): {"n": 10, "total": 45},
        ("a", "1970-01-01T00:00:10Z"): {"n": 10, "total": 145},
        ("bc", "1970-01-01T00:00:00Z"): {"n": 10, "total": 45},
    }
    shown = any_streaming.get()
    assert (shown["counts"]["taken"], shown["counts"]["written"]) == (36, 3)
    assert shown["rate"] > 0
    assert all(one["active"] for one in shown["partitions"])


def test_what_can_not_be_handled_goes_to_the_dead_letters_and_the_rest_goes_on(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create()
    bad = [b"{", b"[1]", b'{"at": "soon"}', b'{"at": 5, "x": "1"}', b'{"at": 5, "x": 1e999}']
    streaming.append("in", *events(5), *bad, *events(15, start=5000))

    streaming.run_out()

    assert [record.value for record in streaming.records("dead")] == bad
    told = [record.headers for record in streaming.records("dead")]
    assert [one[f"{PREFIX}reason"] for one in told] == [
        "not_json",
        "not_an_object",
        "not_a_time",
        "not_a_number",
        "not_a_number",
    ]
    assert [one[f"{PREFIX}offset"] for one in told] == ["5", "6", "7", "8", "9"]
    assert {(one[f"{PREFIX}topic"], one[f"{PREFIX}processor"]) for one in told} == {("in", "sums")}
    assert [value["values"]["n"] for value in streaming.values("out")] == [10]
    shown = streaming.get()
    assert shown["counts"]["dead"] == 5
    assert shown["last_failure"]["code"] == "not_a_number"


def test_without_a_topic_of_dead_letters_they_are_counted(streaming):
    streaming.topics("in", "out")
    streaming.create(dead_letter_topic=None)
    streaming.append("in", b"{", {"at": 1}, b"}")
    streaming.run_out()
    counts = streaming.get()["counts"]
    assert (counts["dropped"], counts["dead"], counts["taken"]) == (2, 0, 3)


@pytest.mark.parametrize(("late", "dead", "count"), [("dead_letter", 1, 0), ("drop", 0, 1)])
def test_a_late_record_is_counted_or_kept_by_choice(streaming, late, dead, count):
    streaming.topics("in", "out", "dead")
    streaming.create(aggregate={**WINDOWS, "late": late, "lateness_seconds": 5})
    times = [1000, 12_000, 2000, 15_000, 3000]
    streaming.append("in", *({"at": at} for at in times))
    streaming.run_out()
    assert [value["values"]["n"] for value in streaming.values("out")] == [2]
    assert len(streaming.records("dead")) == dead
    counts = streaming.get()["counts"]
    assert (counts["late"], counts["dead"]) == (count, dead)


def test_an_event_far_in_the_future_closes_no_window(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create()
    streaming.append("in", {"at": 1000}, {"at": "2999-01-01T00:00:00Z"}, {"at": 2000})
    streaming.run_out()
    assert streaming.values("out") == []
    assert [r.headers[f"{PREFIX}reason"] for r in streaming.records("dead")] == ["in_the_future"]


def test_a_pause_holds_at_once_and_goes_on_where_it_was(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create(state="paused")
    streaming.append("in", *events(11))
    runtime = streaming.runtime()
    for _ in range(3):
        runtime.turn()
    assert streaming.get()["lag"] == 11
    path = f"{PROCESSORS}/sums/state"
    assert streaming.client.put(path, json={"state": "running"}).json["state"] == "running"
    streaming.run_out()
    assert streaming.client.put(path, json={"state": "paused"}).json["state"] == "paused"
    # The process knows of no pause yet: what it does now is refused by the epoch.
    streaming.append("in", *events(10, start=20_000))
    before = streaming.get()
    assert not any(one["active"] for one in before["partitions"])
    for _ in range(20):
        runtime.turn()
    assert streaming.get()["lag"] == 10
    streaming.client.put(path, json={"state": "running"})
    streaming.run_out()
    assert [value["values"]["n"] for value in streaming.values("out")] == [10, 1]


def test_a_reset_begins_anew_with_nothing_folded(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create()
    streaming.append("in", *events(25))
    streaming.run_out()
    first = streaming.values("out")

    reset = streaming.client.post(f"{PROCESSORS}/sums/resets", json={"to": "earliest"})

    assert reset.status_code == 201
    assert (reset.json["generation"], reset.json["lag"]) == (1, 25)
    streaming.run_out()
    assert streaming.values("out") == first * 2
    again = {"to": "offsets", "offsets": [{"partition": 0, "offset": 20}]}
    streaming.client.post(f"{PROCESSORS}/sums/resets", json=again)
    streaming.run_out()
    with streaming.yard.wiring.database("streams").read() as session:
        windows = session.scalars(select(ProcessorWindow)).all()
    assert [window.state[0] for window in windows] == [5]


def test_a_reset_to_a_time_finds_the_first_record_that_is_not_older(streaming):
    streaming.topics("in", "out", "dead")
    for _ in range(3):
        streaming.append("in", {"at": 1})
    moment = streaming.records("in")[1].timestamp
    streaming.create(state="paused")
    body = {"to": "time", "time": moment.isoformat()}
    reset = streaming.client.post(f"{PROCESSORS}/sums/resets", json=body)
    assert reset.json["partitions"][0]["offset"] == 1


def test_what_raises_is_tried_so_often_then_given_up_and_the_others_go_on(streaming, monkeypatch):
    streaming.topics("in", "out", "dead")
    streaming.create(tries=2)
    take = AggregateHandler._take

    def raising(handler, record):
        if b'"x": 3' in record.value:
            raise ZeroDivisionError
        return take(handler, record)

    monkeypatch.setattr(AggregateHandler, "_take", raising)
    streaming.append("in", *events(11))
    streaming.run_out()
    assert [value["values"] for value in streaming.values("out")] == [{"n": 9, "total": 42}]
    (dead,) = streaming.records("dead")
    assert json.loads(dead.value)["x"] == 3
    assert dead.headers[f"{PREFIX}reason"] == "handler_failed"
    assert dead.headers[f"{PREFIX}tries"] == "2"
    assert streaming.get()["counts"]["errors"] == 2


def test_trouble_that_is_no_records_fault_is_waited_for(streaming, monkeypatch):
    streaming.topics("in", "out", "dead")
    streaming.create(tries=1)
    handle, failing = AggregateHandler.handle, [True]

    def away(handler, records):
        if failing:
            raise Unavailable("The service is away")
        return handle(handler, records)

    monkeypatch.setattr(AggregateHandler, "handle", away)
    streaming.append("in", *events(11))
    streaming.run_until(lambda: streaming.get()["counts"]["errors"] > 0)
    assert streaming.get()["last_failure"]["detail"] == "The service is away"
    assert streaming.get()["lag"] == 11
    failing.clear()
    streaming.run_out()
    assert streaming.records("dead") == []
    assert [value["values"]["n"] for value in streaming.values("out")] == [10]


def test_a_full_output_topic_holds_it_back_and_loses_nothing(streaming):
    streaming.topics("in", "dead")
    streaming.topics("out", retention={"max_records": 1})
    streaming.create()
    streaming.append("in", *events(11), *events(1, start=20_000))
    streaming.run_until(lambda: streaming.get()["counts"]["errors"] > 0)
    assert streaming.get()["last_failure"]["code"] == "log-full"
    assert streaming.get()["lag"] == 12
    wider = {"retention": {"max_records": 10}}
    assert streaming.client.patch("/api/v1/topics/out", json=wider).status_code == 200
    streaming.run_out()
    assert len(streaming.values("out")) == 2


def test_records_that_retention_dropped_unread_are_counted(streaming):
    streaming.topics("in", overflow="drop_oldest", retention={"max_records": 5})
    streaming.topics("out", "dead")
    streaming.create()
    streaming.append("in", *events(8))
    streaming.log.trim()
    streaming.run_out()
    counts = streaming.get()["counts"]
    assert counts["gone"] + counts["taken"] == 8
    assert counts["gone"] == 3


def test_partitions_are_spread_over_processes_and_go_to_those_that_stay(streaming):
    streaming.topics("in", "out", "dead", partitions=4)
    streaming.create()
    first, second = streaming.runtime("first"), streaming.runtime("second")
    first._groups = second._groups = Groups(
        streaming.yard.wiring.database("streams"), timedelta(seconds=0.6)
    )
    streaming.run_until(lambda: (first.partitions, second.partitions) == (2, 2))
    # One dies, and tells nobody.
    streaming.runtimes.remove(second)
    streaming.run_until(lambda: first.partitions == 4)
    # One that is told to stop hands back at once.
    third = streaming.runtime("third")
    third._groups = first._groups
    streaming.run_until(lambda: third.partitions == 2)
    first.stop()
    first.run()
    streaming.runtimes.remove(first)
    streaming.run_until(lambda: third.partitions == 4)


def test_one_that_is_started_in_anothers_place_need_not_wait_for_its_lease(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create()
    died = streaming.runtime("same")
    streaming.run_until(lambda: died.partitions == 1)
    streaming.runtimes.remove(died)
    restarted = streaming.runtime("same")
    restarted._bury_predecessors()
    streaming.run_until(lambda: restarted.partitions == 1, seconds=15)


def test_metrics_tell_of_each_processor(streaming):
    streaming.topics("in", "out", "dead")
    streaming.create()
    streaming.append("in", *events(11))
    labels = 'processor="sums",project="default"'
    assert f"modelyard_processor_lag{{{labels}}} 11.0" in streaming.client.get("/metrics").text
    streaming.run_out()
    told = streaming.client.get("/metrics").text
    assert f"modelyard_processor_lag{{{labels}}} 0.0" in told
    assert f'modelyard_processor_records_total{{outcome="taken",{labels}}} 11.0' in told
