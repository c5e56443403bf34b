"""Every server of a fleet is stopped in order and started again, one after another, under load.

There are two servers of each service. In order, for each: SIGTERM; its exit; its start; ready; all
is well. Whoever asks once more after a refusal must always be answered, each record must be there
once and each run must end once.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import structlog

from tests.fleet import Fleet
from tests.outages.load import load_on
from tests.outages.once_more import Asked, OnceMore
from tests.outages.probes import PROBES, wait_until_well
from tests.soak.report import Report

_WELL_SECONDS = 60.0
_HASTY, _HASTY_PAUSE = 2, 0.01
_BY_THEMSELVES = [one for one in PROBES if not one.needs]
"""What each service can answer without another."""
log = structlog.get_logger("rolling")


def rolling(fleet: Fleet) -> Report:
    """Restart all servers, and judge what clients saw."""
    servers = fleet.all_servers
    report = Report(f"rolling restart of {len(servers)} servers")
    asked = Asked()
    with (
        load_on(fleet, report, lambda: OnceMore(asked)) as load,
        _hasty(lambda: fleet.client(transport=OnceMore(asked))),
    ):
        ended = report.check("each server ends in order")
        well = report.check("all is well after each restart")
        for server in servers:
            name, since = server.home.name, time.monotonic()
            status = server.stop()
            stopped = time.monotonic()
            ended.expect(status == 0, f"{name}: {status}")
            server.start()
            ready = time.monotonic()
            well.expect(wait_until_well(load.probers, _WELL_SECONDS), name)
            took = f"{name}: ended in {stopped - since:.1f} s, ready {ready - stopped:.1f} s later"
            report.notes.append(took)
            log.info("was_restarted", told=took, again=dict(asked.again), failed=asked.failed)
        report.kills = len(servers)
    failed = report.check("who asks once more is always answered")
    failed.checked, failed.violations = asked.requests, list(asked.failed)
    normal = report.check("and as it was before")
    for prober in load.probers:
        for seen in prober.seen:
            wrong = f"{prober.probe.name}: {seen.status} {seen.fault or ''}"
            normal.expect(seen.status == prober.probe.normal, wrong)
    report.notes.append(f"asked once more: {asked.again.total()} of {asked.requests}")
    report.notes += [f"  {count} x {why}" for why, count in asked.again.most_common()]
    return report


@contextmanager
def _hasty(client: Callable[[], httpx.Client]) -> Iterator[None]:
    """While the block runs, some ask each service with hardly a pause: they meet the moment in
    which a server closes its connections.
    """
    ended = threading.Event()

    def ask() -> None:
        with client() as asking:
            for one in itertools.cycle(_BY_THEMSELVES):
                if ended.wait(_HASTY_PAUSE):
                    return
                with suppress(httpx.TransportError):
                    asking.request(one.method, one.path, **one.options)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(_HASTY)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
