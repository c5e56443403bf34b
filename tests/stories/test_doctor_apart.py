"""The doctor on servers as an operator starts them, behind their gateway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings_table import SERVICES
from tests.fleet import COARSE, Fleet
from tests.server import NO_WORK

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Two servers, each with a database of its own."""
    home = tmp_path_factory.mktemp("fleet")
    databases = {
        service: f"sqlite:///{home}/{group[0]}.db" for group in COARSE for service in group
    }
    made = Fleet(home, COARSE, databases)
    for server in made.servers.values():
        server.environment |= NO_WORK
    with made:
        yield made


def doctor(fleet, tmp_path, *options, **changes):
    """The status, and what was found."""
    (server, *_) = fleet.servers.values()
    shared = {name: value for name, value in server.environment.items() if "DATABASE" not in name}
    command = [sys.executable, "-m", "app", "doctor", "--remote", "--json", *options]
    done = subprocess.run(
        [*command, "--home", str(tmp_path / "nowhere")],
        env={
            "PATH": "/usr/bin:/bin",
            **shared,
            "MODELYARD_SERVICES": ",".join(SERVICES),
            **changes,
        },
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["well"] else 1)
    return [one for one in document["findings"] if one["level"] == "bad"]


def test_an_installation_that_is_well(fleet, tmp_path):
    assert doctor(fleet, tmp_path, "--gateway", fleet.url) == []


def test_what_was_not_set_as_it_is_everywhere(fleet, tmp_path):
    found = doctor(fleet, tmp_path, MODELYARD_SECRET="x" * 40)
    assert {one["advice"] for one in found} == {"give all services the same MODELYARD_SECRET"}


def test_a_server_that_was_killed(fleet, tmp_path):
    killed = fleet.servers["predictions"]
    killed.kill()
    try:
        found = doctor(fleet, tmp_path, "--gateway", fleet.url)
    finally:
        killed.start()
    texts = [one["text"] for one in found]
    assert any(text.startswith("predictions, streams: http") for text in texts), texts
    assert any("datasets asks predictions" in text for text in texts), texts
    assert any(text.startswith("gateway: streams is away") for text in texts), texts
    assert doctor(fleet, tmp_path, "--gateway", fleet.url) == []
