"""The client that openapi-python-client makes of our spec: made without a warning, typed, used."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.main_job import MAIN_JOB, PENGUINS, operations_of
from tests.acceptance.tools import printed
from tests.server import NO_PROCESSORS, Server

HERE = Path(__file__).resolve().parent
SCRIPTS = Path(sys.executable).parent
PACKAGE = "modelyard_client"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), NO_PROCESSORS) as running:
        yield running


@pytest.fixture(scope="module")
def generated(server, tmp_path_factory):
    """A folder with the client and the script that uses it, and what its maker printed."""
    folder = tmp_path_factory.mktemp("python-client")
    shutil.copy(HERE / "python_main_job.py", folder)
    command = [
        *(str(SCRIPTS / "openapi-python-client"), "generate"),
        *("--url", f"{server.url}/openapi.json", "--meta", "none", "--output-path", PACKAGE),
    ]
    # It has its work formatted by ruff, which it looks for on the path.
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return folder, printed(command, folder, more={"PATH": path})


@pytest.fixture(scope="module")
def done(server, generated):
    """What the script did against the server."""
    arguments = [server.url, server.admin_key, str(PENGUINS)]
    folder, _ = generated
    return json.loads(printed([sys.executable, "python_main_job.py", *arguments], folder))


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """mypy, strict, with a cache of its own."""
    cache = tmp_path_factory.mktemp("mypy")
    return [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={cache}"]


def snake_case(name):
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def test_the_client_is_made_of_all_of_the_spec_without_a_warning(server, generated):
    folder, told = generated
    modules = {path.stem for path in (folder / PACKAGE / "api").glob("*/*.py")}

    assert told.splitlines() == [f"Generating {PACKAGE}"]
    assert modules - {"__init__"} == set(map(snake_case, operations_of(server)))


def test_only_an_answer_without_a_body_has_no_type(server, generated):
    folder, _ = generated
    for name, told in operations_of(server).items():
        (module,) = (folder / PACKAGE / "api").glob(f"*/{snake_case(name)}.py")
        (types,) = set(re.findall(r"-> Response\[(.*)\]:", module.read_text()))
        empty = [status for status in ("204", "304") if status in told["responses"]]

        assert ("Any" in types.split(" | ")) == bool(empty), name


def test_what_an_answer_holds_has_types(generated):
    folder, _ = generated
    untyped = {
        name
        for path in (folder / PACKAGE / "models").glob("*.py")
        for name in re.findall(r"^    (\w+): (?:list\[)?Any\b", path.read_text(), re.MULTILINE)
    }

    # What would have been accepted, the row of a table as it was sent, and a record: any JSON.
    assert untyped == {"allowed", "raw", "value"}


def complaints(command, folder):
    """What a type checker complains of."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


def test_the_client_and_its_use_pass_the_strict_type_checker(generated, checker):
    folder, _ = generated

    found = complaints([*checker, "-p", PACKAGE, "-m", "python_main_job"], folder)

    # There the generator's template passes `*args: Any` on; it is the same for every spec.
    assert [line for line in found if not line.startswith(f"{PACKAGE}/client.py:")] == []


def test_the_main_job_is_done(server, done):
    with server.client() as client:
        stored = client.get(f"/predictions/{done['stored']}").json()

    assert {name: done[name] for name in MAIN_JOB} == MAIN_JOB
    assert done["accuracy"] > 0.9
    assert stored["inputs"][0]["sex"] is None
