"""What predictions need from others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.kernel.auth import Call


@dataclass(frozen=True)
class ModelEvent:
    """Something that happened to a model."""

    project: str
    model: str


class Models(Protocol):
    """The models service as predictions see it."""

    def state(self, call: Call, model: str) -> Mapping[str, Any]:
        """Aliases and ready versions of a model; raises NotFound."""

    def location(self, call: Call, model: str, version: int) -> Mapping[str, Any]:
        """A version with its signature and where its artifacts lie; raises NotFound."""

    def verify(self, call: Call, model: str, version: int) -> str:
        """Have a version's bytes looked at; the state that it has then. Raises NotFound."""

    def events(
        self, call: Call, after: str | None, *, wait: int
    ) -> tuple[Sequence[ModelEvent], str]:
        """What happened to models since a position (``latest``: nothing yet), and the next one."""


@dataclass(frozen=True)
class HeldDataset:
    """A dataset version that can't be deleted for a while."""

    dataset: str
    version: int
    columns: Sequence[Mapping[str, Any]]
    storage: Mapping[str, Any]


class Datasets(Protocol):
    """The datasets service as predictions see it."""

    def hold(
        self, call: Call, dataset: str, version: int | None, *, holder: str, seconds: int
    ) -> HeldDataset:
        """Keep a version (None: the newest) from deletion; raises NotFound, Conflict."""

    def release(self, call: Call, held: HeldDataset, *, holder: str) -> None:
        """Let go of it: the holder's own row is there by now, or never will be."""


class Scorer(Protocol):
    """What scores a version that isn't served compiled."""

    def score(
        self,
        location: Mapping[str, Any],
        columns: Mapping[str, Sequence[Any]],
        *,
        deadline: float | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """One output per row; raises Unavailable when the process is not there, DeadlineExceeded
        when it hasn't answered by that moment of the monotonic clock.
        """

    def load(self, location: Mapping[str, Any]) -> None:
        """Have a version loaded before it is asked for; raises Unavailable and what it meets."""


class Loads(Protocol):
    """What keeps versions ready to answer."""

    def holds(self, location: Mapping[str, Any]) -> bool:
        """Whether a version is ready to answer, as far as is known here."""

    def has_room(self, location: Mapping[str, Any]) -> bool:
        """Whether loading a version would drop no other one."""

    def load(self, location: Mapping[str, Any]) -> None:
        """Make a version ready to answer; raises ServiceError where that can't be."""

    def unload(self, location: Mapping[str, Any]) -> None:
        """Let go of a version."""
