"""Every command with what is wrong: one clear line, the right exit status, never a traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.__main__ import main
from app.config import Settings
from app.settings_table import SETTINGS, SettingsError

ROOT = Path(__file__).parents[1]
STRANGER = "postgresql://someone:word-of-pass@127.0.0.1:1/nothing"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command over a home of its own; variables first."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.env, raising=False)

    def command(*arguments, home=tmp_path / "home", **environment):
        runner = CliRunner(env={name: str(value) for name, value in environment.items()})
        given = [] if arguments[0] in ("openapi", "role") else ["--home", str(home)]
        return runner.invoke(main, [*arguments, *given])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield command
    for number, handler in before.items():
        signal.signal(number, handler)


def failed(result, status, words):
    """Assert how a command failed: the status, and one line that says why."""
    assert result.exit_code == status, result.output
    assert words in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "word-of-pass" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--port", "0"], "--port"),
        (["serve", "--port", "http"], "--port"),
        (["serve", "--workers", "-1"], "--workers"),
        (["serve", "--workers", "many"], "--workers"),
        (["worker", "--workers", "0"], "--workers"),
        (["serve", "--colour"], "--colour"),
        (["keys", "revoke"], "KEY_ID"),
        (["nonsense"], "No such command"),
    ],
)
def test_what_no_command_takes_is_a_usage_error(run, arguments, words):
    failed(run(*arguments), 2, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--services", "nope"], "no such service: nope; there are access, datasets"),
        (["serve", "--services", ""], "name at least one"),
        (["api", "--services", " , "], "name at least one"),
        (["serve", "--host", "host.invalid"], "Can't listen on host.invalid:8080"),
        (["serve", "--host", "192.0.2.1"], "Can't listen on 192.0.2.1:8080"),
        (["role", "nonsense"], "No such role: nonsense"),
        (["openapi", "--output", "/nowhere/at/all"], "/nowhere/at/all: No such file"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line(run, arguments, words):
    result = run(*arguments)
    failed(result, 1, words)
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "doctor", "demo"])
def test_a_home_that_can_not_be_made_is_told(run, command):
    failed(run(command, home="/proc/nowhere"), 1, "/proc/nowhere")


BAD_SETTINGS = [
    ("MODELYARD_DATABASE_URL", "nonsense", "it reads sqlite:///file or postgresql://host/name"),
    ("MODELYARD_DATABASE_URL", "mysql://x:word-of-pass@h/d", "mysql is not offered"),
    ("MODELYARD_DATABASE_URL", "sqlite://", "a database in memory"),
    ("MODELYARD_STORE_URL", "ftp://x", "say file:///dir or s3://bucket/prefix"),
    ("MODELYARD_SECRET", "word-of-pass", "at least 32 characters"),
    ("MODELYARD_ADMIN_KEY", "word-of-pass", "a key reads myk_<8>_<43>"),
    ("MODELYARD_MODELS_URL", "models:8080", "say http://host:port"),
    ("MODELYARD_THREADS", "0", "say a number from 1"),
    ("MODELYARD_PORT", "0", "say a number from 1 to 65535"),
    ("MODELYARD_SLOTS", "two", "say a number from 1"),
    ("MODELYARD_WORKERS", "4..1", "say a number from 0 to 64, or a range such as 1..4"),
    ("MODELYARD_WORKERS", "1..65", "say a number from 0 to 64, or a range such as 1..4"),
    ("MODELYARD_WORKERS", "0..4", "a range starts at 1"),
    ("MODELYARD_WORKERS", "1-4", "say a number from 0 to 64, or a range such as 1..4"),
    ("MODELYARD_MAX_JSON", "10X", "such as 16M"),
    ("MODELYARD_MAX_JSON", "inf", "such as 16M"),
    ("MODELYARD_LEASE_SECONDS", "nan", "say a number above 0"),
    ("MODELYARD_LEASE_SECONDS", "0", "say a number above 0"),
    ("MODELYARD_LOG_LEVEL", "loud", "say debug, info, warning, error"),
    ("MODELYARD_LOG_JSON", "perhaps", "say true or false"),
]


@pytest.mark.parametrize(("variable", "value", "words"), BAD_SETTINGS)
def test_a_setting_that_can_not_be_used_stops_every_start(run, variable, value, words):
    """A worker or an API that can't start was started again and again, each with a traceback."""
    failed(run("migrate", **{variable: value}), 1, words)


