"""The soak's own book-keeping: what contradicts a promise is noticed, what doesn't is not."""

import httpx
import pytest

from tests.soak.caller import fault_of
from tests.soak.ledger import Ledger, differences
from tests.soak.report import Report

PATH = "/datasets/d"


def verdict(ledger, found):
    return differences(found, ledger.things()[PATH])


def test_an_acknowledged_write_must_be_there_as_it_was_acknowledged():
    ledger = Ledger()
    ledger.holds(PATH, name="d")
    ledger.holds(PATH, description="new")
    assert verdict(ledger, {"name": "d", "description": "new", "rows": 3}) is None
    assert verdict(ledger, {"name": "d", "description": "old"}) is not None
    assert verdict(ledger, None) is not None


def test_an_unknown_change_may_have_come_or_not():
    ledger = Ledger()
    ledger.holds(PATH, description="old")
    ledger.may_hold(PATH, description="new")
    assert verdict(ledger, {"description": "old"}) is None
    assert verdict(ledger, {"description": "new"}) is None
    assert verdict(ledger, {"description": "other"}) is not None
    assert verdict(ledger, None) is not None


def test_an_unknown_creation_may_have_come_or_not():
    ledger = Ledger()
    ledger.may_hold(PATH, name="d")
    assert verdict(ledger, None) is None
    assert verdict(ledger, {"name": "d"}) is None
    ledger.holds(PATH, name="d")
    assert verdict(ledger, None) is not None


def test_what_was_deleted_is_gone_with_all_below_it():
    ledger = Ledger()
    ledger.holds(f"{PATH}/versions/1", rows=3)
    ledger.gone(PATH)
    assert verdict(ledger, None) is None
    assert verdict(ledger, {"name": "d"}) is not None
    assert not ledger.is_there(f"{PATH}/versions/1")


def test_an_unknown_deletion_may_have_come_or_not():
    ledger = Ledger()
    ledger.holds(PATH, name="d")
    ledger.may_be_gone(PATH)
    assert verdict(ledger, None) is None
    assert verdict(ledger, {"name": "d"}) is None
    assert verdict(ledger, {"name": "e"}) is not None


@pytest.mark.parametrize("status", [500, 502, 505])
def test_an_answer_that_no_client_may_see_is_noticed(status):
    assert fault_of(httpx.Response(status, text="Internal Server Error"))


def test_a_failure_that_is_no_problem_is_noticed():
    whole = {"status": 404, "request_id": "r", "type": "/problems/not-found"}
    as_problem = {"Content-Type": "application/problem+json"}
    assert fault_of(httpx.Response(404, json=whole, headers=as_problem)) is None
    assert fault_of(httpx.Response(404, json=whole))
    assert fault_of(httpx.Response(503, json={**whole, "status": 503}, headers=as_problem))


def test_one_violation_breaks_a_report():
    report = Report("soak")
    check = report.check("I1")
    check.expect(True, "never said")
    assert report.holds
    check.expect(False, "a promise was broken")
    assert not report.holds
    assert "VIOLATED I1: a promise was broken" in report.text()
