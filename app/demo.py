"""The demo: a table in, a model, a prediction, read back, over HTTP as any client would do it.

In this order: a server is started on the home of the settings, as a process of its own; the
penguins table is uploaded, a training run asked for and followed, a prediction made and read back;
the server is stopped. Every call is printed as a ``curl`` line that can be repeated while a server
runs on the same home, with its answer. The admin key lies in ``instance/demo.key`` (0600) and is
used again by the next demo. A second demo finds the dataset and adds a version to it.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import click
import httpx

from app.config import Settings
from app.demo_calls import Call, Caller, DemoFailed, ProgressBar
from app.kernel.auth import new_key

READY_SECONDS = 180.0
RUN_SECONDS = 900.0
STOP_SECONDS = 15.0
SERVE = (sys.executable, "-m", "app", "serve")
POLL_SECONDS = 0.3
ENDED = {"succeeded", "failed", "cancelled"}
PENGUIN = {
    "island": "Biscoe",
    "bill_length_mm": 48.4,
    "bill_depth_mm": 14.6,
    "flipper_length_mm": 213,
    "body_mass_g": 5850,
    "sex": "male",
    "year": 2007,
}


def run_demo(settings: Settings, serve: Sequence[str] = SERVE) -> int:
    """Run the whole demo and tell it on the terminal; the answer is the process's exit status.

    ``serve`` is the command that starts a server; host, port and home are added to it.
    """
    started = time.monotonic()
    before = signal.signal(signal.SIGTERM, _on_termination)
    try:
        settings.instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = settings.admin_key or demo_key(settings.instance / "demo.key")
        port = free_port(settings.host, settings.port)
        base_url = f"http://{settings.host}:{port}"
        with (
            server(settings, serve, port, key),
            httpx.Client(
                base_url=base_url,
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
                trust_env=False,
            ) as client,
        ):
            main_job(Caller(client), _key_line(settings))
        _farewell(settings, port, time.monotonic() - started)
    except DemoFailed as failure:
        click.secho(f"\nThe demo failed: {failure}", fg="red", err=True)
        click.echo(f"What the server said: {_from_here(_log_of(settings))}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("\nStopped.", err=True)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def main_job(caller: Caller, key_line: str) -> None:
    """Upload, train, predict, read back. Raises DemoFailed where an answer isn't what it must be.

    ``key_line`` is the shell line that sets the key which the printed calls use.
    """
    click.echo("Each call below is what the demo sends. To repeat one while a server runs:")
    click.secho(f"\n  {key_line}", fg="cyan")
    create, train, predict = main_calls(_from_here(penguins()))
    _upload(caller, create)
    run = _train(caller, train)
    caller.title(f"3. Predict with version {run['model_version']} of the model")
    prediction = caller.ask(predict, 201).json()
    caller.title("4. Read the stored prediction back")
    stored = caller.ask(Call("GET", f"/api/v1/predictions/{prediction['id']}"), 200).json()
    if stored["outputs"] != prediction["outputs"]:
        raise DemoFailed("the stored prediction differs from the answer that was given")


def main_calls(table: str) -> tuple[Call, Call, Call]:
    """The three calls that make something: the dataset, the model, a prediction."""
    return (
        Call("POST", "/api/v1/datasets", form={"name": "penguins"}, file=table),
        Call(
            "POST",
            "/api/v1/training-runs",
            json={"model": "penguins", "dataset": "penguins", "target": "species"},
        ),
        Call("POST", "/api/v1/predictions", json={"model": "penguins", "inputs": [PENGUIN]}),
    )


def _upload(caller: Caller, create: Call) -> None:
    caller.title("1. Upload the penguins: 344 rows, 8 columns")
    if caller.ask(create, 201, 409).status_code == 201:
        click.echo(
            "\n  (A name is given once: repeated, this answers 409. More data is a new version.)"
        )
        return
    caller.title("   The dataset is there already: the file becomes its next version")
    caller.ask(Call("POST", "/api/v1/datasets/penguins/versions", file=create.file), 201)


def _train(caller: Caller, train: Call) -> dict[str, Any]:
    """The run, once it has succeeded."""
    caller.title("2. Train a model that tells the species")
    run = caller.ask(train, 202).json()
    caller.title("   Follow the run until it ends")
    follow = Call("GET", f"/api/v1/training-runs/{run['id']}")
    caller.show_call(follow)
    started = time.monotonic()
    answer = _followed(caller, follow)
    caller.show_answer(answer, time.monotonic() - started)
    run = answer.json()
    if run["state"] != "succeeded":
        raise DemoFailed(f"the run ended {run['state']}: {run.get('error')}")
    return dict(run)


def _followed(caller: Caller, follow: Call) -> httpx.Response:
    """The answer that tells the end of the run; its progress is drawn meanwhile."""
    bar = ProgressBar()
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        answer = caller.send(follow, 200)
        bar.show(answer.json())
        if answer.json()["state"] in ENDED:
            bar.close()
            return answer
        time.sleep(POLL_SECONDS)
    raise DemoFailed(f"the run hasn't ended after {RUN_SECONDS:.0f} s")


@contextmanager
def server(settings: Settings, serve: Sequence[str], port: int, key: str) -> Iterator[None]:
    """A server process on the settings' home, ready when the block begins, stopped after it.

    What it prints goes to ``instance/demo-server.log``. Raises DemoFailed with the end of that log
    when the server ends, or isn't ready in three minutes.
    """
    log = _log_of(settings)
    options = ["--host", settings.host, "--port", str(port), "--home", str(settings.home)]
    click.echo(f"Starting the server on http://{settings.host}:{port} ...", nl=False)
    with _private(log, os.O_TRUNC) as output:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [*serve, *options],
            env=os.environ | {"MODELYARD_ADMIN_KEY": key},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        took = _wait_until_ready(process, f"http://{settings.host}:{port}/readyz", log)
        click.echo(f" ready after {took:.1f} s\n")
        yield
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> float:
    started = time.monotonic()
    with httpx.Client(timeout=2, trust_env=False) as client:
        while (waited := time.monotonic() - started) < READY_SECONDS:
            if process.poll() is not None:
                raise DemoFailed(f"the server ended with {process.returncode}:\n{_end_of(log)}")
            try:
                if client.get(url).status_code == 200:
                    return waited
            except httpx.TransportError:
                pass  # it doesn't listen yet
            time.sleep(0.1)
    raise DemoFailed(f"the server isn't ready after {READY_SECONDS:.0f} s:\n{_end_of(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def demo_key(path: Path) -> str:
    """The demo's admin key: made once per home, readable by its owner only."""
    if not path.exists():
        with _private(path, os.O_EXCL) as file:
            file.write(new_key().encode())
    return path.read_text().strip()


