"""What must hold after a soak, asked over REST of the server that lived through it, now at rest.

I1 acknowledged writes survive, I3 each run ends once and a succeeded one has one version, I4
numbers and positions have no gaps and keep their order, I8 a retry never doubles; and what was
served meanwhile is what is served now.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx

from tests.soak.follower import Follower
from tests.soak.ledger import GONE, Ledger, differences, same
from tests.soak.load import ROWS, Client
from tests.soak.report import Report

_ENDED = {"succeeded", "failed", "cancelled"}
_MOST_SERVED = 400


def pages(client: httpx.Client, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    """All items of a list; none when the list isn't there."""
    token: str | None = ""
    while token is not None:
        asked = {**query, "page_size": 500, **({"page_token": token} if token else {})}
        answer = client.get(path, params=asked)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        answer.raise_for_status()
        yield from answer.json()["items"]
        token = answer.json()["next_page_token"]


def check_promises(client: httpx.Client, ledger: Ledger, report: Report) -> None:
    """I1: what was acknowledged is there with its content, or was acknowledged deleted."""
    check = report.check("I1 acknowledged writes survive")
    for path, allowed in ledger.things().items():
        answer = client.get(path)
        found = GONE if answer.status_code == httpx.codes.NOT_FOUND else answer.json()
        wrong = differences(None if found is GONE else found, allowed)
        check.expect(wrong is None, f"{path}: {wrong} ({answer.status_code})")


def check_marks(client: httpx.Client, ledger: Ledger, report: Report) -> None:
    """I8: what was asked for under one key is there once at most, and where it was promised."""
    check = report.check("I8 retries never double")
    signs: dict[str, dict[Any, list[str]]] = {}
    for key, mark in ledger.marks.items():
        if mark.collection not in signs:
            signs[mark.collection] = _signs(client, mark.collection)
        found = signs[mark.collection].get(mark.sign, [])
        check.expect(len(found) <= 1, f"{key}: made {len(found)} times in {mark.collection}")
        if mark.path is not None and ledger.is_there(mark.path):
            check.expect(found == [mark.path], f"{key}: promised {mark.path}, found {found}")


def _signs(client: httpx.Client, collection: str) -> dict[Any, list[str]]:
    """The paths of a collection's items, by what marks them."""
    found: dict[Any, list[str]] = {}
    for item in pages(client, collection):
        if "source_digest" in item:
            sign, last = item["source_digest"], item["version"]
        elif "inputs" in item:
            sign, last = item["inputs"][0]["mass"], item["id"]
        else:
            sign, last = item["tags"].get("mark"), item["id"]
        found.setdefault(sign, []).append(f"{collection}/{last}")
    return found


def check_ends(client: httpx.Client, report: Report) -> None:
    """I3: each run and batch has ended, once; a succeeded run has one version, no other has any."""
    ends = report.check("I3 each run ends exactly once")
    versions = report.check("I3 one version per succeeded run")
    gaps = report.check("I4 version numbers and event numbers have no gaps")
    made: dict[str, list[str]] = {}
    for model in pages(client, "/models"):
        numbers = []
        for version in pages(client, f"/models/{model['name']}/versions"):
            numbers.append(version["version"])
            subject = f"{model['name']}/{version['version']}"
            made.setdefault(version["lineage"]["training_run"], []).append(subject)
        newest = model["newest_version"] or 0
        gaps.expect(max(numbers, default=0) <= newest, f"{model['name']}: {numbers} of {newest}")
        gaps.expect(len(set(numbers)) == len(numbers), f"{model['name']}: {sorted(numbers)}")
    for collection in ("/training-runs", "/batch-predictions"):
        for work in pages(client, collection):
            told = client.get(f"{collection}/{work['id']}/events").json()["items"]
            final = [event["type"] for event in told if event["type"] in _ENDED]
            subject = f"{collection}/{work['id']}"
            ends.expect(
                final == [work["state"]] and told[-1]["type"] == work["state"],
                f"{subject}: {work['state']}, ended {final}, last {told[-1]['type']}",
            )
            numbers = [event["seq"] for event in told]
            gaps.expect(numbers == list(range(1, len(told) + 1)), f"{subject}: events {numbers}")
            if collection == "/training-runs":
                _check_version(work, made.get(work["id"], []), versions, client)


