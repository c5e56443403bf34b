"""The kind ``predict``: each record is the input of a model, what the model says is the output.

The predictions service is asked over its own API, many records at a time, so it follows aliases and
says what is wrong with an input as it does for any client. An input that it refuses is a refused
record; the others of its batch are asked for again without it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.kernel.errors import Invalid, NotFound, ServiceError, Unavailable
from app.kernel.log.seam import NewRecord, Record
from app.streams.processors.handling import Outcome, Share, Stateless
from app.streams.processors.ports import Predictions
from app.streams.processors.values import Refused, json_object

_MOST: Final = 500
_INPUTS: Final = "/inputs/"


class Predict:
    """Scores records; ``max_rows`` is the most that the predictions service takes at once."""

    def __init__(self, predictions: Predictions, max_rows: int) -> None:
        self._predictions = predictions
        self.most = min(_MOST, max_rows)

    def open(self, share: Share) -> "PredictHandler":
        """A handler; there is nothing kept."""
        return PredictHandler(share, self._predictions)


class PredictHandler(Stateless):
    """Scores the records of one partition."""

    def __init__(self, share: Share, predictions: Predictions) -> None:
        self._share = share
        self._predictions = predictions

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Score all of them. Raises Unavailable while the service or the model is away."""
        inputs: dict[int, dict[str, Any]] = {}
        refused: dict[int, Refused] = {}
        for place, record in enumerate(records):
            try:
                inputs[place] = json_object(record.value)
            except Refused as error:
                refused[place] = error
        answers = self._answers(inputs, refused)
        outputs = [
            NewRecord(
                json.dumps(self._output(records[place], inputs[place], answer)).encode(),
                key=records[place].key,
                headers={"content-type": "application/json"},
            )
            for place, answer in sorted(answers.items())
        ]
        lost = [(records[place], refused[place]) for place in sorted(refused)]
        return Outcome(taken=len(records), outputs=outputs, refused=lost)

    def _answers(
        self, inputs: Mapping[int, Mapping[str, Any]], refused: dict[int, Refused]
    ) -> dict[int, dict[str, Any]]:
        """The answer to each input; what can't be answered is added to ``refused``."""
        places = [place for place in inputs if place not in refused]
        while places:
            try:
                told = self._predictions.predict(
                    self._share.call,
                    self._share.config["model"],
                    [inputs[place] for place in places],
                )
            except Invalid as error:
                wrong = faulty(error, len(places))
                if not wrong:
                    raise Unavailable(f"The model can't be asked: {error.detail}") from error
                for index, detail in wrong.items():
                    refused[places[index]] = Refused("invalid_input", detail)
                places = [place for place in places if place not in refused]
            except NotFound as error:
                raise Unavailable(error.detail) from error
            except ServiceError as error:
                raise Unavailable(error.detail, retry_after=error.retry_after) from error
            else:
                version = {name: told[name] for name in ("model", "version", "engine")}
                return {
                    place: {"prediction": output, **version}
                    for place, output in zip(places, told["outputs"], strict=True)
                }
        return {}

    def _output(
        self, record: Record, values: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        source = self._share.place(record)
        shown = {"inputs": values} if self._share.config["include_inputs"] else {}
        return {**answer, **shown, "source": source}


def faulty(error: Invalid, count: int) -> dict[int, str]:
    """What is wrong with which inputs, by the pointers of the refusal."""
    found: dict[int, str] = {}
    for one in error.errors:
        if not one.pointer.startswith(_INPUTS):
            continue
        index, _, rest = one.pointer.removeprefix(_INPUTS).partition("/")
        if index.isascii() and index.isdigit() and int(index) < count:
            found.setdefault(int(index), f"/{rest}: {one.detail}" if rest else one.detail)
    return found
