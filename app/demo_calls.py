"""What the demo says over HTTP, and how it shows that: one ``Call`` is a request and a curl line.

Both are made from the same fields, so the line that is printed is the request that was sent.
"""

import json
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

WIDTH = 96
BAR = 30
PATIENCE_SECONDS = 30.0
LATER = {429, 503}
_DEPTH, _ITEMS, _KEYS, _TOP_KEYS, _TEXT = 2, 2, 8, 40, 70


class DemoFailed(Exception):
    """A step of the demo didn't do what the contract promises."""


@dataclass(frozen=True)
class Call:
    """One request: a JSON body, or a CSV file sent raw, or a form with the file as its part."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None

    def curl(self, base_url: str) -> str:
        """The request as a line for a shell; the key stands in $MODELYARD_KEY."""
        verb = "" if self.method == "GET" else f"-X {self.method} "
        parts = [f"curl {verb}{base_url}{self.path}", '-H "Authorization: Bearer $MODELYARD_KEY"']
        if self.json is not None:
            parts.append("-H 'Content-Type: application/json'")
            parts.append(f"-d {shlex.quote(json.dumps(self.json))}")
        elif self.form:
            fields = " ".join(f"-F {shlex.quote(f'{k}={v}')}" for k, v in self.form.items())
            parts.append(f"{fields} -F {shlex.quote(f'file=@{self.file};type=text/csv')}")
        elif self.file is not None:
            parts.append("-H 'Content-Type: text/csv'")
            parts.append(f"--data-binary @{shlex.quote(self.file)}")
        return " \\\n    ".join(parts)

    def send(self, client: httpx.Client) -> httpx.Response:
        """Send it. Raises DemoFailed when no answer comes."""
        with ExitStack() as stack:
            body: dict[str, Any] = {}
            if self.json is not None:
                body["json"] = self.json
            elif self.file is not None:
                file = stack.enter_context(Path(self.file).open("rb"))
                if self.form:
                    part = (Path(self.file).name, file, "text/csv")
                    body |= {"data": dict(self.form), "files": {"file": part}}
                else:
                    body |= {"content": file.read(), "headers": {"Content-Type": "text/csv"}}
            try:
                return client.request(self.method, self.path, **body)
            except httpx.TransportError as error:
                raise DemoFailed(f"{self.method} {self.path}: no answer ({error!r})") from error


class Caller:
    """Sends calls through one client and shows them on the terminal."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def title(self, text: str) -> None:
        """Say what comes next."""
        click.secho(f"\n{text}\n", bold=True)

    def ask(self, call: Call, *statuses: int) -> httpx.Response:
        """Show the call, send it, show its answer. Raises DemoFailed for another status."""
        self.show_call(call)
        started = time.monotonic()
        response = self._answer(call)
        self.show_answer(response, time.monotonic() - started)
        return _checked(call, response, statuses)

    def send(self, call: Call, *statuses: int) -> httpx.Response:
        """Send a call without a word. Raises DemoFailed for another status."""
        return _checked(call, self._answer(call), statuses)

    def _answer(self, call: Call) -> httpx.Response:
        """The answer; a server that says "later" is asked again when it said so, for a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            response = call.send(self._client)
            later = float(response.headers.get("Retry-After", "1"))
            if response.status_code not in LATER or time.monotonic() + later > deadline:
                return response
            time.sleep(later)

    def show_call(self, call: Call) -> None:
        """Print the call as a curl line."""
        base_url = str(self._client.base_url).rstrip("/")
        click.secho("  " + call.curl(base_url).replace("\n", "\n  "), fg="cyan")

    def show_answer(self, response: httpx.Response, took: float) -> None:
        """Print status and body, long values shortened."""
        click.echo(f"\n  HTTP {response.status_code} in {took:.2f} s")
        if location := response.headers.get("Location"):
            click.echo(f"  Location: {location}")
        try:
            text = shown(response.json())
        except ValueError:
            text = response.text[:WIDTH]
        click.echo("  " + text.replace("\n", "\n  "))


def _checked(call: Call, response: httpx.Response, statuses: tuple[int, ...]) -> httpx.Response:
    if response.status_code in statuses:
        return response
    wanted = " or ".join(map(str, statuses))
    raise DemoFailed(
        f"{call.method} {call.path} answered {response.status_code} instead of {wanted}: "
        f"{response.text[:500]}"
    )


def shown(value: Any) -> str:
    """A JSON value for a person: indented, what is small on one line, what is long shortened."""
    return _shown(_shortened(value, 0), "")


def _shortened(value: Any, depth: int) -> Any:
    """``depth`` counts the objects round the value; a list is as deep as its items."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str):
        return value if len(value) <= _TEXT else value[: _TEXT - 1] + "…"
    if isinstance(value, list):
        kept = [_shortened(item, depth) for item in value[:_ITEMS]]
        return kept if len(value) <= _ITEMS else [*kept, f"… {len(value) - _ITEMS} more"]
    if not isinstance(value, dict):
        return value
    if depth >= _DEPTH and any(isinstance(item, dict | list) for item in value.values()):
        return "{…}"
    most = _KEYS if depth else _TOP_KEYS
    members = {k: _shortened(v, depth + 1) for k, v in list(value.items())[:most]}
    return members if len(value) <= most else members | {"…": f"{len(value) - most} more"}


def _shown(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(indent) + len(line) <= WIDTH:
        return line
    inner = indent + "  "
    if isinstance(value, list):
        rows = [inner + _shown(item, inner) for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    rows = [
        f"{inner}{json.dumps(k, ensure_ascii=False)}: {_shown(v, inner)}" for k, v in value.items()
    ]
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"


class ProgressBar:
    """The progress of a run: one line that is redrawn on a terminal, else a line per change."""

    def __init__(self) -> None:
        self._redraws = sys.stdout.isatty()
        self._started = time.monotonic()
        self._last = ""

    def show(self, run: Mapping[str, Any]) -> None:
        """Draw the state of the run as its representation tells it."""
        progress = run.get("progress") or {}
        fraction = 1.0 if run["state"] == "succeeded" else float(progress.get("fraction") or 0.0)
        done = round(BAR * min(max(fraction, 0.0), 1.0))
        words = progress.get("message") or progress.get("step") or ""
        line = f"  [{'#' * done}{'.' * (BAR - done)}] {fraction:4.0%}  {run['state']}  {words}"
        line = line[:WIDTH].rstrip()
        seconds = f"  {time.monotonic() - self._started:.1f} s"
        if self._redraws:
            click.echo(f"\r\033[K{line}{seconds}", nl=False)
        elif line != self._last:
            click.echo(line + seconds)
        self._last = line

    def close(self) -> None:
        """End the line."""
        if self._redraws:
            click.echo()
