"""Spans: beneath one another across threads, children and neighbours; free where nobody looks."""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from app.__main__ import main
from app.examination import parts
from app.kernel.auth import Call
from app.kernel.errors import Invalid, Unavailable
from app.kernel.jobs.queue import JobQueue
from app.kernel.jobs.worker import Worker
from app.kernel.local_rpc import Client, Server
from app.kernel.logs import configure_logs
from app.kernel.peer_guard import PeerGuard, PeerMeters
from app.kernel.peers import Peer
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, KernelBase
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import Trace
from tests.ports import free_port
from tests.tracing import TRACEPARENT, Collector, id_of, kept_spans, parent_of
from tests.yard import Yard

ROOT = Path(__file__).parents[2]
BEFORE = Trace(TRACEPARENT, "vendor=1")
LIMITS = Limits(wall_seconds=30, memory_bytes=512 << 20, cpu_seconds=30, file_bytes=20 << 20)
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.fixture
def kept():
    with kept_spans() as kept:
        yield kept


@pytest.fixture
def traced_yard(kept, tmp_path):
    made = Yard(tmp_path / "home")
    yield made
    made.close()


def ask(yard, path, method="GET", **sent):
    """The answer, read to its end: that ends the span."""
    answer = yard.client().open(f"/api/v1{path}", method=method, buffered=True, **sent)
    answer.close()
    return answer


def test_a_request_is_beneath_the_span_that_the_caller_names(kept, traced_yard):
    answer = ask(
        traced_yard,
        "/datasets?page_size=5",
        headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1", "X-Request-Id": "mine"},
    )
    assert answer.status_code == 200
    span = kept.named("GET /api/v1/datasets")
    assert f"00-{span.context.trace_id:032x}-{parent_of(span)}-01" == TRACEPARENT
    assert span.context.trace_state.to_header() == "vendor=1"
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/api/v1/datasets",
        "modelyard.project": "default",
        "modelyard.request_id": "mine",
        "network.peer.address": "127.0.0.1",
        "url.path": "/api/v1/datasets",
        "url.scheme": "http",
        "user_agent.original": span.attributes["user_agent.original"],
    }


@pytest.mark.parametrize("sent", ["nonsense", f"{TRACEPARENT},{TRACEPARENT}", "00-" + "0" * 52])
def test_a_caller_that_names_no_trace_begins_one(kept, traced_yard, sent):
    headers = {"traceparent": sent, "tracestate": "vendor=1"}
    assert ask(traced_yard, "/nothing", headers=headers).status_code == 404
    span = kept.named("GET")
    assert span.parent is None
    assert not span.context.trace_state
    assert span.attributes["http.response.status_code"] == 404
    assert "error.type" not in span.attributes


def test_what_is_ours_to_blame_has_failed_and_says_no_more_than_its_kind(
    kept, traced_yard, monkeypatch
):
    def fail(*_):
        raise ZeroDivisionError("a secret of the client's")

    monkeypatch.setattr(type(traced_yard.wiring.datasets), "list", fail)
    answer = ask(traced_yard, "/datasets")
    span = kept.named("GET /api/v1/datasets")
    assert answer.status_code == span.attributes["http.response.status_code"] == 500
    assert span.attributes["error.type"] == "500"
    assert not span.status.is_ok
    assert "secret" not in span.to_json()


def test_looks_at_our_health_begin_no_trace(kept, traced_yard):
    for path in ("/livez", "/readyz", "/metrics"):
        traced_yard.client().get(path).close()
    assert kept.all == ()


def test_peers_are_asked_beneath_the_request(kept, traced_yard):
    body = {"model": "m", "dataset": "nothing", "target": "t"}
    answer = ask(traced_yard, "/training-runs", "POST", json=body)
    assert answer.status_code in (404, 422), answer.text
    asking, request = kept.named("POST datasets"), kept.named("POST /api/v1/training-runs")
    answering = next(s for s in kept.all if s.name.startswith("POST /api/v1/datasets/"))
    assert parent_of(asking) == id_of(request)
    assert parent_of(answering) == id_of(asking)
    assert asking.attributes["peer.service"] == "datasets"
    assert asking.attributes["error.type"] == "404"


def test_a_peer_that_is_away_has_failed_in_each_try_and_no_trace_begins_with_one(kept):
    url = f"http://127.0.0.1:{free_port()}"
    for trace in (None, BEFORE):
        guard = PeerGuard("models", 4, PeerMeters(CollectorRegistry()))
        keys = KeyRing(["s" * 40])
        peer = Peer("models", caller="training", keys=keys, base_urls=[url], guard=guard)
        call = Call("default", "k", frozenset(), "r", trace=trace)
        with pytest.raises(Unavailable):
            peer.ask(call, "GET", "/models", scope="models:read")
    assert len(kept.all) == 3
    for span in kept.all:
        assert parent_of(span) == TRACEPARENT.split("-")[2]
        assert span.attributes["error.type"] == "PeerFailed"


