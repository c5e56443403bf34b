"""Makes the home of a release: ``python -m tests.releases.make``.

A server is started, used and stopped; its backup is the fixture, so old databases, artifacts and
secrets come together. What it answered lies in it, too: the stored predictions. As long as the
version has not been released, its home is made anew whenever the tables change.
"""

import lzma
import sys
import tempfile
from pathlib import Path

import httpx

from app import backup
from app.config import Settings
from app.factory import own_version
from tests.server import Server, wait_for

FOLDER = Path(__file__).parent
PENGUINS = FOLDER.parents[1] / "examples" / "penguins.csv"
FEATURES = ["bill_length_mm", "flipper_length_mm", "island"]
ROWS = [
    {"bill_length_mm": 39.1, "flipper_length_mm": 181, "island": "Torgersen"},
    {"bill_length_mm": 50.0, "flipper_length_mm": 230, "island": "Biscoe"},
    {"bill_length_mm": None, "flipper_length_mm": 195, "island": "Nowhere"},
]
RUNS = {
    "compiled": {"target": "species", "estimator": {"name": "LogisticRegression"}},
    "neighbours": {
        "target": "species",
        "estimator": {
            "name": "KNeighborsClassifier",
            "params": {"weights": "distance", "algorithm": "brute"},
        },
    },
    "boosted": {
        "target": "body_mass_g",
        "estimator": {"name": "HistGradientBoostingRegressor", "params": {"max_iter": 20}},
    },
}


def _ask(client: httpx.Client, path: str, body: dict[str, object]) -> dict[str, object]:
    answer = client.post(path, json=body)
    if answer.status_code not in (201, 202):
        raise AssertionError(f"{path}: {answer.text}")
    told: dict[str, object] = answer.json()
    return told


def live(client: httpx.Client) -> None:
    """Leave something of each kind behind."""
    with PENGUINS.open("rb") as file:
        sent = {"file": ("penguins.csv", file, "text/csv")}
        client.post("/datasets", data={"name": "penguins"}, files=sent).raise_for_status()
    for model, wanted in RUNS.items():
        given = {"model": model, "dataset": "penguins", "features": FEATURES, **wanted}
        run = wait_for(client, f"/training-runs/{_ask(client, '/training-runs', given)['id']}")
        if run["state"] != "succeeded":
            raise AssertionError(run["error"])
        _ask(client, "/predictions", {"model": model, "inputs": ROWS})
    client.put("/models/compiled/aliases/champion", json={"version": 1}).raise_for_status()
    batch = _ask(client, "/batch-predictions", {"model": "compiled", "dataset": "penguins"})
    if wait_for(client, f"/batch-predictions/{batch['id']}")["state"] != "succeeded":
        raise AssertionError("the batch has not succeeded")
    _ask(client, "/projects", {"name": "other"})
    _ask(client, "/keys", {"name": "reader", "role": "viewer", "project": "other"})


def make() -> Path:
    """The new fixture."""
    fixture = FOLDER / f"{own_version()}.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        home, file = Path(folder) / "home", Path(folder) / "home.tar"
        with Server(home) as server, server.client() as client:
            live(client)
        backup.back_up(Settings.from_environment({"MODELYARD_HOME": str(home)}), file)
        fixture.write_bytes(lzma.compress(file.read_bytes(), preset=9))
    return fixture


if __name__ == "__main__":
    sys.stdout.write(f"{make()}\n")
