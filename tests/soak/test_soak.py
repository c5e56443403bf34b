"""The soak in its quick form: a few seconds of load and kills, and nothing is lost."""

import pytest

from tests.faults.rounds import rounds
from tests.soak.installation import DATABASES
from tests.soak.soak import Plan, soak

SEED = 46
"""The API, the worker and a child that fits are among the first that it kills."""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.fault("F36")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", DATABASES[: rounds(quick=1, full=2)])
def test_nothing_is_lost_under_kills(database):
    seconds = rounds(quick=12, full=60)
    # A key that was interrupted is held for a minute: what is unknown by then may stay so.
    waits = {"patience": 1.0, "restart_seconds": 100.0}
    report = soak(Plan(database, SEED, seconds / 60, kills=3, clients=3, workers=1, **waits))
    assert report.holds, report.text()
    assert report.kills >= 3, report.text()
    assert report.acknowledged >= 5, report.text()
