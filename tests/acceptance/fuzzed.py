"""A running server with something of everything, so that generated requests find what they name."""

import json
from pathlib import Path
from typing import Any

import httpx

from app.predictions.resources import EXAMPLE_ROW
from tests.server import Server, wait_for

PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"
_SPARES = [f"spare-{number}" for number in range(1, 7)]


def furnish(server: Server) -> dict[str, list[Any]]:
    """Make something of everything; what may be named, by kind."""
    with server.client() as client:
        _upload(client, "penguins")
        run = _train(client, "penguins")
        _succeeds(client, "PUT", "/models/penguins/aliases/champion", {"version": 1})
        batch = {"model": "penguins", "dataset": "penguins"}
        batched = _succeeds(client, "POST", "/batch-predictions", batch)["id"]
        wait_for(client, f"/batch-predictions/{batched}")
        _succeeds(client, "POST", "/topics", {"name": "penguins"})
        _succeeds(client, "POST", "/topics/penguins/records", {"records": [{"value": 1}] * 20})
        group = {"name": "penguins", "topic": "penguins"}
        _succeeds(client, "POST", "/consumer-groups", group)
        members = "/consumer-groups/penguins/members"
        member = _succeeds(client, "POST", members, {"client": "fuzzed"})["id"]
        spares = _spares(client)
        return {
            "names": ["penguins"],
            "projects": ["default"],
            "keys": [server.admin_key.split("_")[1]],
            "versions": [1],
            "targets": ["species"],
            "aliases": ["champion"],
            "formats": ["joblib", "compiled"],
            "estimators": ["Ridge", "RandomForestClassifier"],
            "runs": [run],
            "batches": [batched],
            "predictions": [_predict(client)],
            "partitions": [0],
            "members": [member],
            **spares,
        }


def _spares(client: httpx.Client) -> dict[str, list[Any]]:
    for name in _SPARES:
        _succeeds(client, "POST", "/datasets", {"name": name})
        _succeeds(client, "POST", "/models", {"name": name})
        _succeeds(client, "POST", "/topics", {"name": name})
        _succeeds(client, "PUT", f"/models/penguins/aliases/{name}", {"version": 1})
    key = {"name": "spare", "role": "viewer"}
    return {
        "spare_names": ["penguins", *_SPARES],
        "spare_topics": _SPARES,
        "spare_keys": [_succeeds(client, "POST", "/keys", key)["key_id"] for _ in _SPARES],
        "spare_runs": [_train(client, "penguins") for _ in range(2)],
        "spare_predictions": [_predict(client) for _ in _SPARES],
    }


def _upload(client: httpx.Client, name: str) -> None:
    files = {"file": (PENGUINS.name, PENGUINS.read_bytes(), "text/csv")}
    assert client.post("/datasets", data={"name": name}, files=files).status_code == 201


def _train(client: httpx.Client, name: str) -> str:
    body = {
        "model": name,
        "dataset": name,
        "target": "species",
        "estimator": {"name": "GaussianNB"},
    }
    run = str(_succeeds(client, "POST", "/training-runs", body)["id"])
    assert wait_for(client, f"/training-runs/{run}")["state"] == "succeeded"
    return run


def _predict(client: httpx.Client) -> str:
    body = {"model": "penguins/1", "inputs": [EXAMPLE_ROW]}
    return str(_succeeds(client, "POST", "/predictions", body)["id"])


def _succeeds(client: httpx.Client, method: str, path: str, body: object) -> dict[str, Any]:
    answer = client.request(method, path, json=body)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made


def configuration(known: dict[str, list[Any]], examples: int) -> str:
    """What may be named, and how much is to be generated, as schemathesis' configuration.

    Sequences get ten times as many: each of them tries only some operations.
    """
    named = [f"{kind} = {{ values = {json.dumps(values)} }}" for kind, values in known.items()]
    amounts = {"generation": examples, "phases.stateful.generation": 10 * examples}
    sections = [f"[{name}]\nmax-examples = {amount}" for name, amount in amounts.items()]
    return "\n".join(["", *sections, "[dictionaries]", *named, ""])
