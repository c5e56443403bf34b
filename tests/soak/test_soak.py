"""The soak in its quick form: a quarter of a minute of load and kills, and nothing is lost."""

import pytest

from tests.soak.soak import Plan, soak

QUICK = Plan(seed=5, minutes=0.25, clients=3, patience=1.0, restart_seconds=60.0)


@pytest.mark.slow
@pytest.mark.fault("F36")
@pytest.mark.timeout(300)
def test_nothing_is_lost_under_kills():
    report = soak(QUICK)
    assert report.holds, report.text()
    assert report.kills >= 2, report.text()
    assert report.acknowledged >= 10, report.text()