def free_port(host: str, wanted: int) -> int:
    """The wanted port, or any free one when something else listens there."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed(f"no port is free on {host}")


def penguins() -> Path:
    """The penguins table: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).with_name("examples")
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "examples"
    return folder / "penguins.csv"


def _farewell(settings: Settings, port: int, took: float) -> None:
    click.secho(f"\nDone: from start to stored prediction and back in {took:.1f} s.", bold=True)
    serve = "make serve"
    if not Path("Makefile").exists():
        serve = "modelyard serve"
        if not settings.admin_key:
            serve = f"MODELYARD_ADMIN_KEY=$(cat {_key_file(settings)}) {serve}"
    if port != 8080:
        serve = f"MODELYARD_PORT={port} {serve}"
    click.echo("The server is stopped; what it stored stays. To keep one running:\n")
    click.secho(f"  {serve}", fg="cyan")
    click.echo(f"\nIts documentation is then at http://{settings.host}:{port}/docs")


def _key_line(settings: Settings) -> str:
    if settings.admin_key:
        return 'export MODELYARD_KEY="$MODELYARD_ADMIN_KEY"'
    return f"export MODELYARD_KEY=$(cat {_key_file(settings)})"


def _key_file(settings: Settings) -> str:
    return shlex.quote(_from_here(settings.instance / "demo.key"))


def _from_here(path: Path) -> str:
    """The path as a person in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _private(path: Path, flags: int) -> IO[bytes]:
    """Open a file of our own for writing, readable by its owner only."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "wb")


def _log_of(settings: Settings) -> Path:
    return settings.instance / "demo-server.log"


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _on_termination(*_: object) -> NoReturn:
    raise SystemExit(143)
