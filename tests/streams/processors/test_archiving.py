"""Records that become versions of a dataset."""

import json
import time
from collections import Counter

import pytest

from app.kernel.errors import Conflict, Invalid, TooLarge, Unavailable
from app.kernel.log.seam import NewRecord, Record
from app.kernel.sql import utc_now
from app.streams.processors.archive import Archiving as Kind
from app.streams.processors.dead_letters import PREFIX
from app.streams.processors.handling import Share
from tests.problems import assert_problem
from tests.streams.processors.archiving import DATASETS, Archiving, ArchivingYard
from tests.streams.processors.installation import PROCESSORS

CONFIG = {"dataset": "d", "rows": 4, "seconds": 60.0, "columns": None, "include": []}


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    made = ArchivingYard(tmp_path_factory.mktemp("archiving") / "home")
    yield made
    made.close()


@pytest.fixture
def archiving(yard):
    """Empty topics, and no dataset."""
    made = Archiving(yard)
    made.topics("in", partitions=2)
    made.topics("dead")
    yield made
    for processor in made.client.get(PROCESSORS).json["items"]:
        made.client.delete(f"{PROCESSORS}/{processor['name']}")
    for topic in ("in", "dead"):
        made.client.delete(f"/api/v1/topics/{topic}")
    for dataset in made.client.get(DATASETS).json["items"]:
        made.client.delete(f"{DATASETS}/{dataset['name']}")
    made.close()


def produce(archiving, count, start=0, partition=0):
    values = [{"n": number, "carrier": "UA"} for number in range(start, start + count)]
    records = [NewRecord(json.dumps(value).encode(), partition=partition) for value in values]
    archiving.log.append(archiving.topic_id("in"), records)


def test_so_many_records_of_a_partition_are_a_version_and_the_rest_follows_in_time(archiving):
    produce(archiving, 25)
    produce(archiving, 12, partition=1)
    archiving.archive()
    archiving.run_out("kept")
    assert archiving.ranges(0) == [(0, 10), (10, 20), (20, 25)]
    assert archiving.ranges(1) == [(0, 10), (10, 12)]
    places = [(0, offset) for offset in range(25)] + [(1, offset) for offset in range(12)]
    assert archiving.places() == places
    [version] = [one for one in archiving.versions() if one["rows"] == 5]
    offsets = [{"partition": 0, "first": 20, "next": 25}]
    assert version["origin"] == {"topic": "in", "processor": "kept", "offsets": offsets}
    counts = archiving.get("kept")["counts"]
    assert (counts["taken"], counts["dead"], counts["errors"]) == (37, 0, 0)


def test_what_is_no_row_goes_to_the_dead_letters(archiving):
    good = [{"n": 1, "why": None}, {"n": 2.5}, {"n": 3, "why": "late"}]
    bad = [b"{", [1], {"n": {"deep": 1}}, {"n": "\0"}, b'{"n": "\\ud800"}', b'{"n": 1e999}', {}]
    bad += [{"record_offset": 1}, {"x" * 300: 1}, {"": 1}]
    mixed = [value for pair in zip(good, bad, strict=False) for value in pair] + bad[3:]
    topic = archiving.topic_id("in")
    encoded = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in mixed]
    archiving.log.append(topic, [NewRecord(one, partition=0) for one in encoded])
    archiving.archive(archive={"rows": 100})
    archiving.run_out("kept")
    assert [row["n"] for row in archiving.rows()] == [1, 2.5, 3]
    dead = archiving.records("dead")
    assert sorted(record.value for record in dead) == sorted(
        one if isinstance(one, bytes) else json.dumps(one).encode() for one in bad
    )
    reasons = Counter(record.headers[f"{PREFIX}reason"] for record in dead)
    assert reasons == {
        "not_json": 1,
        "not_an_object": 1,
        "nested": 1,
        "not_text": 2,
        "not_a_number": 1,
        "no_fields": 1,
        "name_taken": 1,
        "not_a_row": 2,
    }
    assert archiving.get("kept")["counts"]["taken"] == len(mixed)


