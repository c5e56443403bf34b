"""Spans by OpenTelemetry: the one module that imports it, and only where traces are wanted.

Ended spans lie in a bounded queue and are sent by a thread of their own, some seconds later and
many at once: a receiver that is slow or away costs spans, never a request. Errors are told by their
kind alone: texts and tracebacks may hold what clients sent.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import Token
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Annotated, Any, Final, Self
from uuid import uuid4

import msgspec
import structlog
from opentelemetry import trace as otel
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.span import TraceState

from app.kernel.tracing.contexts import Trace
from app.kernel.tracing.span import NO_SPAN, Attributes, Kind, Span

_SERVICE: Final = "modelyard"
_ERROR_TYPE: Final = "error.type"
_FAILED: Final = otel.Status(otel.StatusCode.ERROR)
_KINDS: Final[Mapping[Kind, otel.SpanKind]] = {
    "internal": otel.SpanKind.INTERNAL,
    "server": otel.SpanKind.SERVER,
    "client": otel.SpanKind.CLIENT,
    "producer": otel.SpanKind.PRODUCER,
    "consumer": otel.SpanKind.CONSUMER,
}
_MOST_STEPS: Final = 100
log = structlog.get_logger("tracing")


class Recorded(Span):
    """A span of OpenTelemetry's; as a block, it is around what happens in it."""

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    @property
    def trace(self) -> Trace:
        """Its place."""
        own = self._span.get_span_context()
        parent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
        return Trace(parent, own.trace_state.to_header() if own.trace_state else "")

    def describe(self, attributes: Attributes, name: str | None = None) -> None:
        """Say more of it, or name it better."""
        if not self._span.is_recording():
            return
        self._span.set_attributes(attributes)
        if name is not None:
            self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """It has not gone well."""
        self._span.set_attribute(_ERROR_TYPE, kind)
        self._span.set_status(_FAILED)

    def enter(self) -> None:
        """What this thread does from now on happens in it, until ``leave``."""
        self._token = attach(otel.set_span_in_context(self._span))

    def leave(self) -> None:
        """It goes on elsewhere, or has come to its end."""
        if self._token is not None:
            detach(self._token)
            self._token = None

    def end(self, moment: int | None = None) -> None:
        """It is over, or was at a moment in nanoseconds."""
        self._span.end(moment)

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.leave()
        if error is not None:
            self.fail(type(error).__name__)
        self.end()


class _Step(msgspec.Struct):
    """What another process has measured."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    start: Annotated[int, msgspec.Meta(gt=0)]
    end: Annotated[int, msgspec.Meta(gt=0)]
    pid: int | None = None
    failed: bool = False
    steps: list[Any] = []


class Telemetry:
    """The spans of this process."""

    def __init__(self, role: str, processor: SpanProcessor) -> None:
        named = OTELResourceDetector().detect().attributes
        own = {
            "service.name": _SERVICE,
            "service.instance.id": str(uuid4()),
            "modelyard.role": role,
        }
        self._provider = TracerProvider(
            resource=Resource.create({**own, **named}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(_SERVICE)
        self._at_exit: Finalize | None = None

    @classmethod
    def exporting(cls, role: str) -> Self:
        """One that sends its spans where the environment says."""
        # What it has to tell of trouble is told once by the exporter below.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        made = cls(role, BatchSpanProcessor(_Exporter(OTLPSpanExporter())))
        # Unlike those of atexit, called at the end of the server's worker process too.
        made._at_exit = Finalize(None, made.close, exitpriority=1)
        return made

    def open(
        self,
        name: str,
        kind: Kind,
        parent: Trace | None,
        attributes: Attributes,
        links: Sequence[Trace] = (),
    ) -> Recorded:
        """A span beneath ``parent``, else beneath the one around, else the first of a trace."""
        context = None if parent is None else _beneath(parent)
        linked = [otel.Link(_context_of(link)) for link in links]
        return Recorded(
            self._tracer.start_span(
                name, context, kind=_KINDS[kind], attributes=attributes, links=linked
            )
        )

    def current(self) -> Span:
        """The span around the code that asks."""
        span = otel.get_current_span()
        return Recorded(span) if span.get_span_context().is_valid else NO_SPAN

    def tell(self, steps: Sequence[Any], parent: Trace) -> None:
        """Keep spans that were measured elsewhere; of what makes no sense, nothing, and of what is
        too much, the first."""
        waiting = deque((told, parent) for told in steps[:_MOST_STEPS])
        for _ in range(_MOST_STEPS):
            if not waiting:
                return
            told, above = waiting.popleft()
            try:
                step = msgspec.convert(told, _Step)
            except msgspec.ValidationError:
                continue
            if step.start <= step.end <= time.time_ns():
                place = self._keep(step, above)
                waiting.extend((one, place) for one in step.steps[:_MOST_STEPS])

    def _keep(self, step: _Step, parent: Trace) -> Trace:
        attributes = {} if step.pid is None else {"process.pid": step.pid}
        span = Recorded(
            self._tracer.start_span(
                step.name, _beneath(parent), attributes=attributes, start_time=step.start
            )
        )
        if step.failed:
            span.fail("failed")
        span.end(step.end)
        return span.trace

    def close(self, seconds: float = 2.0) -> None:
        """Send what waits, so long at most."""
        if self._at_exit is not None:
            self._at_exit.cancel()
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(seconds)


class _Exporter(SpanExporter):
    """Another one, of whose trouble the log tells when it begins and when it is over."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._in_trouble = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See the base."""
        result = self._inner.export(spans)
        in_trouble = result is not SpanExportResult.SUCCESS
        if in_trouble and not self._in_trouble:
            log.warning("traces_not_sent", lost=len(spans))
        if self._in_trouble and not in_trouble:
            log.warning("traces_sent_again")
        self._in_trouble = in_trouble
        return result

    def shutdown(self) -> None:
        """See the base."""
        self._inner.shutdown()


def _context_of(trace: Trace) -> otel.SpanContext:
    _, trace_id, span_id, flags = trace.traceparent.split("-")
    state = TraceState.from_header([trace.tracestate]) if trace.tracestate else None
    return otel.SpanContext(
        int(trace_id, 16), int(span_id, 16), True, otel.TraceFlags(int(flags, 16)), state
    )


def _beneath(trace: Trace) -> Context:
    return otel.set_span_in_context(otel.NonRecordingSpan(_context_of(trace)), Context())
