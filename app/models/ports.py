"""What this service needs from others: those who may refer to a model, and a queue for its jobs."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.tracing.contexts import Trace


@dataclass(frozen=True)
class Reference:
    """A thing of another service that needs a model to stay."""

    service: str
    subject: str
    state: str
    reason: str


class Referrer(Protocol):
    """Another service, as the one that may refer to our models."""

    def references(
        self, call: Call, model: str, version: int | None, *, is_default: bool
    ) -> list[Reference]:
        """What refers to a version, or with None to any part of the model; raises Unavailable.

        ``is_default``: the version is what the model's bare name stands for.
        """


class Jobs(Protocol):
    """The queue of the service's own database."""

    def enqueue(
        self, session: Session, kind: str, ref: str, *, project: str, trace: Trace | None = None
    ) -> bool:
        """Add a job in the caller's transaction."""
