"""One soak: a server, its clients, the kills; then rest, and the invariants.

In order: the server and the table of all runs; load and kills for a while; the kills end, what was
not answered is asked again, the runs end; then the questions over REST, a stop in order, and the
look at what is left in folders and tables.
"""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

import httpx

from tests.server import Server
from tests.soak import datasets_load, invariants, models_load, predictions_load
from tests.soak.caller import Caller
from tests.soak.follower import Follower
from tests.soak.installation import installation
from tests.soak.kills import Killer
from tests.soak.ledger import Ledger
from tests.soak.leftovers import check_leftovers
from tests.soak.load import BASE, Client, base_table
from tests.soak.processes import VARIABLE
from tests.soak.report import Report

ACTS = [*datasets_load.ACTS, *models_load.ACTS, *predictions_load.ACTS]
_REST_SECONDS = 240.0
_STOP_SECONDS = 25.0


class Installation(Protocol):
    """One server or many, at one address."""

    def client(self) -> httpx.Client:
        """A client with the admin's key."""


@dataclass(frozen=True)
class Plan:
    """What to do."""

    database: str = "sqlite"
    seed: int = 1
    minutes: float = 4.0
    kills: int = 0
    """How many at least: the load goes on until then."""
    clients: int = 5
    workers: int = 2
    patience: float = 90.0
    """How long to ask again for what was not answered: an interrupted key is held for a minute."""
    restart_seconds: float = 10.0
    """How long a restart may take until the server is ready."""


def soak(plan: Plan) -> Report:
    """Carry out a plan."""
    report = Report(f"soak: {plan.database}, seed {plan.seed}, {plan.minutes:g} minutes")
    made = installation(plan.database, plan.workers, keep=lambda: not report.holds)
    with made as (server, environment):
        with server, ExitStack() as held:
            watch = Watch()
            ledger = Ledger()
            callers = [_caller(number, server, ledger, plan) for number in range(plan.clients)]
            clients = [
                Client(number, held.enter_context(closing(caller)), ACTS)
                for number, caller in enumerate(callers)
            ]
            follower = Follower(held.enter_context(server.client()))
            _upload_base(server)
            killer = Killer(server, environment[VARIABLE], f"{plan.seed}:kills")
            _put_under_load(server, [*clients, follower], killer, plan)
            watch.lap("load")
            come_to_rest(server, clients, plan.patience, report)
            watch.lap("rest")
            _report_load(clients, killer, plan, report)
            _ask(server, clients, follower, ledger, report)
            watch.lap("questions")
            _stop(server, report)
        check_leftovers(server.home, environment, report)
        watch.lap("leftovers")
    report.notes.append(f"took: {watch.laps}")
    if not report.holds:
        report.notes.append(f"kept for a look: {server.home.parent}")
    return report


class Watch:
    """How long each part took, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, int] = {}
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        """A part has ended."""
        self.laps[name] = round(time.monotonic() - self._since)
        self._since = time.monotonic()


def _caller(number: int, server: Server, ledger: Ledger, plan: Plan) -> Caller:
    return Caller(server.url, server.admin_key, ledger, f"{plan.seed}:client:{number}")


def _upload_base(server: Server) -> None:
    with server.client() as client:
        file = {"file": ("base.csv", base_table(), "text/csv")}
        made = client.post("/datasets", data={"name": BASE}, files=file)
        assert made.status_code == 201, made.text


def _put_under_load(
    server: Server, load: list[Client | Follower], killer: Killer, plan: Plan
) -> None:
    for one in load:
        one.start()
    killer.start()
    until = time.monotonic() + plan.minutes * 60
    while killer.is_alive() and (time.monotonic() < until or killer.count < plan.kills):
        time.sleep(0.2)
    killer.stop()
    killer.join()
    for one in load:
        one.stop()
    for one in load:
        one.join()
    if killer.error is not None:
        raise killer.error
    server.wait_until_ready()


def come_to_rest(
    server: Installation, clients: list[Client], patience: float, report: Report
) -> None:
    """Ask again what was not answered, and wait until all runs have ended."""
    ended = report.check("all work ends")
    for client in clients:
        unanswered = client.resolve(patience)
        report.notes.append(f"{client.name}: {unanswered} never answered") if unanswered else None
        ended.expect(client.error is None, f"{client.name} broke: {client.error!r}")
    until = time.monotonic() + _REST_SECONDS
    with server.client() as client:
        while not (rest := invariants.is_at_rest(client)) and time.monotonic() < until:
            time.sleep(0.5)
    ended.expect(rest, f"there are runs that don't end in {_REST_SECONDS:.0f} s")


def _report_load(clients: list[Client], killer: Killer, plan: Plan, report: Report) -> None:
    killed, outcomes = killer.killed, clients[0].ledger.outcomes
    report.kills, report.acknowledged = killed.roles.total(), outcomes["acknowledged"]
    roles = ", ".join(f"{role} {count}" for role, count in killed.roles.most_common())
    report.notes.append(f"kills: {killed.roles.total()} ({roles})")
    report_answers([client.caller for client in clients], report)
    report.notes += [
        f"writes: {dict(outcomes)}",
        f"longest until ready again: {_slowest(killed.recoveries)}",
    ]
    below = report.check("I6 all below a killed process end in 5 s")
    below.checked, below.violations = killed.roles.total(), killed.survivors
    restarts = report.check(f"I7 restart to ready in {plan.restart_seconds:g} s")
    for seconds in killed.restarts:
        restarts.expect(seconds < plan.restart_seconds, f"{seconds:.1f} s")
    if killed.restarts:
        worst, all_of_them = max(killed.restarts), sorted(killed.restarts)
        report.notes.append(
            f"restart to ready: median {all_of_them[len(all_of_them) // 2]:.1f} s, "
            f"longest {worst:.1f} s of {len(all_of_them)}"
        )


def report_answers(callers: Iterable[Caller], report: Report) -> None:
    """Judge what clients were answered, one by one."""
    tallies = [caller.tally for caller in callers]
    statuses: Counter[int] = Counter()
    answers = report.check("I5 only good answers and problems")
    right = report.check("no answer contradicts another")
    for tally in tallies:
        statuses += tally.statuses
        answers.checked += tally.statuses.total()
        answers.violations += tally.bad_answers
        right.checked += tally.statuses.total()
        right.violations += tally.wrong_answers
    none, slowest = sum(one.silences for one in tallies), max(one.slowest for one in tallies)
    report.notes.append(
        f"answers: {dict(sorted(statuses.items()))}, none: {none}, slowest: {slowest:.1f} s"
    )


def _slowest(recoveries: list[tuple[float, str]]) -> str:
    longest = {role: seconds for seconds, role in sorted(recoveries)}
    return ", ".join(f"{role} {seconds:.1f} s" for role, seconds in longest.items()) or "none"


def _ask(
    server: Server, clients: list[Client], follower: Follower, ledger: Ledger, report: Report
) -> None:
    with server.client() as client:
        invariants.check_promises(client, ledger, report)
        invariants.check_marks(client, ledger, report)
        invariants.check_ends(client, report)
        invariants.check_events(client, follower, report)
        invariants.check_served(client, clients, report)
        invariants.check_batches(client, report)


def _stop(server: Server, report: Report) -> None:
    check = report.check("a stop in order ends well in 25 s")
    started = time.monotonic()
    status = server.stop()
    took = time.monotonic() - started
    check.expect(status == 0 and took < _STOP_SECONDS, f"status {status} after {took:.1f} s")
