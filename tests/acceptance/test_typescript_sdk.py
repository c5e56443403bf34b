"""The client that @hey-api/openapi-ts makes of our spec: made without a warning, typed, used."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.acceptance.main_job import MAIN_JOB, PENGUINS, operations_of
from tests.acceptance.tools import printed, program
from tests.server import NO_PROCESSORS, Server

HERE = Path(__file__).resolve().parent
MAKER = "node_modules/.bin/openapi-ts"
COMPILER = "node_modules/.bin/tsc"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def npm():
    return program("npm")


@pytest.fixture(scope="module")
def server(npm, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), NO_PROCESSORS) as running:
        yield running


@pytest.fixture(scope="module")
def generated(server, npm, tmp_path_factory):
    """A folder with the client and the script that uses it, and what its maker printed."""
    folder = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(HERE / "typescript", folder)
    cache = ["--cache", str(folder.parent / "cache"), "--no-audit", "--no-fund"]
    printed([npm, "ci", "--ignore-scripts", *cache], folder)
    command = [str(folder / MAKER), "-i", f"{server.url}/openapi.json", "-o", "client"]
    return folder, printed(command, folder)


@pytest.fixture(scope="module")
def compiled(generated):
    """A folder with the compiled client and script; AssertionError where a type doesn't fit."""
    folder, _ = generated
    printed([str(folder / COMPILER)], folder)
    return folder


@pytest.fixture(scope="module")
def done(server, compiled):
    """What the script did against the server."""
    arguments = [server.url, server.admin_key, str(PENGUINS)]
    return json.loads(printed([program("node"), "built/main_job.js", *arguments], compiled))


def test_the_client_is_made_of_all_of_the_spec_without_a_warning(server, generated):
    folder, told = generated
    functions = re.findall(
        r"^export const (\w+) =", (folder / "client/sdk.gen.ts").read_text(), re.MULTILINE
    )

    assert "Done!" in told
    assert "warn" not in told.lower()
    assert set(functions) == set(operations_of(server))


def test_the_main_job_passes_the_strict_compiler_and_is_done(server, done):
    with server.client() as client:
        stored = client.get(f"/predictions/{done['stored']}").json()

    assert {name: done[name] for name in MAIN_JOB} == MAIN_JOB
    assert done["accuracy"] > 0.9
    assert stored["inputs"][0]["sex"] is None
