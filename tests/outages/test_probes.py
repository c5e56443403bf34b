"""What the probes of the outages say of who needs whom."""

from tests.outages.probes import PROBES


def test_a_deletion_needs_every_service_that_may_refer_to_a_dataset(sqlite_yard):
    """The streams service was missing: refusals while it was away were taken for faults."""
    deletion = next(one for one in PROBES if one.method == "DELETE")
    referrers = sqlite_yard.wiring.datasets.removal._referrers
    assert deletion.needs == {one._peer.name for one in referrers}
