"""A span as the code that is traced sees it: here the one of which nothing is kept."""

from collections.abc import Mapping
from typing import Literal

from app.kernel.tracing.contexts import Trace

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float
Attributes = Mapping[str, Value]


class Span:
    """One thing that takes its time."""

    @property
    def trace(self) -> Trace | None:
        """Its place, for what happens elsewhere because of it."""
        return None

    def describe(self, attributes: Attributes, name: str | None = None) -> None:
        """Say more of it, or name it better."""

    def fail(self, kind: str) -> None:
        """It has not gone well: ``kind`` is one of a few words, never a text with values in it."""


NO_SPAN = Span()
