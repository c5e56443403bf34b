"""Predictions and processors as spans: one tree from a produced record to what follows from it."""

import http.server
import json
import threading
from dataclasses import replace

import pytest

from app.kernel.log.seam import NewRecord
from app.kernel.log.traced import beneath
from app.kernel.tracing.contexts import Trace
from tests.predictions.predicting import ROW, Predicting
from tests.streams.processors.installation import Streaming
from tests.streams.processors.test_predicting import BODY
from tests.tracing import OUTSIDE, TRACE, TRACEPARENT, id_of, kept_spans, parent_of

PROCESSOR = {**BODY, "predict": {"model": "fast", "include_inputs": False}}
HEADERS = {"traceparent": TRACEPARENT}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def traced(tmp_path_factory, receiver):
    """Models that can be asked, traced, with what was traced."""
    with kept_spans() as kept:
        hooks = (f"localhost:{receiver.server_port}", "127.0.0.0/8", "::1/128")
        made = Predicting(tmp_path_factory.mktemp("traced"), webhook_hosts=hooks)
        streaming = Streaming(made)
        streaming.topics("in", "out", "dead", "called")
        streaming.create(**PROCESSOR)
        yield streaming, kept
        streaming.close()
        made.close()


@pytest.fixture
def streaming(traced):
    return traced[0]


@pytest.fixture
def kept(traced):
    traced[1].clear()
    return traced[1]


def post(streaming, path, body, **headers):
    answer = streaming.client.post(f"/api/v1{path}", json=body, headers=headers)
    answer.close()
    assert answer.status_code in (200, 201), answer.text


def test_the_short_way_of_a_prediction_is_a_span_like_any_other(streaming, kept):
    plain = {"data": json.dumps({"inputs": [ROW]}), "content_type": "application/json"}
    for _ in range(2):
        # The first one asks for the model's versions.
        kept.clear()
        answer = streaming.client.post("/api/v1/models/fast/predict", headers=HEADERS, **plain)
        assert answer.status_code == 200
    (span,) = kept.all
    assert span.name == "POST /api/v1/models/<name:model>/predict"
    assert span.attributes["http.route"] == "/api/v1/models/<name:model>/predict"
    assert span.attributes["http.response.status_code"] == 200
    assert parent_of(span) == OUTSIDE


def test_the_scorer_answers_beneath_the_prediction(streaming, kept):
    post(streaming, "/models/slow/predict", {"inputs": [ROW]}, **HEADERS)
    request = kept.named("POST /api/v1/models/<name:model>/predict")
    asked, answered = kept.named("score scorer"), kept.named("score")
    assert parent_of(answered) == id_of(asked)
    assert parent_of(asked) == id_of(request)


def test_a_record_is_handled_beneath_its_production_and_so_are_its_outputs(streaming, kept):
    post(streaming, "/topics/in/records", {"records": [{"value": ROW}, {"value": 1}]}, **HEADERS)
    streaming.run_out("scores")

    request = next(span for span in kept.all if span.name.startswith("POST /api/v1/topics/"))
    sent, handled = kept.named("send in"), kept.named("process in")
    asked = kept.named("POST predictions")
    answered = kept.named("POST /api/v1/models/<name:model>/predict")
    line = [request, sent, handled, asked, answered]
    assert [parent_of(span) for span in line] == [OUTSIDE, *map(id_of, line[:-1])]
    assert {f"{span.context.trace_id:032x}" for span in line} == {TRACE}
    assert handled.attributes["modelyard.processor"] == "scores"
    assert handled.attributes["messaging.batch.message_count"] == 2
    # A dead letter is the record itself.
    for topic, origin in (("out", handled), ("dead", sent)):
        headers = streaming.records(topic)[-1].headers
        assert headers["traceparent"].split("-")[1:3] == [TRACE, id_of(origin)]


def test_records_of_several_traces_are_handled_in_one_that_is_linked_with_each(streaming, kept):
    places = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]
    own = [{"value": ROW, "headers": {"traceparent": place}} for place in places]
    strange = {"value": ROW, "headers": {"traceparent": "nonsense"}}
    post(streaming, "/topics/in/records", {"records": [*own, strange]})
    streaming.run_out("scores")

    handled = kept.named("process in")
    assert handled.parent is None
    assert [link.context.trace_id for link in handled.links] == [1, 2]
    # What producers say of their records is kept as they have said it.
    kept_headers = [record.headers["traceparent"] for record in streaming.records("in")[-3:]]
    assert kept_headers == [*places, "nonsense"]


def test_events_name_their_trace_in_their_own_way():
    event = NewRecord(b"1", headers={"ce_traceparent": TRACEPARENT})
    plain = replace(event, headers={"a": "b"})
    here = Trace(f"00-{TRACE}-{'1' * 16}-01", "v=1")
    assert beneath([event, plain], here) == [
        event,
        replace(plain, headers={"a": "b", **here.headers}),
    ]
    assert beneath([event, plain], None) == [event, plain]


@pytest.fixture(scope="module")
def receiver():
    """A server that takes what it is sent, and remembers where that belongs."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append(self.headers["traceparent"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_is_told_its_trace(streaming, kept, receiver):
    streaming.create(
        name="hook",
        kind="webhook",
        topic="called",
        output_topic=None,
        webhook={"url": f"http://localhost:{receiver.server_port}/hook", "secret": SECRET},
    )
    post(streaming, "/topics/called/records", {"records": [{"value": 1}]}, **HEADERS)
    streaming.run_out("hook")

    called = kept.named("POST webhook")
    assert receiver.seen == [f"00-{TRACE}-{id_of(called)}-01"]
    assert parent_of(called) == id_of(kept.named("process called"))
    assert called.attributes["http.response.status_code"] == 204
