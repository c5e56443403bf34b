"""Servers of services apart are restarted one by one: who asks once more notices nothing."""

import pytest

from tests.fleet import COARSE
from tests.outages.outages import fleet_apart
from tests.outages.rolling import rolling

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


def test_a_rolling_restart_is_seen_by_nobody_who_asks_once_more():
    # How long a prediction waits for a core is this machine's affair, and no restart's.
    with fleet_apart(COARSE, replicas=2, MODELYARD_PREDICT_WAIT="10") as fleet:
        report = rolling(fleet)
    assert report.holds, report.text()
    assert report.acknowledged >= 5, report.text()
