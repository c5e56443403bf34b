"""What is written for operators names settings, services and commands that there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from app.__main__ import main
from app.settings_table import SERVICES, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy"
UNIT = FOLDER / "systemd" / "modelyard@.service"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_CLIENTS = {"MODELYARD_KEY"}
"""What the examples keep a key in: no setting of ours."""
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
KNOWN = {setting.env for setting in SETTINGS} | {
    f"MODELYARD_{service.upper()}_{suffix}"
    for service in SERVICES
    for suffix in ("URL", "DATABASE_URL")
}


def named_of(path):
    return str(path.relative_to(ROOT))


def environment_of(file):
    """What a file for systemd's EnvironmentFile says."""
    lines = (FOLDER / "systemd" / file).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("file", [*FILES, *PAGES], ids=named_of)
def test_every_setting_exists(file):
    named = set(re.findall(r"\bMODELYARD_[A-Z_]*[A-Z]\b", file.read_text()))
    assert named - OF_CLIENTS <= KNOWN


def commands_in(text):
    """The words after `modelyard`, where it is a command: in a line of its own, or in backticks."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:[A-Z_]+=\S+ +)*modelyard +([^#&\n]+)", text, re.MULTILINE)
    return [line.split() for line in lines + re.findall(r"`modelyard ([^`]+)`", text)]


def assert_exists(words):
    command = main
    while isinstance(command, click.Group) and words:
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, words


@pytest.mark.parametrize("page", PAGES, ids=named_of)
def test_every_command_of_a_page_exists(page):
    for words in commands_in(page.read_text()):
        assert_exists(words)


def test_commands_are_found_where_they_are_written():
    page = "```\nA=b modelyard serve --port 1 \\\n  --host x &\n```\nuse `modelyard doctor --json`"
    found = commands_in(page)
    assert found == [["serve", "--port", "1", "--host", "x"], ["doctor", "--json"]]
    with pytest.raises(AssertionError):
        assert_exists(["serve", "--colour"])
    with pytest.raises(AssertionError):
        assert_exists(["keys", "make"])
    assert sum(len(commands_in(page.read_text())) for page in PAGES) > 30


def test_each_service_has_an_environment_for_its_unit():
    shared = environment_of("shared.env")
    for service in SERVICES:
        own = environment_of(f"{service}.env")
        port = own["MODELYARD_PORT"]
        assert shared[f"MODELYARD_{service.upper()}_URL"].endswith(f":{port}")
        assert own[f"MODELYARD_{service.upper()}_DATABASE_URL"].endswith(f"@db.example/{service}")


def test_the_unit_starts_a_command_that_exists():
    (line,) = re.findall(r"^ExecStart=\S*/modelyard (.+)$", UNIT.read_text(), re.MULTILINE)
    assert_exists(line.split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    text = UNIT.read_text()
    made = tmp_path / "modelyard@training.service"
    made.write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE)
    )
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", made]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    made.write_text(made.read_text().replace("KillMode=mixed", "KillMode=mostly"))
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert "kill mode" in done.stderr


def test_each_service_has_a_server_with_its_own_database_and_all_addresses():
    for service in SERVICES:
        told = COMPOSE["services"][service]["environment"]
        assert told["MODELYARD_SERVICES"] == service
        assert f"@postgres/{service}" in told[f"MODELYARD_{service.upper()}_DATABASE_URL"]
        assert told[f"MODELYARD_{service.upper()}_URL"] == f"http://{service}:8080"
        assert service in told["MODELYARD_HOSTS"].split(",")
    assert COMPOSE["services"]["postgres"]["environment"]["DATABASES"].split() == list(SERVICES)


def test_the_commands_exist():
    commands = [one["command"] for one in COMPOSE["services"].values() if "command" in one]
    ours = [command[1:] for command in commands if command[0] == "modelyard"]
    assert len(ours) == len(SERVICES) + 1
    for command in ours:
        assert_exists(command)


def test_what_is_needed_before_a_service_is_there():
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        for mount in service.get("volumes", ()):
            assert mount.split(":")[0] in COMPOSE["volumes"]
        for config in service.get("configs", ()):
            assert config["source"] in COMPOSE["configs"]