def test_a_misspelt_setting_of_a_caller_is_told():
    with pytest.raises(TypeError, match="prot"):
        Settings.from_environment({}, prot=1)


def test_settings_survive_their_way_to_a_child(tmp_path):
    settings = Settings.from_environment({"MODELYARD_MAX_JSON": "1.5k"}, home=tmp_path)
    assert Settings.from_environment(settings.environment()) == settings
    assert settings.max_json == 1500
    with pytest.raises(SettingsError, match="MODELYARD_WORKERS"):
        Settings.from_environment({"MODELYARD_WORKERS": "65"})


@pytest.mark.parametrize(("text", "bounds"), [("0", (0, 0)), ("3", (3, 3)), ("1..4", (1, 4))])
def test_a_number_of_workers_is_fixed_and_a_range_has_bounds(text, bounds):
    settings = Settings.from_environment({}, workers=text)
    assert (settings.workers.least, settings.workers.most) == bounds
    assert Settings.from_environment(settings.environment()).workers == settings.workers


def test_a_host_of_workers_only_has_at_least_one(run):
    failed(run("worker", "--workers", "0"), 2, "say at least 1")
    failed(run("worker", MODELYARD_WORKERS="0"), 1, "MODELYARD_WORKERS: say at least 1")


def test_the_supervisor_is_light():
    """It lives as long as the server does, and waits."""
    heavy = (
        "sys.modules.keys() & {'sqlalchemy', 'flask', 'granian', 'prometheus_client', 'sklearn'}"
    )
    code = f"import sys; import app.__main__; sys.exit(str({heavy}) if {heavy} else 0)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "command", [["migrate"], ["keys", "list"], ["keys", "create"], ["keys", "revoke", "x"]]
)
def test_a_database_that_is_away_is_told(run, command):
    failed(run(*command, MODELYARD_DATABASE_URL=STRANGER), 1, "The database can't be used")


def test_keys_of_a_home_without_any_say_what_to_do(run):
    for command in (["keys", "list"], ["keys", "create"], ["keys", "revoke", "x"]):
        failed(run(*command), 1, "run `modelyard migrate`")


def test_the_doctor_tells_of_all_that_is_wrong_and_what_to_do(run):
    result = run("doctor")
    failed(result, 1, "BAD  migrations of kernel, access are missing: run `modelyard migrate`")
    away = run("doctor", MODELYARD_DATABASE_URL=STRANGER, MODELYARD_STORE_URL="ftp://x")
    failed(away, 1, "BAD  database of models: The database can't be used")
    assert "BAD  artifact store: MODELYARD_STORE_URL" in away.output


def test_keys_are_made_listed_and_revoked(run):
    assert run("migrate").output.count("myk_") == 1
    assert run("migrate").output == ""
    made = run("keys", "create", "--role", "viewer", "--name", "reader")
    assert made.exit_code == 0
    key_id = made.output.split("_")[1]
    assert f"{key_id}  live" in run("keys", "list").output
    assert run("keys", "revoke", key_id).exit_code == 0
    assert f"{key_id}  revoked" in run("keys", "list").output
    assert run("doctor").exit_code == 0


def test_keys_that_can_not_be_are_told(run):
    run("migrate")
    failed(run("keys", "create", "--role", "king"), 1, "there are viewer, predictor")
    failed(run("keys", "create", "--name", ""), 1, "1 to 100 characters")
    failed(run("keys", "create", "--project", "nope"), 1, "no project nope")
    failed(run("keys", "list", "--project", "nope"), 1, "no project nope")
    failed(run("keys", "revoke", "nope"), 1, "no key nope")
    last = run("keys", "list").output.split()[0]
    failed(run("keys", "revoke", last), 1, "last admin key")


def test_every_command_explains_itself(run):
    runner = CliRunner()
    shown = runner.invoke(main, ["--help"]).output
    for name, command in main.commands.items():
        assert command.hidden or name in shown
        assert runner.invoke(main, [name, "--help"]).exit_code == 0
