"""The hot path: the bytes of a plain request in, the bytes of its answer out.

No schema, no Flask. It answers for versions that are served compiled, and only what its
decoder understands; ``Predictions`` reads the others, and says what is wrong with them.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import structs

from app.kernel.auth import Call
from app.kernel.errors import Invalid, NotFound
from app.kernel.http.api import resource_headers
from app.kernel.http.fields import NAME_PATTERN
from app.kernel.http.lane import Answer, Later
from app.predictions.decoder import Decoded, RowsDecoder
from app.predictions.directory import Directory, Reference
from app.predictions.engine import COMPILED, Engine
from app.predictions.service import Predicted, Predictions

PREDICT_PATH: Final = re.compile(f"/api/v1/models/({NAME_PATTERN})/predict")
STORE_PATH: Final = re.compile("/api/v1/predictions")
_QUERY: Final = re.compile(f"|alias=({NAME_PATTERN})|version=([1-9][0-9]{{0,8}})")
_DECODERS_KEPT: Final = 256

Inputs = Sequence[Mapping[str, Any]]


class _Named(msgspec.Struct):
    model: str


_NAMED: Final = msgspec.json.Decoder(_Named)


class _Found(NamedTuple):
    rows: Decoded
    answer: Predicted


class HotPath:
    """Answers plain requests; thread-safe."""

    def __init__(
        self, predictions: Predictions, directory: Directory, engine: Engine, most_rows: int
    ) -> None:
        self._predictions = predictions
        self._directory = directory
        self._engine = engine
        self._most_rows = most_rows
        self._decoders: OrderedDict[int, tuple[Inputs, RowsDecoder | None]] = OrderedDict()

    def predict(self, call: Call, path: tuple[str, ...], query: str, body: bytes) -> Answer | None:
        """The answer to ``/models/{model}/predict``; None where the long way is to answer.

        Raises what ``Predictions.predict`` raises.
        """
        asked = _QUERY.fullmatch(query)
        if asked is None:
            return None
        version = int(asked[2]) if asked[2] else None
        found = self._score(call, Reference(path[0], asked[1], version), body)
        return None if found is None else Answer(msgspec.json.encode(found.answer) + b"\n")

    def store(self, call: Call, _: tuple[str, ...], query: str, body: bytes) -> Later | None:
        """The answer to a POST to ``/predictions``, which is stored when the place is free again.

        None where the long way is to answer. Raises what ``Predictions.create`` raises.
        """
        try:
            name = _NAMED.decode(body).model
            reference = Reference.parse(name)
        except (msgspec.DecodeError, UnicodeDecodeError, Invalid):
            return None
        found = None if query else self._score(call, reference, body, name)
        if found is None:
            return None
        return lambda: self._stored(call, found)

    def _stored(self, call: Call, found: "_Found") -> Answer:
        inputs = found.rows.objects
        made = self._predictions.keep(call, found.answer, inputs)
        shown = {
            **structs.asdict(found.answer),
            "id": made.values["id"],
            "inputs": inputs,
            "created_at": made.values["created_at"],
        }
        return Answer(msgspec.json.encode(shown) + b"\n", 201, resource_headers(made, 201).items())

    def _score(
        self, call: Call, reference: Reference, body: bytes, name: str | None = None
    ) -> "_Found | None":
        try:
            return self._directory.use(
                call, reference, lambda location: self._score_by(call, location, body, name)
            )
        except NotFound:
            # What is wrong with a body, which only the long way knows, is told before that.
            return None

    def _score_by(
        self, call: Call, location: Mapping[str, Any], body: bytes, name: str | None
    ) -> "_Found | None":
        if location["serving"]["engine"] != COMPILED:
            return None
        decoder = self._decoder(location["signature"]["inputs"])
        rows = decoder.read(body, name) if decoder else None
        if rows is None:
            return None
        if len(rows.rows) == 1:
            answered = self._engine.score_row(location, rows.names, rows.rows[0])
            if answered is None:
                return None
        else:
            answered = self._engine.score(location, rows.columns, deadline=call.deadline)
        outputs = answered.only(rows.include)
        answer = Predicted(location["model"], location["version"], answered.engine, outputs)
        return _Found(rows, answer)

    def _decoder(self, inputs: Inputs) -> RowsDecoder | None:
        """The decoder of a signature, which is one object as long as its version is known."""
        kept = self._decoders.get(id(inputs))
        if kept is None:
            try:
                kept = inputs, RowsDecoder(inputs, self._most_rows)
            except (TypeError, ValueError):
                kept = inputs, None
            self._decoders[id(inputs)] = kept
            while len(self._decoders) > _DECODERS_KEPT:
                self._decoders.popitem(last=False)
        return kept[1]
