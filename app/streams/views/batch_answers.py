"""What the batch model of a view says of rows, asked over the predictions service's API."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.kernel.auth import Call
from app.kernel.errors import Invalid, NotFound, Unavailable
from app.scoring.frame import as_text
from app.streams.learning.labelling import Row
from app.streams.learning.merges import Answer
from app.streams.processors.ports import Predictions
from app.streams.processors.predict import faulty


class BatchModel:
    """One version of a model. ``training`` is what a batch keeps of how it was made."""

    def __init__(
        self, predictions: Predictions, training: Mapping[str, Any], most_rows: int
    ) -> None:
        self._predictions = predictions
        self._reference = f"{training['model']}/{training['model_version']}"
        self._columns = training["columns"]
        self._most_rows = most_rows

    def foretold(self, call: Call, rows: Sequence[Row]) -> list[Answer | None]:
        """The answer to each row; None where the model can't take it, or is no more.

        Raises Unavailable.
        """
        found: list[Answer | None] = []
        for start in range(0, len(rows), self._most_rows):
            found += self._some(call, rows[start : start + self._most_rows])
        return found

    def outputs(self, call: Call, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
        """The outputs as the service tells them; raises what it raises."""
        inputs = [{name: row.get(name) for name in self._columns} for row in rows]
        return list(self._predictions.predict(call, self._reference, inputs)["outputs"])

    def _some(self, call: Call, rows: Sequence[Row]) -> list[Answer | None]:
        found: list[Answer | None] = [None] * len(rows)
        places = list(range(len(rows)))
        while places:
            try:
                outputs = self.outputs(call, [rows[place] for place in places])
            except NotFound:
                return found
            except Invalid as error:
                wrong = faulty(error, len(places))
                if not wrong:
                    raise Unavailable(f"The model can't be asked: {error.detail}") from error
                places = [place for at, place in enumerate(places) if at not in wrong]
            else:
                for place, output in zip(places, outputs, strict=True):
                    found[place] = answer_of(output)
                return found
        return found


def answer_of(output: Mapping[str, Any]) -> Answer:
    """An output as merges take it; a model without probabilities is sure of its label."""
    if "value" in output:
        return float(output["value"])
    probabilities = output.get("probabilities")
    return probabilities or {as_text(output["label"]): 1.0}
