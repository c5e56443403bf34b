"""What processors need from other services."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.kernel.auth import Call


class Predictions(Protocol):
    """The predictions service as processors see it."""

    def predict(
        self, call: Call, model: str, inputs: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """What a model says of inputs: ``model``, ``version``, ``engine`` and ``outputs``.

        ``model`` is a reference: ``penguins``, ``penguins@champion``, ``penguins/3``. Raises
        Invalid with pointers ``/inputs/3/..``, NotFound, Unavailable.
        """
