"""Structured logs: one JSON object a line on stderr, with the request's id and the trace, if any.

Whatever a client sends, a line stays one line: JSON escapes control characters by itself, text is
made to. Keys and peer
tokens that strayed into a path or a message are cut to the part that may be shown.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from app.kernel.tracing import tracer

_CREDENTIAL = re.compile(r"(myk_[A-Za-z0-9]{8}_|myp_)[A-Za-z0-9_=.-]{20,}")


def without_secrets(
    _logger: Any, _method: str, told: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A line's values, without credentials in its texts."""
    for name, value in told.items():
        if isinstance(value, str) and "my" in value:
            told[name] = _CREDENTIAL.sub(r"\1...", value)
    return told


def without_controls(
    _logger: Any, _method: str, told: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A line's values for a terminal: nothing in them moves its cursor or begins a line."""
    for name, value in told.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if name == "exception" else ""
            told[name] = "".join(
                char if char.isprintable() or char == kept else ascii(char)[1:-1] for char in value
            )
    return told


def with_trace(
    _logger: Any, _method: str, told: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A line's values with the trace that it belongs to, where there is one."""
    trace = tracer.carried()
    if trace is not None:
        _, told["trace_id"], told["span_id"], _ = trace.traceparent.split("-")
    return told


def configure_logs(level: str, *, as_json: bool, role: str) -> None:
    """Set up logging for this process; ``role`` stands on each line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        with_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    renderers: list[Any] = (
        [structlog.processors.JSONRenderer()]
        if as_json
        else [without_controls, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, force=True)
