"""The demo, run as a person would, against a server that answers by the contract."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.demo import demo_key, free_port, penguins, run_demo, server

DEMO_API = (sys.executable, str(Path(__file__).with_name("demo_api.py")))
MAIN_JOB = [
    "POST /api/v1/datasets",
    "POST /api/v1/training-runs",
    "GET /api/v1/training-runs/r1",
    "POST /api/v1/predictions",
    "GET /api/v1/predictions/p1",
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("FAULT", raising=False)
    port = free_port("127.0.0.1", 0)
    return Settings.from_environment({}, home=tmp_path, port=port)


def requests(settings: Settings) -> list[dict[str, object]]:
    lines = (settings.home / "requests.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def curl_lines(output: str) -> list[str]:
    return re.findall(r"^  (curl (?:.*\\\n)*.*)", output, re.MULTILINE)


def test_the_demo_does_the_main_job_and_ends_with_0(settings, capsys):
    assert run_demo(settings, DEMO_API) == 0
    assert list(dict.fromkeys(request["call"] for request in requests(settings))) == MAIN_JOB
    output = capsys.readouterr().out
    assert '"label": "Gentoo"' in output
    assert "[##############################] 100%  succeeded" in output
    assert "modelyard serve" in output or "make serve" in output


def test_a_second_demo_adds_a_version_to_the_dataset(settings, capsys):
    assert run_demo(settings, DEMO_API) == 0
    assert run_demo(settings, DEMO_API) == 0
    assert (settings.home / "versions").read_text() == "2"
    assert '"version": 2' in capsys.readouterr().out


def test_the_server_is_stopped_afterwards(settings):
    run_demo(settings, DEMO_API)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{settings.port}/readyz", trust_env=False)


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    first = demo_key(tmp_path / "demo.key")
    assert re.fullmatch(r"myk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}", first)
    assert demo_key(tmp_path / "demo.key") == first
    assert stat.S_IMODE((tmp_path / "demo.key").stat().st_mode) == 0o600


def test_a_given_admin_key_is_used_and_no_other_is_written(settings):
    key = "myk_AAAAAAAA_" + "a" * 43
    assert run_demo(settings.with_(admin_key=key), DEMO_API) == 0
    assert not (settings.instance / "demo.key").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_each_printed_line_can_be_repeated_with_curl(settings, capsys):
    run_demo(settings, DEMO_API)
    lines = curl_lines(capsys.readouterr().out)
    first = requests(settings)
    (settings.home / "versions").unlink()
    (settings.home / "requests.jsonl").unlink()
    key = demo_key(settings.instance / "demo.key")
    with server(settings, DEMO_API, settings.port, key):
        for line in lines:
            subprocess.run(
                ["sh", "-c", line],
                check=True,
                timeout=20,
                capture_output=True,
                env={"PATH": os.environ["PATH"], "MODELYARD_KEY": key, "no_proxy": "*"},
            )
    again = requests(settings)
    assert [r["call"] for r in again] == MAIN_JOB
    assert [r["status"] for r in again] == [201, 202, 200, 201, 200]
    assert {r["call"]: r["json"] for r in again} == {r["call"]: r["json"] for r in first}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("exit", "the database can't be opened"),
        ("fail_run", "fit_error"),
        ("forget", "the stored prediction differs"),
    ],
)
def test_a_broken_promise_ends_the_demo_with_1_and_says_which(
    settings, monkeypatch, capsys, fault, told
):
    monkeypatch.setenv("FAULT", fault)
    assert run_demo(settings, DEMO_API) == 1
    assert told in capsys.readouterr().err


def test_a_taken_port_is_left_alone():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_port("127.0.0.1", taken) not in {0, taken}


def test_the_table_has_344_rows_of_8_columns():
    lines = penguins().read_text().splitlines()
    assert len(lines) == 345
    assert {len(line.split(",")) for line in lines} == {8}