def test_some_fields_are_taken_and_places_beside_them(archiving):
    records = [
        NewRecord(b'{"n": 1, "deep": [1]}', key=b"k", id="one", partition=0),
        NewRecord(b'{"m": 2}', partition=0),
    ]
    archiving.log.append(archiving.topic_id("in"), records)
    places = ["key", "id", "timestamp"]
    archiving.archive(archive={"columns": ["n", "m"], "include": places, "rows": 2})
    archiving.run_out("kept")
    first, second = archiving.rows()
    assert (first["n"], first["m"], first["record_key"], first["record_id"]) == (
        1,
        None,
        "k",
        "one",
    )
    assert (second["n"], second["m"], second["record_key"], second["record_id"]) == (
        *(None, 2),
        *(None, None),
    )
    assert first["record_timestamp"].startswith("20")


def test_a_reset_archives_anew_and_a_deleted_dataset_is_held(archiving):
    produce(archiving, 10)
    archiving.archive()
    archiving.run_out("kept")
    refused = assert_problem(archiving.client.delete(f"{DATASETS}/flights"), 409)
    assert [one["subject"] for one in refused["referrers"]] == ["processors/kept"]
    reset = archiving.client.post(f"{PROCESSORS}/kept/resets", json={"to": "earliest"})
    assert reset.status_code == 201
    archiving.run_out("kept")
    assert archiving.ranges() == [(0, 10), (0, 10)]
    assert archiving.client.delete(f"{DATASETS}/flights/versions/1").status_code == 204
    assert archiving.client.delete(f"{PROCESSORS}/kept").status_code == 204
    assert archiving.client.delete(f"{DATASETS}/flights").status_code == 204


def test_how_much_is_a_version_may_change_and_what_is_in_a_row_may_not(archiving):
    archiving.archive()
    path = f"{PROCESSORS}/kept"
    shown = archiving.get("kept")["archive"]
    assert (shown["rows"], shown["columns"]) == (10, None)
    changed = archiving.client.patch(path, json={"archive": {**shown, "rows": 3, "seconds": 5}})
    assert changed.status_code == 200, changed.text
    refused = archiving.client.patch(path, json={"archive": {**shown, "columns": ["n"]}})
    problem = assert_problem(refused, 422)
    assert problem["errors"][0]["code"] == "immutable"
    produce(archiving, 6)
    archiving.run_out("kept")
    assert archiving.ranges() == [(0, 3), (3, 6)]


@pytest.mark.parametrize(
    ("archive", "pointer"),
    [
        ({"dataset": "No Name"}, "/archive/dataset"),
        ({"rows": 0}, "/archive/rows"),
        ({"rows": 100_001}, "/archive/rows"),
        ({"seconds": 0}, "/archive/seconds"),
        ({"columns": []}, "/archive/columns"),
        ({"columns": ["a", "b", "a"]}, "/archive/columns/2"),
        ({"include": ["offset", "offset"]}, "/archive/include/1"),
        ({"include": ["value"]}, "/archive/include/0"),
    ],
)
def test_what_can_not_be_is_refused_with_its_place(archiving, archive, pointer):
    body = {"name": "x", "kind": "archive", "topic": "in", "dead_letter_topic": None}
    wanted = {**body, "archive": {"dataset": "d", **archive}}
    problem = assert_problem(archiving.client.post(PROCESSORS, json=wanted), 422)
    assert problem["errors"][0]["pointer"] == pointer


def test_who_may_write_no_datasets_has_none_written(archiving, yard):
    """A key for topics alone could have had datasets made in its name."""
    client = yard.client(yard.key(scopes=["topics:read", "topics:write"]))
    body = {"name": "x", "kind": "archive", "topic": "in", "dead_letter_topic": None}
    wanted = {**body, "archive": {"dataset": "d"}}
    problem = assert_problem(client.post(PROCESSORS, json=wanted), 403)
    assert problem["scope"] == "datasets:write"
    archiving.archive()
    shown = archiving.get("kept")["archive"]
    assert_problem(client.patch(f"{PROCESSORS}/kept", json={"archive": shown}), 403)


