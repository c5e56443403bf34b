"""What code says of itself for traces, and whether anybody wants to know.

``start`` is called once in each process, after its forks, and reads the OTEL_* variables of the
environment. Where they name no receiver nothing is imported, and ``span`` costs one comparison.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from app.kernel.tracing.contexts import Trace
from app.kernel.tracing.span import NO_SPAN, Attributes, Kind, Span

if TYPE_CHECKING:
    from app.kernel.tracing.telemetry import Recorded, Telemetry

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_DEFAULT_ENDPOINT: Final = "http://localhost:4318"
_PACKAGES: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_STOP_SECONDS: Final = 2.0
_OFF: Final = nullcontext(NO_SPAN)
_telemetry: "Telemetry | None" = None


class CannotTrace(Exception):
    """Traces are wanted and can't be had; the message says what to do."""


def receiver(environment: Mapping[str, str] | None = None) -> str | None:
    """Where traces are to be sent; None where they aren't wanted.

    Raises CannotTrace for settings that we can't follow, or without the packages.
    """
    told = os.environ if environment is None else environment
    exporter = told.get(_EXPORTER, "").strip().lower()
    endpoint = next(filter(None, (told.get(name, "").strip() for name in _ENDPOINTS)), "")
    is_off = told.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_off or exporter == "none" or not (exporter or endpoint):
        return None
    if exporter not in ("", "otlp"):
        raise CannotTrace(f"{_EXPORTER}: say otlp or none")
    for name in _PROTOCOLS:
        if told.get(name, "").strip() not in ("", _PROTOCOL):
            raise CannotTrace(f"{name}: only {_PROTOCOL} is spoken here")
    endpoint = endpoint or _DEFAULT_ENDPOINT
    origin = _origin(endpoint)
    if origin is None:
        raise CannotTrace(f"{_ENDPOINTS[1]}: say http://host:4318")
    if not _has_packages():
        raise CannotTrace(
            "Traces are wanted (OTEL_*), but OpenTelemetry is missing: "
            "pip install 'modelyard[otel]', or set OTEL_SDK_DISABLED=true"
        )
    return origin


def _origin(url: str) -> str | None:
    """What whoever may read logs may know of a URL: a password isn't among it."""
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if is_sound else None


def _has_packages() -> bool:
    try:
        return all(find_spec(name) is not None for name in _PACKAGES)
    except ModuleNotFoundError:
        return False


def load() -> None:
    """Import what ``start`` needs, if it is needed: for a process whose forks will start."""
    if receiver() is not None:
        from app.kernel.tracing import telemetry as _  # noqa: F401, PLC0415 - an extra


def start(role: str) -> None:
    """Trace from now on, if the environment wants it; raises CannotTrace."""
    global _telemetry  # noqa: PLW0603 - one process, one receiver; passed on, it would be everywhere
    if _telemetry is None and receiver() is not None:
        from app.kernel.tracing.telemetry import Telemetry  # noqa: PLC0415 - an extra

        _telemetry = Telemetry.exporting(role)


def stop(seconds: float = _STOP_SECONDS) -> None:
    """Send what has not been sent, as long as that takes no longer, and trace no more."""
    global _telemetry
    stopped, _telemetry = _telemetry, None
    if stopped is not None:
        stopped.close(seconds)


def is_on() -> bool:
    """Whether this process traces."""
    return _telemetry is not None


def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: Trace | None = None,
    attributes: Attributes | None = None,
    links: Sequence[Trace] = (),
    only_within: bool = False,
) -> AbstractContextManager[Span]:
    """A block as a span: beneath ``parent``, else beneath the span around it, else a new trace.

    ``only_within``: a new trace is not worth it. An error that leaves the block has failed it.
    """
    if _telemetry is None or (only_within and parent is None and current().trace is None):
        return _OFF
    return _telemetry.open(name, kind, parent, attributes or {}, links)


def opened(name: str, kind: Kind, parent: Trace | None, attributes: Attributes) -> "Recorded":
    """A span that ends when it is told to, not with a block; only while ``is_on``."""
    if _telemetry is None:
        raise RuntimeError("nothing is traced")
    return _telemetry.open(name, kind, parent, attributes)


def current() -> Span:
    """The span around the code that asks."""
    return NO_SPAN if _telemetry is None else _telemetry.current()


def carried(otherwise: Trace | None = None) -> Trace | None:
    """The place in a trace of what is about to happen elsewhere; see ``current``."""
    return otherwise if _telemetry is None else (_telemetry.current().trace or otherwise)


def tell(steps: Sequence[Any], parent: Trace | None) -> None:
    """Keep as spans what another process has measured: ``{name, start, end}`` each, in nanoseconds,
    with ``pid``, ``failed`` and the ``steps`` beneath where there are any."""
    if _telemetry is not None and parent is not None:
        _telemetry.tell(steps, parent)
