"""Amounts that are taken in by lots are those that the Prometheus client would tell."""

import threading

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.kernel.meters import Counter, Histogram

BOUNDS = (0.001, 0.5, 1, 60)
AMOUNTS = st.lists(
    st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100, allow_nan=False)), max_size=40
)


def told(registry):
    """What a scrape shows, without when each metric was made."""
    text = prometheus_client.generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.dictionaries(st.sampled_from(["GET", "POST"]), AMOUNTS))
def test_the_scrape_is_the_prometheus_clients(amounts):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("s", "Seconds.", ("method",), ours, BOUNDS)
    counter = Counter("n_total", "Rows.", ("method",), ours)
    usual = prometheus_client.Histogram(
        "s", "Seconds.", ("method",), registry=theirs, buckets=BOUNDS
    )
    usual_counter = prometheus_client.Counter("n", "Rows.", ("method",), registry=theirs)
    for method, several in amounts.items():
        for amount in several:
            histogram.of(method).add(amount)
            counter.of(method).add(amount)
            usual.labels(method).observe(amount)
            usual_counter.labels(method).inc(amount)
    shown, expected = told(ours), told(theirs)
    empty = [method for method in amounts if not amounts[method]]
    assert shown == {k: v for k, v in expected.items() if not {("method", m) for m in empty} & {*k}}


def test_nothing_is_lost_between_threads_and_scrapes():
    registry = CollectorRegistry()
    rows = Counter("rows_total", "Rows.", (), registry).of()
    ended = threading.Event()

    def add():
        for _ in range(5_000):
            rows.add()

    def look():
        while not ended.is_set():
            registry.get_sample_value("rows_total")

    threads = [threading.Thread(target=add) for _ in range(4)]
    scrapes = threading.Thread(target=look)
    scrapes.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    scrapes.join()
    assert registry.get_sample_value("rows_total") == 20_000


def test_the_same_labels_are_the_same_amounts():
    counter = Counter("rows_total", "Rows.", ("model",), CollectorRegistry())
    assert counter.of("a") is counter.of("a")
    assert counter.of("a") is not counter.of("b")
