"""Which estimators and parameters a client may name.

The catalogue is data (``catalogue.json``, written by ``build``), so the API process knows
it without importing scikit-learn. Names are looked up in it, never imported.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from app.kernel.errors import NotFound
from app.training.catalog.entries import Entry, NormalisedSpec
from app.training.catalog.spec import SpecReader, close_names


class Catalog:
    """The reviewed estimators by name."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.scikit_learn: str = document["scikit_learn"]
        self._server_sets = frozenset(document["server_sets"])
        entries = [_entry(described) for described in document["estimators"]]
        self._entries = {entry.name: entry for entry in entries}

    @classmethod
    def load(cls) -> "Catalog":
        """The catalogue of this installation; read once."""
        return _installed()

    def list(self, task: str | None = None, role: str | None = None) -> list[Entry]:
        """All entries by name, or those for a task, or those that may stand in a role."""
        return [
            entry
            for entry in self._entries.values()
            if (task is None or task in entry.tasks) and (role is None or role in entry.roles)
        ]

    def get(self, name: str) -> Entry:
        """The entry of that name; ``NotFound`` otherwise."""
        entry = self._entries.get(name)
        if entry is None:
            near = close_names(name, self._entries)
            raise NotFound("no estimator of that name", extra={"did_you_mean": near})
        return entry

    def validate_spec(self, spec: Any, pointer: str = "/estimator") -> NormalisedSpec:
        """Check what a client sent as ``estimator``; ``Invalid`` lists everything that is wrong."""
        return SpecReader(self._entries, self._server_sets).read(spec, pointer)


@cache
def _installed() -> Catalog:
    text = files("app.training.catalog").joinpath("catalogue.json").read_text(encoding="utf-8")
    return Catalog(json.loads(text))


def _entry(described: Mapping[str, Any]) -> Entry:
    listed = {"tasks", "roles", "our_defaults"}
    fields: dict[str, Any] = {k: tuple(v) if k in listed else v for k, v in described.items()}
    return Entry(**fields)