def test_a_trace_is_carried_to_peers_where_nothing_is_traced(sqlite_yard):
    seen = []

    def app(environ, start_response):
        seen.append((environ["HTTP_TRACEPARENT"], environ["HTTP_TRACESTATE"]))
        start_response("204 NO CONTENT", [])
        return []

    peer = Peer("models", caller="training", keys=KeyRing(["s" * 40]), app=lambda: app)
    call = Call("default", "k", frozenset(), "r", trace=BEFORE)
    peer.ask(call, "GET", "/models", scope="models:read")
    assert seen == [tuple(BEFORE)]


@pytest.fixture
def queue(database_url):
    database = Database(database_url, lock_timeout=5)
    KernelBase.metadata.create_all(database.engine)
    yield JobQueue(database)
    database.close()


def work(queue, handlers, *refs, trace=None):
    """Do the jobs, and come back when there are no more."""
    with queue.database.write() as session:
        for ref in refs:
            queue.enqueue(session, "k", ref, project="p", trace=trace)
    worker = Worker({"k": queue}, handlers, lambda *_: None, slots=1, poll=0.01)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until = time.monotonic() + 30
    while queue.depth() and time.monotonic() < until:
        time.sleep(0.01)
    worker.drain()
    thread.join()


def test_a_job_is_done_beneath_what_it_was_accepted_for(kept, queue):
    with tracer.span("request"):
        work(queue, {"k": lambda _: None}, "r")
    job, request = kept.named("process k"), kept.named("request")
    assert parent_of(job) == id_of(request)
    assert job.attributes["messaging.destination.name"] == "k"
    assert job.attributes["modelyard.job.attempt"] == 1
    assert "error.type" not in job.attributes


def test_a_job_carries_the_trace_of_its_caller_and_fails_by_its_kind(kept, queue):
    def fail(_job):
        raise Invalid("a secret of the client's")

    work(queue, {"k": fail}, "r", trace=BEFORE)
    job = kept.named("process k")
    assert parent_of(job) == TRACEPARENT.split("-")[2]
    assert job.context.trace_state.to_header() == "vendor=1"
    assert job.attributes["error.type"] == "Invalid"
    assert "secret" not in job.to_json()


def test_what_a_child_did_is_told_by_its_worker(kept, tmp_path):
    with Sandbox() as sandbox:
        for target, trace in (("count", BEFORE), ("refuse", BEFORE), ("count", None)):
            with tracer.span("job", parent=trace) if trace else tracer.span("", only_within=True):
                sandbox.run(
                    f"{__name__.replace('test_tracing', 'sandbox_targets')}:{target}",
                    {"steps": 2},
                    tmp_path,
                    LIMITS,
                )
    for target in ("count", "refuse"):
        child, within = kept.named(f"child {target}"), kept.named(target)
        assert parent_of(within) == id_of(child)
        assert within.attributes["process.pid"] > 0
        assert child.start_time <= within.start_time <= within.end_time <= child.end_time
    assert {parent_of(kept.named(step)) for step in "01"} == {id_of(kept.named("count"))}
    assert kept.named("refuse").attributes["error.type"] == "failed"
    assert kept.named("child refuse").attributes["error.type"] == "error"


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"name": "n"},
        {"name": "n" * 200, "start": 1, "end": 2},
        {"name": "n", "start": "1", "end": 2},
        {"name": "n", "start": 2, "end": 1},
        {"name": "n", "start": 1, "end": 2**62},
        {"name": "n", "start": -1, "end": 2},
    ],
)
def test_nonsense_of_a_child_is_no_span(kept, told):
    tracer.tell([told], BEFORE)
    assert kept.all == ()


def test_of_what_a_child_tells_without_end_only_the_first_is_kept(kept):
    """Each level was bounded, not all of them: a child could have its worker make spans for as long
    as it liked, or end by the depth of what it told."""
    deep = {"name": "deep", "start": 1, "end": 2}
    wide = {**deep, "steps": [{**deep, "steps": [deep] * 100}] * 100}
    for _ in range(5_000):
        deep = {**deep, "steps": [deep]}
    tracer.tell([deep], BEFORE)
    assert len(kept.all) == 100
    tracer.tell([wide] * 100, BEFORE)
    assert len(kept.all) == 200


