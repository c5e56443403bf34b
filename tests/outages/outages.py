"""One service after the other is killed, stays away for a while under load, and comes back.

In order, for each: all is well; ``kill -9``; the others are asked meanwhile; its start; the seconds
until all are answered as before. At the end the load's own invariants. Judged is for each outage:
what doesn't need the service was answered as ever; what needs it was refused with 503 and
Retry-After, and soon, once its callers had noticed; all was well again in time.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.settings_table import SERVICES
from tests.fleet import ALONE, Fleet
from tests.nats import NatsServer
from tests.outages.load import load_on
from tests.outages.probes import Prober, milliseconds, wait_until_well
from tests.soak.installation import postgres_databases
from tests.soak.report import Report

log = structlog.get_logger("outages")
_NOTICED_SECONDS = 2.5
"""By then what was remembered is forgotten, and the callers' breakers are open."""
_IN_FLIGHT_SECONDS = 0.5
_CALM_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What to do."""

    services: Sequence[str] = SERVICES
    seconds: float = 60.0
    refusal_seconds: float = 0.1
    """The longest median of refusals."""
    heal_seconds: float = 10.0


@dataclass(frozen=True)
class Outage:
    """When a service was killed, started again, and ready."""

    service: str
    killed: float
    started: float
    ready: float


@contextmanager
def fleet_apart(
    groups: Sequence[Sequence[str]] = ALONE, replicas: int = 1, **settings: str
) -> Iterator[Fleet]:
    """Running servers, each service with a database and a user of its own, and NATS."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        server = held.enter_context(postgres_databases())
        databases = {service: server.owned() for service in SERVICES}
        nats = NatsServer(folder / "nats").start()
        held.callback(nats.kill)
        nats.wait_until_ready()
        shared = {
            "MODELYARD_LOG_URL": f"nats://{nats.address}",
            # However long this machine takes to start a server.
            "MODELYARD_KEYS_BELIEVED": "900",
            **settings,
        }
        yield held.enter_context(Fleet(folder, groups, databases, replicas=replicas, **shared))


def outages(fleet: Fleet, plan: Plan) -> Report:
    """Carry out a plan on a fleet of services that are each alone."""
    report = Report(f"outages: each of {', '.join(plan.services)} for {plan.seconds:g} s")
    with load_on(fleet, report) as load:
        for service in plan.services:
            outage = _away(fleet, service, plan.seconds)
            report.kills += 1
            wait_until_well(load.probers, 3 * plan.heal_seconds + _CALM_SECONDS)
            time.sleep(_CALM_SECONDS)
            _judge(outage, load.probers, plan, report)
            log.info("was_away", told=report.notes[-1])
    return report


def _away(fleet: Fleet, service: str, seconds: float) -> Outage:
    server = fleet.servers[service]
    killed = time.monotonic()
    server.kill()
    time.sleep(seconds)
    started = time.monotonic()
    server.start()
    return Outage(service, killed, started, time.monotonic())


def _judge(outage: Outage, probers: list[Prober], plan: Plan, report: Report) -> None:
    name = outage.service
    touched = [one for one in probers if one.probe.is_touched_by(name)]
    others = [one for one in probers if not one.probe.is_touched_by(name)]
    unmoved = report.check(f"{name} away: the others answer what is theirs")
    for prober in others:
        for seen in prober.between(outage.killed, time.monotonic()):
            wrong = f"{prober.probe.name}: {seen.status} {seen.fault or seen.told}"
            unmoved.expect(seen.status == prober.probe.normal, wrong)
    refused = report.check(f"{name} away: 503 with Retry-After, at once")
    told = []
    for prober in touched:
        during = prober.between(outage.killed + _IN_FLIGHT_SECONDS, outage.started)
        for seen in during:
            known = (
                seen.status == prober.probe.normal and seen.at < outage.killed + _NOTICED_SECONDS
            )
            right = known or (seen.status == 503 and not seen.fault)
            refused.expect(right, f"{prober.probe.name}: {seen.status} {seen.fault or seen.told}")
        later = prober.between(outage.killed + _NOTICED_SECONDS, outage.started)
        median, usual = milliseconds(later), milliseconds(prober.between(0, outage.killed))
        slow = f"{prober.probe.name}: {median:.0f} ms at the median, before {usual:.0f}"
        # On a machine that is busy, no answer comes sooner than any other.
        soon = median < max(1000 * plan.refusal_seconds, 2 * usual)
        refused.expect(bool(later) and soon, slow)
        told.append(f"{prober.probe.service} {median:.1f} ms (before: {usual:.1f})")
    healed = report.check(f"{name} back: all is well in {plan.heal_seconds:g} s")
    moments = {one.probe.name: one.is_well_since(outage.ready) for one in probers}
    for which, moment in moments.items():
        late = f"{which}: {'never' if moment is None else f'{moment - outage.ready:.1f} s'}"
        healed.expect(moment is not None and moment - outage.ready < plan.heal_seconds, late)
    longest = max((moment or outage.ready) - outage.ready for moment in moments.values())
    report.notes.append(
        f"{name}: refused in {', '.join(told)}; start to ready"
        f" {outage.ready - outage.started:.1f} s, all well {longest:.1f} s later"
    )
