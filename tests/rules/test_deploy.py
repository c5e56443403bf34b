"""What is written for operators names settings, services and commands that there are."""

import re
from pathlib import Path

import pytest
import yaml

from app.__main__ import main
from app.settings_table import SERVICES, SETTINGS

FOLDER = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
KNOWN = {setting.env for setting in SETTINGS} | {
    f"MODELYARD_{service.upper()}_{suffix}"
    for service in SERVICES
    for suffix in ("URL", "DATABASE_URL")
}


@pytest.mark.parametrize("file", sorted(path for path in FOLDER.rglob("*") if path.is_file()))
def test_every_setting_exists(file):
    named = set(re.findall(r"\bMODELYARD_[A-Z_]+", file.read_text()))
    assert named <= KNOWN


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
    ours = {command[1] for command in commands if command[0] == "modelyard"}
    assert ours <= set(main.commands)


def test_what_is_needed_before_a_service_is_there():
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        for mount in service.get("volumes", ()):
            assert mount.split(":")[0] in COMPOSE["volumes"]
        for config in service.get("configs", ()):
            assert config["source"] in COMPOSE["configs"]
