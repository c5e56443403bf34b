"""The load before which services go away and come back, and what must hold when it has ended.

The soak's clients, who know what they were promised; a producer of records; a follower of the
events; and the probes. All go through the gateway, with a key that the access service has made.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx

from tests.fleet import Fleet
from tests.outages.probes import MODEL, PROBES, Prober, wait_for_it, wait_until_well
from tests.outages.records import Producer, check_records, furnish, read_all
from tests.server import wait_for
from tests.soak import invariants
from tests.soak.caller import Caller
from tests.soak.follower import Follower
from tests.soak.ledger import Ledger
from tests.soak.load import BASE, FEATURES, Client, base_table
from tests.soak.report import Report
from tests.soak.soak import ACTS, come_to_rest, report_answers

_CLIENTS = 2
_PATIENCE = 90.0
_CONVERGE_SECONDS = 60.0
_TOLD = "modelyard.events"
Wire = Callable[[], httpx.BaseTransport]
_NOT_FED = ("keys/", "projects/", "predictions/", "batch-predictions/")


class Load:
    """Everybody who asks something of a fleet."""

    def __init__(self, fleet: Fleet, held: ExitStack, wire: Wire | None) -> None:
        self.ledger = Ledger()
        key = _furnish(fleet)

        def client() -> httpx.Client:
            return held.enter_context(fleet.client(key, wire and wire()))

        def caller(name: str) -> Caller:
            made = Caller(fleet.url, key, self.ledger, name, wire and wire())
            return held.enter_context(closing(made))

        self.clients = [Client(n, caller(f"outages:{n}"), ACTS) for n in range(_CLIENTS)]
        self.producer = Producer(caller("producer"))
        self.follower = Follower(client())
        self.probers = [Prober(one, client()) for one in PROBES]
        self._fleet = fleet

    @property
    def _threads(self) -> list[Any]:
        return [*self.clients, self.producer, self.follower, *self.probers]

    def start(self) -> None:
        """Let them all begin, and wait until all is well."""
        for thread in self._threads:
            thread.start()
        assert wait_until_well(self.probers, 60), [one.seen[-1] for one in self.probers if one.seen]

    def stop(self, report: Report) -> None:
        """Let them end, and look at what they have got."""
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join(120)
        come_to_rest(self._fleet, self.clients, _PATIENCE, report)
        report_answers([one.caller for one in (*self.clients, self.producer)], report)
        self._check(report)

    def _check(self, report: Report) -> None:
        with self._fleet.client() as client:
            invariants.check_promises(client, self.ledger, report)
            invariants.check_marks(client, self.ledger, report)
            invariants.check_ends(client, report)
            invariants.check_served(client, self.clients, report)
            check_records(client, self.producer, report)
            _check_events(client, self.follower, report)
            _check_aliases(client, report)
        report.acknowledged = self.ledger.outcomes["acknowledged"]


@contextmanager
def load_on(fleet: Fleet, report: Report, wire: Wire | None = None) -> Iterator[Load]:
    """The load, while the block runs; then the invariants, into the report.

    ``wire`` makes each client's way to the gateway, where it isn't the plain one.
    """
    with ExitStack() as held:
        load = Load(fleet, held, wire)
        load.start()
        yield load
        load.stop(report)


def _furnish(fleet: Fleet) -> str:
    """A table, a model, a topic; the secret of a key that the access service made."""
    with fleet.client() as client:
        file = {"file": ("base.csv", base_table(), "text/csv")}
        made = client.post("/datasets", data={"name": BASE}, files=file)
        assert made.status_code == 201, made.text
        wanted = {"model": MODEL, "dataset": BASE, "target": "kind", "features": list(FEATURES)}
        run = client.post("/training-runs", json={**wanted, "estimator": {"name": "GaussianNB"}})
        assert run.status_code == 202, run.text
        ended = wait_for(client, f"/training-runs/{run.json()['id']}")
        assert ended["state"] == "succeeded", ended
        furnish(client)
        key = client.post("/keys", json={"name": "load", "role": "admin"})
        assert key.status_code == 201, key.text
        return str(key.json()["secret"])


def _check_events(client: httpx.Client, follower: Follower, report: Report) -> None:
    """Who followed has read each event once, those of one thing in order; so has the topic."""
    check = report.check("events are followed without loss, in the order of each service")
    anew = Follower(client)
    for one in (follower, anew):
        wait_for_it(lambda one=one: one.read() == 0, _CONVERGE_SECONDS)  # type: ignore[misc]
        check.expect(not one.refusals, f"refused: {one.refusals[:1]}")
        check.expect(bool(one.seen), "there were no events")
    times = Counter(id_ for id_, _, _ in follower.seen)
    check.expect(max(times.values(), default=1) == 1, f"read twice: {times.most_common(3)}")
    followed, told = _by_subject(follower), _by_subject(anew)
    for subject in followed.keys() | told.keys():
        same = followed.get(subject) == told.get(subject)
        check.expect(same, f"{subject}: {followed.get(subject)}, now {told.get(subject)}")
    check = report.check("the topic of events converges: each once")
    wanted = {id_ for id_, _, subject in anew.seen if not subject.startswith(_NOT_FED)}

    def fed() -> Counter[str]:
        ids = (record["headers"].get("ce_id", "") for record in read_all(client, _TOLD))
        return Counter(ids)

    wait_for_it(lambda: fed().keys() >= wanted, _CONVERGE_SECONDS)
    found = fed()
    check.checked = len(wanted)
    check.expect(wanted <= found.keys(), f"missing: {sorted(wanted - found.keys())[:5]}")
    check.expect(max(found.values(), default=1) == 1, f"doubled: {found.most_common(3)}")


def _by_subject(follower: Follower) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for id_, _, subject in follower.seen:
        found.setdefault(subject, []).append(id_)
    return found


def _check_aliases(client: httpx.Client, report: Report) -> None:
    """What predictions know of names is what the models service says."""
    check = report.check("the read model of names converges")
    row = {"inputs": [dict.fromkeys(FEATURES, 1.0)]}
    for model in invariants.pages(client, "/models"):
        path = f"/models/{model['name']}"
        for alias in invariants.pages(client, f"{path}/aliases"):
            said = _asker(client, f"{path}/predict", alias["alias"], row)
            wait_for_it(lambda said=said, alias=alias: said() == alias["version"], 20)  # type: ignore[misc]
            wrong = f"{path}@{alias['alias']}: {said()}, should be {alias['version']}"
            check.expect(said() == alias["version"], wrong)


def _asker(client: httpx.Client, path: str, alias: str, row: Any) -> Callable[[], Any]:
    def said() -> Any:
        answer = client.post(path, params={"alias": alias}, json=row)
        return answer.json()["version"] if answer.is_success else answer.status_code

    return said
