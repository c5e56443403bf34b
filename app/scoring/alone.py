"""One row at a time: the answer of a compiled model about the values of a request."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

# Each kind of step adds its way to MAKERS when the module is imported.
from app.scoring import ways  # noqa: F401
from app.scoring.frame import Recipe, as_text, converter, refused
from app.scoring.pieces import TO_ARRAYS, Form, piece_of
from app.scoring.scores import Scores
from app.scoring.step import Step

Output = Mapping[str, Any]
_NUMBERS: Final = frozenset({float, int})


class Answering:
    """Answers about single rows of one model; thread-safe."""

    def __init__(
        self,
        recipe: Recipe,
        step: Step,
        output: Mapping[str, Any],
        names: Sequence[str],
        conclude: Callable[[Any], Scores],
    ) -> None:
        """``names`` are the columns in the order of a row's values; ``conclude`` makes answers of
        what the step gives."""
        place = {name: number for number, name in enumerate(names)}
        for source in recipe.sources:
            if source not in place:
                raise refused(source, "missing", "the column is absent")
        self._places = [place[column.source] for column in recipe]
        self._converters = [converter(column) for column in recipe]
        self._is_plain = self._places == list(range(len(names))) and all(
            column.kind == "number" for column in recipe
        )
        self._names = names
        piece = piece_of(step, Form.ROW)
        self._run = piece.run
        self._leave = TO_ARRAYS.get(piece.gives)
        self._conclude = conclude
        self._is_judged = piece.gives is Form.JUDGED and output["task"] == "classification"
        self._is_number = piece.gives is Form.NUMBER and output["task"] == "regression"
        self._classes = output.get("classes") or []
        self._shown = (
            [as_text(name) for name in self._classes] if output.get("probabilities") else []
        )

    def __call__(self, values: Sequence[Any]) -> Output:
        """The output for a row; raises ``Invalid`` as ``CompiledModel.score`` does."""
        result = self._result(values)
        if self._is_judged and result.shares is not None and isfinite(sum(result.shares)):
            told = {"label": self._classes[result.label]}
            if self._shown:
                told["probabilities"] = dict(zip(self._shown, result.shares, strict=True))
            return told
        if self._is_number and isfinite(result):
            return {"value": result}
        return self._concluded(result).rows()[0]

    def scores(self, values: Sequence[Any]) -> Scores:
        """The same as ``CompiledModel.score`` would give it."""
        return self._concluded(self._result(values))

    def _result(self, values: Sequence[Any]) -> Any:
        row = self._finite(values) if self._is_plain else None
        return self._run(self._prepared(values) if row is None else row)

    def _finite(self, values: Sequence[Any]) -> list[float] | None:
        """Numbers that are their own prepared form; None if any isn't."""
        if not _NUMBERS.issuperset(map(type, values)):
            return None
        try:
            row = list(map(float, values))
        except OverflowError:
            return None
        return row if isfinite(sum(row)) else None

    def _prepared(self, values: Sequence[Any]) -> list[Any]:
        row: list[Any] = []
        try:
            for place, convert in zip(self._places, self._converters, strict=True):
                row.append(convert(values[place]))
        except (TypeError, ValueError) as error:
            raise refused(self._names[self._places[len(row)]], "type", str(error)) from error
        return row

    def _concluded(self, result: Any) -> Scores:
        return self._conclude(self._leave(result) if self._leave else result)