class Kept:
    """An archive in memory; ``wrong`` says which rows it refuses, and how."""

    def __init__(self, wrong=lambda _rows: None):
        self.parts = {}
        self.sizes = []
        self.wrong = wrong

    def keep(self, call, dataset, part, rows):
        """See the port."""
        self.sizes.append(len(rows))
        for first, end in self.parts:
            if first <= part.first < end:
                return end
        error = self.wrong(rows)
        if error is not None:
            raise error
        self.parts[part.first, part.next] = [row["n"] for row in rows]
        return part.next


def handler(archives, clock=time.monotonic, **config):
    share = Share("id", "kept", "default", "in", 0, 0, {**CONFIG, **config})
    return Kind(archives, clock).open(share)


def records_from(start, count, value=lambda offset: {"n": offset}):
    return [
        Record(0, offset, utc_now(), None, json.dumps(value(offset)).encode(), {}, None)
        for offset in range(start, start + count)
    ]


def test_fewer_records_are_waited_for_until_the_time_is_over():
    now = [100.0]
    kept = Kept()
    one = handler(kept, lambda: now[0])
    waits = one.handle(records_from(0, 3)).patience
    assert (waits.records, waits.seconds) == (4, 60.0)
    now[0] += 45
    assert one.handle(records_from(0, 3)).patience.seconds == 15.0
    now[0] += 15
    assert one.handle(records_from(0, 3)).taken == 3
    # What comes next begins to wait anew.
    assert one.handle(records_from(3, 1)).patience.seconds == 60.0
    assert one.handle(records_from(3, 9)).taken == 4
    assert kept.parts == {(0, 3): [0, 1, 2], (3, 7): [3, 4, 5, 6]}


def test_large_records_are_not_waited_for():
    """A reading ends early where records are large: they would have waited for ever."""
    kept = Kept()
    large = records_from(0, 3, lambda offset: {"n": offset, "text": "x" * 1_500_000})
    assert handler(kept).handle(large).taken == 3


def test_what_was_archived_before_a_death_is_passed_and_not_archived_again():
    kept = Kept()
    kept.parts[0, 2] = [0, 1]
    bad = records_from(0, 4, lambda offset: {"n": offset} if offset else [])
    outcome = handler(kept).handle(bad)
    assert (outcome.taken, [record.offset for record, _ in outcome.refused]) == (2, [0])
    longer = Kept()
    longer.parts[0, 9] = list(range(9))
    assert handler(longer).handle(records_from(0, 4)).taken == 4
    assert handler(longer).handle(records_from(4, 8)).taken == 4


@pytest.mark.parametrize("named", [True, False])
def test_one_row_that_fits_no_table_is_found_and_the_others_are_kept(named):
    def wrong(rows):
        bad = [place for place, row in enumerate(rows, start=1) if row["n"] == 5]
        if not bad:
            return None
        if named:
            return Invalid.at(f"/rows/{bad[0]}/n", "nested", "no value")
        return TooLarge("too large") if len(rows) > 2 else Invalid("no table")

    kept, records, offset = Kept(wrong), records_from(0, 12), 0
    one, refused = handler(kept, rows=12, seconds=0), []
    while offset < 12:
        outcome = one.handle(records[offset:])
        assert outcome.taken > 0
        offset += outcome.taken
        refused += [record.offset for record, _ in outcome.refused]
    assert refused == [5]
    assert sorted(n for rows in kept.parts.values() for n in rows) == [*range(5), *range(6, 12)]
    assert len(kept.sizes) <= (5 if named else 16)


@pytest.mark.parametrize("error", [Conflict("being deleted"), Unavailable("away")])
def test_trouble_of_the_datasets_service_is_waited_for(error):
    with pytest.raises(Unavailable):
        handler(Kept(lambda _rows: error)).handle(records_from(0, 4))
