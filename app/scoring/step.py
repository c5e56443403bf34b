"""A step: one part of a compiled model, at once a function and plain data that can be stored.

Steps are dataclasses. Their fields hold only what ``format`` can store without pickle: numpy
arrays, bytes, strings, numbers, None, lists of these, and other steps. Whatever is derived from
the fields (look-up tables, sessions) is made when the object is made. A step never changes
afterwards, so any number of threads may call it at the same time.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

STEPS: Final[dict[str, type["Step"]]] = {}
"""Every kind of step that a stored model may name."""


class Step:
    """One part of a compiled model; subclasses name their ``kind`` when they are defined."""

    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kind = kind
        STEPS[kind] = cls

    def __call__(self, value: Any) -> Any:
        """What comes out for what goes in; the first axis of both is the rows."""
        raise NotImplementedError


def stored_fields(kind: type[Step]) -> list[str]:
    """The names of the fields that make a step of this kind."""
    return [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]


@dataclass(eq=False)
class Chain(Step, kind="chain"):
    """One step after the other."""

    steps: list[Step]

    def __call__(self, value: Any) -> Any:
        for step in self.steps:
            value = step(value)
        return value
