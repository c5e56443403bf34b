"""What is loaded is bounded by the memory it takes; the least recently used goes first."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.predictions.loaded import USUAL_GROWTH, CacheMetrics, LoadedArtifacts


def location(name):
    return {"artifacts": [{"format": "text", "digest": f"sha-256:{name}", "bytes": 1}]}


def cache(most):
    """Of texts, which take 100 bytes each."""
    registry = CollectorRegistry()
    metrics = CacheMetrics(
        Gauge("bytes", "", registry=registry),
        Gauge("models", "", registry=registry),
        Counter("lookups", "", ("outcome",), registry=registry),
    )
    made = LoadedArtifacts(
        "text", lambda where, _: where["artifacts"][0]["digest"].encode(), loads, most, metrics
    )
    return made, lambda: tuple(registry.get_sample_value(name) for name in ("bytes", "models"))


def loads(_where, data):
    return data.decode(), 100


def test_no_more_is_held_than_there_is_room_for():
    held, told = cache(250)
    for name in ("a", "b", "a", "c"):
        assert held.get(location(name)) == f"sha-256:{name}"
    assert told() == (200, 2)
    assert [held.holds(location(name)) for name in "abc"] == [True, False, True]


def test_one_that_is_larger_than_the_room_is_held_alone():
    held, told = cache(10)
    for name in "ab":
        held.get(location(name))
    assert told() == (100, 1)


def test_what_is_dropped_is_loaded_again_when_it_is_asked_for():
    held, told = cache(250)
    held.get(location("a"))
    held.drop(location("a"))
    assert (held.holds(location("a")), told()) == (False, (0, 0))
    assert held.get(location("a")) == "sha-256:a"


def test_there_is_room_for_what_drops_nothing():
    held, _ = cache(199 + USUAL_GROWTH)
    assert held.has_room(location("b"))
    held.get(location("a"))
    assert held.has_room(location("b"))
    held.get(location("c"))
    assert not held.has_room(location("b"))
