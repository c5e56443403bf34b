"""Records carry the trace that they were made in, in their headers, and go on with it when handled.

What is handled together need not have been made together: one span is beneath the place that all of
its records name, or linked with each of several places.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from app.kernel.log.seam import NewRecord, Record
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import TRACEPARENT, Trace, trace_in
from app.kernel.tracing.span import Attributes, Span

_SYSTEM: Final = "modelyard"
_OF_EVENTS: Final = "ce_"
"""Before the name of an attribute of a CloudEvent."""
_MOST_LINKS: Final = 128


def sending(topic: str, records: Sequence[NewRecord]) -> AbstractContextManager[Span]:
    """The span of an append."""
    told: Attributes = {
        "messaging.system": _SYSTEM,
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.batch.message_count": len(records),
    }
    return tracer.span(f"send {topic}", "producer", attributes=told)


def beneath(records: Sequence[NewRecord], trace: Trace | None) -> Sequence[NewRecord]:
    """The records with a place in a trace; those that name one themselves keep it."""
    if trace is None:
        return records
    return [
        record
        if {TRACEPARENT, _OF_EVENTS + TRACEPARENT} & record.headers.keys()
        else replace(record, headers={**record.headers, **trace.headers})
        for record in records
    ]


def processing(
    topic: str, records: Sequence[Record], attributes: Attributes
) -> AbstractContextManager[Span]:
    """The span of what becomes of records of a partition."""
    if not tracer.is_on():
        return tracer.span("")
    named = (trace_in(one.headers) or trace_in(one.headers, _OF_EVENTS) for one in records)
    traces = list(dict.fromkeys(trace for trace in named if trace is not None))
    alone = len(traces) == 1
    told = {
        "messaging.system": _SYSTEM,
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(records[0].partition),
        "messaging.batch.message_count": len(records),
        **attributes,
    }
    return tracer.span(
        f"process {topic}",
        "consumer",
        parent=traces[0] if alone else None,
        attributes=told,
        links=() if alone else traces[:_MOST_LINKS],
    )
