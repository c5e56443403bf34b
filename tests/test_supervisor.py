"""One server a port and a home: exactly one of two wins, and says so; nothing stays locked."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.kernel.supervision import Announcer, Told, told
from app.role_process import Role
from app.settings_table import SettingsError
from app.supervisor import one_per_home, one_per_port, sockets_folder
from tests.ports import free_port
from tests.server import NO_TLS, Server

ROOT = Path(__file__).parents[1]
SMALL = {"MODELYARD_WORKERS": "0", "MODELYARD_SERVICES": "access"}
HOLDER = """
import sys, time
from app.supervisor import one_per_port
with one_per_port("127.0.0.1", int(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def held_port(port):
    """A process that has the port's lock, and where nobody listens yet."""
    command = [sys.executable, "-c", HOLDER, str(port)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_port_is_taken_before_anybody_listens():
    """Two servers started at once both looked, saw nobody listen, and shared the port."""
    port = free_port()
    with held_port(port) as holder:
        with pytest.raises(SettingsError, match=f":{port}: another modelyard server"):
            one_per_port("127.0.0.1", port).__enter__()
        holder.kill()


def test_a_killed_server_leaves_its_port_free():
    port = free_port()
    with held_port(port) as holder:
        holder.kill()
    with one_per_port("127.0.0.1", port):
        pass


def test_a_port_where_another_program_listens_is_refused():
    port = free_port()
    taken = pytest.raises(SettingsError, match="Address already in use")
    with socket.create_server(("127.0.0.1", port)), taken:
        one_per_port("127.0.0.1", port).__enter__()
    with one_per_port("127.0.0.1", port):
        pass


def test_a_home_has_one_server(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path)
    with one_per_home(settings), pytest.raises(SettingsError, match="Another server runs in"):
        one_per_home(settings).__enter__()
    with one_per_home(settings):
        pass


def test_a_killed_servers_folder_of_sockets_goes_with_the_next_start(tmp_path):
    """Each supervisor that was killed left a folder among the temporary files for ever."""
    settings = Settings.from_environment({}, home=tmp_path)
    settings.instance.mkdir()
    killed = sockets_folder(settings)
    left = killed.__enter__()
    (left / "scorer").touch()
    with sockets_folder(settings) as folder:
        assert not left.exists()
        assert folder.is_dir()


def test_only_a_folder_of_sockets_is_removed(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path)
    kept = settings.instance / "kept"
    kept.mkdir(parents=True)
    (settings.instance / "sockets").write_text(str(kept))
    with sockets_folder(settings):
        assert kept.is_dir()


def serve(home, port, **environment):
    """``modelyard serve`` until it ends or answers; its process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    home.mkdir(exist_ok=True)
    with (home / f"{port}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--home", str(home), "--port", str(port)],
            env={**kept, **SMALL, **environment},
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def first_to_end(processes, seconds=90):
    """The first of some processes that ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for process in processes:
            if process.poll() is not None:
                return process
        time.sleep(0.05)
    raise AssertionError("none of them ended")


def answers(port, seconds=120):
    """Whether a server gets ready on a port."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz", verify=NO_TLS).status_code == 200:
                return True
        time.sleep(0.1)
    return False


class Unlucky(Role):
    """A role for which there is no process at first."""

    tries = 0

    def spawn(self, environment):
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return subprocess.Popen([sys.executable, "-c", ""], env=dict(environment))


def test_a_role_that_finds_no_process_is_tried_again():
    """The supervisor ended, and with it all others, when the system had no process left."""
    role = Unlucky("scorer")
    role.look_after({})
    assert not role.lives()
    until = time.monotonic() + 60
    while role.process is None and time.monotonic() < until:
        role.look_after({})
        time.sleep(0.01)
    assert role.tries == 2
    assert role.process.wait(60) == 0


def test_figures_that_can_not_be_written_are_written_later(tmp_path):
    """The supervisor ended when there was no room for a file of fifty bytes."""
    folder = tmp_path / "sockets"
    announcer = Announcer(folder)
    announcer.tell(Told(2, 1, stopping=False))
    assert told(tmp_path) is None
    folder.mkdir()
    announcer.tell(Told(2, 1, stopping=False))
    assert told(folder) == (2, 1, False)


@pytest.mark.slow
def test_of_two_servers_started_at_once_on_a_port_one_serves_and_one_says_why_not(tmp_path):
    port = free_port()
    homes = [tmp_path / "a", tmp_path / "b"]
    servers = [serve(home, port) for home in homes]
    try:
        loser = first_to_end(servers)
        assert loser.returncode == 1
        told = (homes[servers.index(loser)] / f"{port}.log").read_text()
        assert told.startswith(f"Error: Can't listen on 127.0.0.1:{port}:")
        assert "Traceback" not in told
        servers.remove(loser)
        assert answers(port)
        assert servers[0].poll() is None
    finally:
        for process in servers:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


@pytest.mark.slow
def test_a_second_server_of_a_home_is_refused_and_the_first_goes_on(tmp_path):
    with Server(tmp_path, SMALL) as first:
        second = serve(tmp_path, port := free_port())
        assert second.wait(90) == 1
        assert "Another server runs in" in (tmp_path / f"{port}.log").read_text()
        assert httpx.get(f"{first.url}/readyz", verify=NO_TLS).status_code == 200


@pytest.mark.slow
def test_a_server_that_can_not_start_ends_and_says_why(tmp_path):
    server = serve(tmp_path, free_port(), MODELYARD_STORE_URL="ftp://x")
    assert server.wait(90) == 1
    (log,) = tmp_path.glob("*.log")
    lines = log.read_text().splitlines()
    assert lines[0].startswith("Error: MODELYARD_STORE_URL: 'ftp://x' is no store")
    assert lines[1:] == ["Error: The server can't start; see above"]