def _check_version(run: dict[str, Any], made: list[str], check: Any, client: httpx.Client) -> None:
    if run["state"] != "succeeded":
        check.expect(not made, f"run {run['id']} {run['state']} ({run['error']}), made {made}")
        return
    named = f"{run['model']}/{run['model_version']}"
    gone = client.get(f"/models/{run['model']}/versions/{run['model_version']}").status_code == 404
    check.expect(made == ([] if gone else [named]), f"run {run['id']}: {named}, made {made}")


def check_numbers(client: httpx.Client, events: list[tuple[str, str, str]], report: Report) -> None:
    """I4: the numbers of all versions ever made, by the events, are 1, 2, 3 ... of each parent."""
    check = report.check("I4 numbers ever given have no gaps")
    given: dict[str, list[int]] = {}
    for _, type_, subject in events:
        if type_ in ("modelyard.dataset.version.ready", "modelyard.version.registered"):
            parent, _, number = subject.partition("/versions/")
            given.setdefault(parent, []).append(int(number))
    for parent, numbers in given.items():
        whole = list(range(1, len(numbers) + 1))
        check.expect(numbers == whole, f"{parent}: {numbers}")


def check_events(client: httpx.Client, follower: Follower, report: Report) -> None:
    """I4: who followed the events has seen them all, each once, in the order that stands now."""
    check = report.check("I4 events are followed without loss, in order")
    anew = Follower(client)
    for one in (follower, anew):
        while one.read():
            pass
    times = Counter(id_ for id_, _, _ in follower.seen)
    for id_, count in times.items():
        check.expect(count == 1, f"event {id_} was read {count} times")
    for place, (before, now) in enumerate(zip(follower.seen, anew.seen, strict=False)):
        check.expect(before == now, f"event {place}: followed {before}, now {now}")
    same_length = len(follower.seen) == len(anew.seen)
    check.expect(same_length, f"followed {len(follower.seen)} events of {len(anew.seen)}")
    check_numbers(client, anew.seen, report)
    ends = Counter(
        subject for _, type_, subject in anew.seen if type_.removeprefix("modelyard.run.") in _ENDED
    )
    for subject, count in ends.items():
        check.expect(count == 1, f"{subject}: {count} events of its end")


def check_served(client: httpx.Client, clients: list[Client], report: Report) -> None:
    """What was served under fire is what a server at rest serves."""
    check = report.check("predictions equal those of a server at rest")
    for one in clients:
        for (model, number, row), outputs in list(one.served.items())[-_MOST_SERVED:]:
            if one.ledger.is_there(f"/models/{model}/versions/{number}"):
                now = _predict(client, model, number, [ROWS[row]])
                check.expect(same(outputs, now), f"{model}/{number}: {outputs}, now {now}")


def check_batches(client: httpx.Client, report: Report) -> None:
    """What a batch holds is what single predictions say of the same rows."""
    check = report.check("batches equal single predictions")
    for batch in pages(client, "/batch-predictions"):
        path = f"/models/{batch['model']}/versions/{batch['version']}"
        if batch["state"] != "succeeded" or client.get(path).status_code == 404:
            continue
        place = f"/batch-predictions/{batch['id']}/content"
        text = client.get(place, headers={"Accept": "text/csv"}).text
        rows = list(csv.DictReader(io.StringIO(text)))
        check.expect(len(rows) == batch["rows"], f"{batch['id']}: {len(rows)} rows")
        inputs = [{name: float(row[name]) for name in ("mass", "height")} for row in rows]
        labels = [
            out["label"] for out in _predict(client, batch["model"], batch["version"], inputs)
        ]
        check.expect(labels == [row["prediction"] for row in rows], f"{batch['id']} differs")


def _predict(
    client: httpx.Client, model: str, version: int, rows: list[dict[str, float]]
) -> list[dict[str, Any]]:
    path = f"/models/{model}/predict"
    answer = client.post(path, params={"version": version}, json={"inputs": rows})
    outputs: list[dict[str, Any]] = answer.raise_for_status().json()["outputs"]
    return outputs


def is_at_rest(client: httpx.Client) -> bool:
    """Whether every run and batch has ended."""
    return all(
        work["state"] in _ENDED
        for collection in ("/training-runs", "/batch-predictions")
        for work in pages(client, collection)
    )
