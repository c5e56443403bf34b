"""The main job, over HTTP: from a table to predictions, whatever the installation is like."""

import csv
from pathlib import Path

from tests.server import wait_for

PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"


def first_rows(count):
    with PENGUINS.open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    return [{name: value_of(name, row[name]) for name in row if name != "species"} for row in rows]


def value_of(name, text):
    if text in ("", "NA"):
        return None
    if name in ("island", "sex"):
        return text
    return int(text) if name in ("year", "flipper_length_mm", "body_mass_g") else float(text)


def main_job(client, **estimator):
    """Upload, train, predict, keep, predict a whole table; who names none has one looked for."""
    made = client.post(
        "/datasets",
        data={"name": "penguins"},
        files={"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")},
    )
    assert made.status_code == 201, made.text

    version = client.get("/datasets/penguins/versions/1").json()
    assert version["rows"] == 344
    assert {c["name"]: c["type"] for c in version["columns"]}["species"] == "string"

    accepted = client.post(
        "/training-runs",
        json={"model": "penguins", "dataset": "penguins", "target": "species", **estimator},
        headers={"Idempotency-Key": "story"},
    )
    assert accepted.status_code == 202, accepted.text
    run = wait_for(client, f"/training-runs/{accepted.json()['id']}")
    assert run["state"] == "succeeded", run
    assert run["metrics"]["accuracy"] > 0.9 > run["baseline"]["accuracy"]

    rows = first_rows(5)
    stored = client.post("/predictions", json={"model": "penguins", "inputs": rows})
    assert stored.status_code == 201, stored.text
    assert [row["label"] for row in stored.json()["outputs"]] == ["Adelie"] * 5
    read = client.get(f"/predictions/{stored.json()['id']}").json()
    assert read == stored.json()

    unstored = client.post("/models/penguins/predict", json={"inputs": rows})
    assert unstored.status_code == 200, unstored.text
    assert unstored.json()["outputs"] == stored.json()["outputs"]
    assert unstored.json()["engine"] == "compiled"

    batch = client.post("/batch-predictions", json={"model": "penguins/1", "dataset": "penguins"})
    assert batch.status_code == 202, batch.text
    ended = wait_for(client, f"/batch-predictions/{batch.json()['id']}")
    assert ended["state"] == "succeeded", ended
    content = client.get(
        f"/batch-predictions/{ended['id']}/content", headers={"Accept": "text/csv"}
    )
    predicted = list(csv.DictReader(content.text.splitlines()))
    assert len(predicted) == 344
    assert sum(row["species"] == row["prediction"] for row in predicted) > 330
