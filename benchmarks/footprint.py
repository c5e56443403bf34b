"""What an idle server takes: memory by role, the size of an installation, seconds until it's ready.

``python -m benchmarks.footprint [--no-install]``. Method: a fresh virtual environment is made from
``requirements.lock`` and its packages' size taken (``--no-install``: this interpreter's packages
are used, which may be more); a server is started with it over an empty home, and timed from then to
the first 200 of ``/readyz``; once its worker has warmed up, and nothing has changed for a while,
each process's proportional set size is read (pages shared by n processes count 1/n for each).
A first start, which makes the database and compiles Python's files, is told beside a second one.
Linux only.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
READY_SECONDS, SETTLE_SECONDS, CALM_SECONDS = 120.0, 60.0, 5.0
MEGABYTE = 1024**2


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--no-install", action="store_true", help="use this interpreter's packages")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder:
        python = Path(sys.executable)
        if not arguments.no_install:
            python = installed(Path(folder) / "venv")
            packages = next((Path(folder) / "venv/lib").glob("python*/site-packages"))
            print(f"installed packages: {size_of(packages) / MEGABYTE:.0f} MB")
        home = Path(folder) / "home"
        for which in ("first", "second"):
            with served(python, home) as (process, seconds):
                print(f"{which} start to ready: {seconds:.1f} s")
                if which == "second":
                    print_memory(process.pid)


def installed(folder: Path) -> Path:
    """The interpreter of a new environment with what a server needs, and nothing else."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r"]
    subprocess.run([*command, str(ROOT / "requirements.lock")], check=True)
    return python


def size_of(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@contextmanager
def served(python: Path, home: Path) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """A server over a home, and how many seconds it took until it was ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(python), "-m", "app", "serve", "--home", str(home), "--port", str(port)]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**inherited, "MODELYARD_LOG_LEVEL": "error"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() - started > READY_SECONDS:
                sys.exit("the server did not become ready")
            time.sleep(0.02)
        yield process, time.monotonic() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def is_ready(port: int) -> bool:
    """Whether the server says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def print_memory(supervisor: int) -> None:
    """A line for each process, once they have settled."""
    until = time.monotonic() + SETTLE_SECONDS
    before: dict[int, tuple[str, float]] = {}
    while time.monotonic() < until:
        found = {pid: (role, pss_of(pid)) for pid, role in roles_below(supervisor)}
        has_forks = any(role == "worker's forkserver" for role, _ in found.values())
        if has_forks and found.keys() == before.keys() and is_calm(found, before):
            break
        before = found
        time.sleep(CALM_SECONDS)
    for role, megabytes in found.values():
        print(f"{role:24} {megabytes:6.0f} MB")
    print(f"{'all of them':24} {sum(size for _, size in found.values()):6.0f} MB")
    core = ("API", "worker")
    some = sum(size for role, size in found.values() if role.startswith(core))
    print(f"{'API, worker, forkserver':24} {some:6.0f} MB")


def is_calm(found: dict[int, tuple[str, float]], before: dict[int, tuple[str, float]]) -> bool:
    """Whether no process has grown or shrunk by a megabyte."""
    return all(abs(found[pid][1] - before[pid][1]) < 1 for pid in found)


def roles_below(supervisor: int) -> Iterator[tuple[int, str]]:
    """The processes of a server, with what they are."""
    yield supervisor, "supervisor"
    for pid in children_of(supervisor):
        role = role_of(pid)
        yield pid, {"API": "API's starter", "scorer": "scorer's keeper"}.get(role, role)
        for child in children_of(pid):
            yield child, "worker's forkserver" if role == "worker" else role


def children_of(parent: int) -> list[int]:
    """Their numbers."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for listed in children for pid in listed.read_text().split()]


def role_of(pid: int) -> str:
    """What a child of the supervisor is."""
    name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2].decode()
    return {"api": "API"}.get(name, name.partition("-")[0])


def pss_of(pid: int) -> float:
    """Megabytes of a process, its shared pages by shares."""
    told = re.search(
        r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE
    )
    return int(told[1]) / 1024 if told else 0.0


if __name__ == "__main__":
    main()
