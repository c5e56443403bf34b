"""The running server against its own specification: generated requests, all checks, no failure.

FUZZ_SEED varies what is generated; every run prints its seed and how many requests it was.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.fuzzed import configuration, furnish
from tests.server import Server

HERE = Path(__file__).resolve().parent
SEED = os.environ.get("FUZZ_SEED", "1")
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "home") as running:
        yield running


def generate(server, key, phases, config):
    """Let schemathesis send its requests with a key; its status, what it prints."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {key['secret']}"),
        *("--checks", "all", "--phases", phases, "--seed", SEED, "--continue-on-failure"),
        *("--generation-database", "none", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--no-color"),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.acceptance.hooks", "FUZZ_KEY_ID": key["key_id"]}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        env={**os.environ, **hooks},
        cwd=HERE.parents[1],
    )
    return done.returncode, done.stdout + done.stderr


def assert_contract_holds(server, capsys, runs, examples, least):
    """No check fails, with a reader's key and then with an admin's; each sends ``least`` requests.

    The reader comes first: what the admin deletes, it would not find.
    """
    config = server.home.parent / "schemathesis.toml"
    rules = (HERE / "schemathesis.toml").read_text()
    config.write_text(rules + configuration(furnish(server), examples))
    for role in ("viewer", "admin"):
        with server.client() as client:
            key = client.post("/keys", json={"name": role, "role": role}).json()
        sent = 0
        for phases in runs:
            status, printed = generate(server, key, phases, config)
            assert status == 0, printed[:8000]
            sent += int(re.search(r"(\d+) generated", printed)[1])
        with capsys.disabled():
            sys.stdout.write(f"\nschemathesis: seed {SEED}, {role}: {sent} requests\n")
        assert sent >= least
    assert "unforeseen_error" not in server.log()


@pytest.mark.timeout(300)
def test_no_request_of_some_hundreds_breaks_the_contract(server, capsys):
    assert_contract_holds(server, capsys, ["examples,fuzzing,stateful"], examples=2, least=300)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_no_request_of_thousands_breaks_the_contract(server, capsys):
    # Sequences on their own: after the rest, most of them are given up before they begin.
    runs = ["examples,coverage,fuzzing", "stateful"]
    assert_contract_holds(server, capsys, runs, examples=10, least=3000)
