"""Spans where tests can see them: kept in this process, or received as a collector does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.kernel.tracing import tracer
from app.kernel.tracing.telemetry import Telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"
OUTSIDE = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{OUTSIDE}-01"


class Kept:
    """The spans that this process has ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def clear(self) -> None:
        """Forget them."""
        self._exporter.clear()

    @property
    def all(self) -> tuple[Any, ...]:
        """In the order of their ends."""
        return self._exporter.get_finished_spans()

    def named(self, name: str, seconds: float = 30) -> Any:
        """The one span of a name; another thread may be about to end it."""
        until = time.monotonic() + seconds
        while not (found := [one for one in self.all if one.name == name]):
            if time.monotonic() > until:
                break
            time.sleep(0.01)
        assert len(found) == 1, [span.name for span in self.all]
        return found[0]


@contextmanager
def kept_spans() -> Iterator[Kept]:
    """Trace in this process; apps that are made meanwhile are traced."""
    exporter = InMemorySpanExporter()
    before = tracer._telemetry
    tracer._telemetry = Telemetry("test", SimpleSpanProcessor(exporter))
    try:
        yield Kept(exporter)
    finally:
        tracer.stop()
        tracer._telemetry = before


def parent_of(span: Any) -> str | None:
    """The id of the span above one that was kept."""
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: Any) -> str:
    """The id of a span that was kept."""
    return f"{span.context.span_id:016x}"


class Collector:
    """A receiver of OTLP over HTTP, with all spans that it was sent and who sent them."""

    def __init__(self) -> None:
        collector = self
        self._arrived = threading.Condition()
        self.spans: list[tuple[dict[str, str], Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector._take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _take(self, sent: ExportTraceServiceRequest) -> None:
        with self._arrived:
            for one in sent.resource_spans:
                sender = {a.key: a.value.string_value for a in one.resource.attributes}
                for scope in one.scope_spans:
                    self.spans += [(sender, span) for span in scope.spans]
            self._arrived.notify_all()

    def wait_for(self, name: str, seconds: float = 60) -> None:
        """Until a span of this name has come."""
        with self._arrived:
            came = self._arrived.wait_for(
                lambda: any(span.name == name for _, span in self.spans), seconds
            )
        assert came, sorted({span.name for _, span in self.spans})

    def close(self) -> None:
        """Receive no more."""
        self._server.shutdown()
        self._server.server_close()