def test_a_neighbour_answers_beneath_the_question(kept, tmp_path):
    def answer(arguments):
        if arguments["fail"]:
            raise Invalid("no")
        return threading.get_ident()

    server = Server(tmp_path / "s", {"score": answer})
    threading.Thread(target=server.run, daemon=True).start()
    client = Client(lambda: tmp_path / "s", "scorer")
    client.ask("score", {"fail": False}, seconds=5)
    with tracer.span("request"):
        client.ask("score", {"fail": False}, seconds=5)
        with pytest.raises(Invalid):
            client.ask("score", {"fail": True}, seconds=5)
    server.stop()
    wait_until(lambda: len(kept.all) == 5)
    answers = [span for span in kept.all if span.name == "score"]
    asked = [span for span in kept.all if span.name == "score scorer"]
    assert sorted(map(parent_of, answers)) == sorted(map(id_of, asked))
    assert {parent_of(span) for span in asked} == {id_of(kept.named("request"))}
    assert sorted(span.attributes.get("error.type", "") for span in answers) == ["", "invalid"]


def wait_until(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_lines_of_the_log_name_their_trace(kept, capsys):
    structlog.reset_defaults()
    configure_logs("info", as_json=True, role="test")
    with tracer.span("request", parent=BEFORE) as span:
        structlog.get_logger("test").info("within")
    structlog.get_logger("test").info("without")
    structlog.reset_defaults()
    within, without = map(json.loads, capsys.readouterr().err.splitlines())
    _, trace, span_id, _ = span.trace.traceparent.split("-")
    assert (within["trace_id"], within["span_id"]) == (trace, span_id)
    assert "trace_id" not in without


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "ours"}, None),
        (ENDPOINT, "http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://u:p@c/v1/traces?k=s"}, "https://c"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u@[::1]:4318/x"}, "http://[::1]:4318"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_traces_are_sent_where_the_environment_says(environment, wanted):
    assert tracer.receiver(environment) == wanted


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        # These ended the start with a traceback.
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:port"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:99999"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_what_can_not_be_followed_is_refused_by_its_name(environment, named):
    with pytest.raises(tracer.CannotTrace, match=named):
        tracer.receiver(environment)


@pytest.mark.parametrize("command", ["serve", "api", "worker", "doctor"])
def test_without_the_packages_no_server_starts_and_the_doctor_says_why(
    command, monkeypatch, tmp_path
):
    monkeypatch.setattr(tracer, "_PACKAGES", ("opentelemetry.sdk.absent", "opentelemetry.absent"))
    done = CliRunner().invoke(main, [command, "--home", str(tmp_path / "home")], env=ENDPOINT)
    assert done.exit_code == 1
    assert "pip install 'modelyard[otel]'" in done.output


def test_the_doctor_says_where_traces_go(sqlite_yard, monkeypatch):
    assert not any("traces" in found.text for found in parts(sqlite_yard.wiring, deep=False))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    found = [found.text for found in parts(sqlite_yard.wiring, deep=False) if found.well]
    assert "traces to http://collector:4318" in found


def test_where_no_receiver_is_named_nothing_of_it_is_imported():
    asked = (
        "import sys; from app.kernel.tracing import tracer; import app.roles, app.neighbours;"
        "tracer.load(); tracer.start('api');"
        "assert not tracer.is_on(); assert tracer.span('a') is tracer.span('b');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.fixture
def exporting(monkeypatch):
    """A function that starts to send spans to a URL."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")

    def start(url, **environment):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        tracer.start("test")

    yield start
    tracer.stop()


def test_spans_are_sent_by_their_name_and_role_until_the_process_ends(exporting):
    collector = Collector()
    exporting(collector.url, OTEL_SERVICE_NAME="ours", OTEL_RESOURCE_ATTRIBUTES="k=v")
    with tracer.span("request"):
        pass
    tracer.stop()
    collector.close()
    ((sender, span),) = collector.spans
    assert span.name == "request"
    assert sender["service.name"] == "ours"
    assert (sender["modelyard.role"], sender["k"]) == ("test", "v")


def test_a_sampler_of_the_environment_is_followed_and_the_trace_goes_on(exporting):
    collector = Collector()
    exporting(collector.url, OTEL_TRACES_SAMPLER="always_off")
    with tracer.span("request", parent=BEFORE) as span:
        assert span.trace.traceparent.split("-")[1] == TRACEPARENT.split("-")[1]
        assert span.trace.traceparent.endswith("-00")
    tracer.stop()
    collector.close()
    assert collector.spans == []


def test_a_receiver_that_hangs_costs_spans_and_neither_time_nor_the_end(exporting):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        exporting(f"http://127.0.0.1:{hanging.getsockname()[1]}", OTEL_EXPORTER_OTLP_TIMEOUT="60")
        started = time.monotonic()
        for _ in range(1000):
            with tracer.span("request"):
                pass
        assert time.monotonic() - started < 5
        started = time.monotonic()
        tracer.stop(0.2)
        assert time.monotonic() - started < 10
