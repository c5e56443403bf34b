"""The hot path: the bytes of a plain request in, the bytes of its answer out.

No SQL, no schema, no Flask. It answers for versions that are served compiled, and only what its
decoder understands; ``Predictions.predict`` reads the others, and says what is wrong with them.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from app.kernel.auth import Call
from app.kernel.errors import NotFound
from app.kernel.http.fields import NAME_PATTERN
from app.kernel.http.lane import Answer
from app.predictions.decoder import RowsDecoder
from app.predictions.directory import Directory, Reference
from app.predictions.engine import COMPILED, Engine

PATH: Final = re.compile(f"/api/v1/models/({NAME_PATTERN})/predict")
_QUERY: Final = re.compile(f"|alias=({NAME_PATTERN})|version=([1-9][0-9]{{0,8}})")
_DECODERS_KEPT: Final = 256

Inputs = Sequence[Mapping[str, Any]]


class HotPath:
    """Answers plain requests; thread-safe."""

    def __init__(self, directory: Directory, engine: Engine, most_rows: int) -> None:
        self._directory = directory
        self._engine = engine
        self._most_rows = most_rows
        self._decoders: OrderedDict[int, tuple[Inputs, RowsDecoder | None]] = OrderedDict()

    def answer(self, call: Call, path: tuple[str, ...], query: str, body: bytes) -> Answer | None:
        """The JSON of the answer; None where the long way is to answer.

        Raises what ``Predictions.predict`` raises.
        """
        asked = _QUERY.fullmatch(query)
        if asked is None:
            return None
        version = int(asked[2]) if asked[2] else None
        reference = Reference(path[0], asked[1], version)
        try:
            return self._directory.use(
                call, reference, lambda found: self._score(call, found, body)
            )
        except NotFound:
            # What is wrong with a body, which only the long way knows, is told before that.
            return None

    def _score(self, call: Call, location: Mapping[str, Any], body: bytes) -> Answer | None:
        if location["serving"]["engine"] != COMPILED:
            return None
        decoder = self._decoder(location["signature"]["inputs"])
        found = decoder.read(body) if decoder else None
        if found is None:
            return None
        if len(found.rows) == 1:
            answered = self._engine.score_row(location, found.names, found.rows[0])
            if answered is None:
                return None
        else:
            answered = self._engine.score(location, found.columns, deadline=call.deadline)
        answer = {
            "model": location["model"],
            "version": location["version"],
            "engine": answered.engine,
            "outputs": answered.only(found.include),
        }
        return Answer(msgspec.json.encode(answer) + b"\n")

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
