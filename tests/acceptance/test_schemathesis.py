"""The running server against its own specification: generated requests, all checks, no failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import Server, wait_for

HERE = Path(__file__).resolve().parent
PENGUINS = HERE.parents[1] / "examples" / "penguins.csv"
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("schemathesis")) as running:
        with running.client() as client:
            files = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}
            client.post("/datasets", data={"name": "penguins"}, files=files)
            body = {"model": "penguins", "dataset": "penguins", "target": "species"}
            wait_for(
                client, f"/training-runs/{client.post('/training-runs', json=body).json()['id']}"
            )
        yield running


def generated(server, key, examples):
    """What a run of schemathesis prints, and its exit status."""
    config = str(HERE / "schemathesis.toml")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
        *("run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {key}"),
        *("--max-examples", str(examples), "--seed", "1", "--continue-on-failure"),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.acceptance.hooks"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env=environment,
        cwd=HERE.parents[1],
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_no_generated_request_breaks_the_contract(server, role):
    with server.client() as client:
        key = client.post("/keys", json={"name": role, "role": role}).json()["secret"]

    status, printed = generated(server, key, examples=6)

    assert status == 0, printed[-8000:]
    assert "unforeseen_error" not in server.log()
