"""The main job by the client that openapi-python-client makes of our spec.

    python python_main_job.py URL KEY CSV

Prints what came of it as one JSON object. A type checker reads it too: nothing here is cast.
"""

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from modelyard_client import AuthenticatedClient
from modelyard_client.api.datasets import (
    create_dataset,
    create_dataset_version,
    get_dataset_version,
    list_datasets,
)
from modelyard_client.api.models import create_model, get_model_alias, put_model_alias
from modelyard_client.api.predictions import create_prediction, get_prediction, predict
from modelyard_client.api.training import create_training_run, get_training_run
from modelyard_client.models import (
    AliasIn,
    CreateDatasetFilesBody,
    CreateDatasetVersionFormat,
    DatasetIn,
    DatasetList,
    DatasetMade,
    ModelAliasOut,
    ModelIn,
    ModelOut,
    PredictIn,
    PredictInInputsItem,
    PredictionIn,
    PredictionInInputsItem,
    PredictionOut,
    PredictOut,
    Problem,
    TrainingRunIn,
    TrainingRunOut,
    TrainingRunOutState,
    VersionOut,
    VersionOutState,
)
from modelyard_client.types import UNSET, File, Unset

Wanted = TypeVar("Wanted")
ROW: dict[str, object] = {
    "island": "Biscoe",
    "bill_length_mm": 48.4,
    "bill_depth_mm": 14.6,
    "flipper_length_mm": 213,
    "body_mass_g": 5850,
    "sex": None,
    "year": 2007,
}
ENDED = (TrainingRunOutState.SUCCEEDED, TrainingRunOutState.FAILED, TrainingRunOutState.CANCELLED)


def a(kind: type[Wanted], answer: object) -> Wanted:
    """An answer, if it is what it should be."""
    if isinstance(answer, kind):
        return answer
    raise SystemExit(f"{kind.__name__} was wanted, and this came: {answer}")


def upload(client: AuthenticatedClient, csv: bytes) -> VersionOut:
    """Version 1 as a form, version 2 as raw bytes; the latter once it is ready."""
    form = CreateDatasetFilesBody(
        name="penguins", file=File(BytesIO(csv), "penguins.csv", "text/csv")
    )
    made = a(DatasetMade, create_dataset.sync(client=client, body=form))
    raw = create_dataset_version.sync(
        made.name,
        client=client,
        body=File(BytesIO(csv)),
        format_=CreateDatasetVersionFormat.CSV,
        prefer="respond-async",
    )
    version = a(VersionOut, raw)
    while version.state in (VersionOutState.QUEUED, VersionOutState.RUNNING):
        asked = get_dataset_version.sync(made.name, version.version, client=client, wait=20)
        version = a(VersionOut, asked)
    return version


def train(client: AuthenticatedClient) -> TrainingRunOut:
    """A run that makes the model's next version, once it has ended."""
    wanted = TrainingRunIn(model="penguins", dataset="penguins", target="species")
    run = a(TrainingRunOut, create_training_run.sync(client=client, body=wanted))
    while run.state not in ENDED:
        run = a(TrainingRunOut, get_training_run.sync(run.id, client=client, wait=20))
    return run


def move_alias(client: AuthenticatedClient) -> list[int]:
    """The statuses of two moves by the same ETag: the first one is made, the second is too late."""
    put_model_alias.sync("penguins", "champion", client=client, body=AliasIn(version=1))
    told = get_model_alias.sync_detailed("penguins", "champion", client=client)
    assert a(ModelAliasOut, told.parsed).version == 1
    moves = (
        put_model_alias.sync_detailed(
            "penguins",
            "champion",
            client=client,
            body=AliasIn(version=2),
            if_match=told.headers["ETag"],
        )
        for _ in range(2)
    )
    return [int(move.status_code) for move in moves]


def dataset_names(client: AuthenticatedClient) -> list[str]:
    """The names of all datasets, read in pages of two."""
    for number in range(3):
        a(DatasetMade, create_dataset.sync(client=client, body=DatasetIn(name=f"empty-{number}")))
    names: list[str] = []
    token: str | Unset = UNSET
    while True:
        asked = list_datasets.sync(client=client, page_size=2, page_token=token)
        page = a(DatasetList, asked)
        names += [dataset.name for dataset in page.items]
        if page.next_page_token is None:
            return names
        token = page.next_page_token


def refusal(client: AuthenticatedClient) -> Problem:
    """What is told of a row with a text where a number belongs."""
    row: dict[str, object] = {**ROW, "body_mass_g": "heavy"}
    asked = PredictIn(inputs=[PredictInInputsItem.from_dict(row)])
    return a(Problem, predict.sync("penguins", client=client, body=asked))


def main(url: str, key: str, csv: bytes) -> dict[str, object]:
    """The main job; what came of it."""
    client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
    version = upload(client, csv)
    a(ModelOut, create_model.sync(client=client, body=ModelIn(name="penguins")))
    runs = [train(client) for _ in range(2)]
    moves = move_alias(client)

    asked = PredictIn(inputs=[PredictInInputsItem.from_dict(ROW)])
    answered = a(PredictOut, predict.sync("penguins", client=client, body=asked))
    kept = PredictionIn(model="penguins", inputs=[PredictionInInputsItem.from_dict(ROW)])
    stored = a(PredictionOut, create_prediction.sync(client=client, body=kept))
    read = a(PredictionOut, get_prediction.sync(stored.id, client=client))

    problem = refusal(client)
    faults = [] if isinstance(problem.errors, Unset) else problem.errors
    metrics = runs[0].metrics
    return {
        "version": [version.version, version.state.value, version.rows],
        "runs": [[run.state.value, run.model_version] for run in runs],
        "accuracy": None if metrics is None else metrics["accuracy"],
        "moves": moves,
        "predicted": [answered.version, [output.label for output in answered.outputs]],
        "stored": str(stored.id),
        "read_back": stored == read,
        "names": dataset_names(client),
        "problem": [problem.status, [fault.pointer for fault in faults]],
    }


if __name__ == "__main__":
    url, key, path = sys.argv[1:]
    print(json.dumps(main(url, key, Path(path).read_bytes())))  # noqa: T201 (read by its caller)
