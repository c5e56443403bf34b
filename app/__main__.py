"""``modelyard``: the command line.

Heavy imports wait inside the commands: the supervisor lives as long as the server does and needs
none of them.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app import supervisor
from app.config import Settings
from app.kernel.backup_file import BackupError
from app.kernel.errors import ServiceError
from app.kernel.leash import die_with
from app.kernel.loading import loading
from app.kernel.logs import configure_logs
from app.kernel.tracing import tracer
from app.kernel.tracing.tracer import CannotTrace
from app.setting_values import WorkerRange, worker_range
from app.settings_table import SettingsError

if TYPE_CHECKING:
    from app.examination import Finding


class Workers(click.ParamType[WorkerRange]):
    """So many, or as many as the queue asks for within bounds."""

    name = "N|MIN..MAX"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> WorkerRange:
        """Read a number or a range."""
        try:
            bounds = value if isinstance(value, WorkerRange) else worker_range(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if bounds.most < self._least:
            self.fail(f"say at least {self._least}", param, ctx)
        return bounds


def _home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option("--home", type=kind, help="Holds all that the server writes.")(command)


def _supervise(settings: Settings, roles: list[str], **others: Any) -> None:
    configure_logs(settings.log_level, as_json=settings.log_json, role="supervisor")
    tracer.receiver()
    sys.exit(supervisor.Supervisor(settings, roles, **others).run())


class Commands(click.Group):
    """Commands whose foreseeable failures end with one line and the status 1."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(context)
        except (SettingsError, BackupError, CannotTrace) as error:
            raise click.ClickException(str(error)) from error
        except ServiceError as error:
            raise click.ClickException(error.detail) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


@click.group(cls=Commands)
def main() -> None:
    """Modelyard: send a table, ask for a model, get predictions."""


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@_home_option
@click.option("--services", help="Services to serve, comma-separated.")
@click.option("--workers", type=Workers(), help="Worker processes: fixed, or as the queue asks.")
@click.option("--processors", type=click.IntRange(0, 64), help="Processor processes.")
def serve(**given: Any) -> None:
    """Serve everything: the API, its neighbours, the workers and the processors."""
    settings = Settings.from_environment(**given)
    processors = supervisor.processor_roles(settings)
    _supervise(settings, supervisor.api_roles(settings), workers=True, processors=processors)


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@_home_option
@click.option("--services", help="Services to serve, comma-separated.")
def api(**given: Any) -> None:
    """Serve the API with its neighbours, without workers and processors."""
    settings = Settings.from_environment(**given)
    _supervise(settings, supervisor.api_roles(settings))


@main.command()
@_home_option
@click.option(
    "--workers", type=Workers(least=1), help="Worker processes: fixed, or as the queue asks."
)
def worker(**given: Any) -> None:
    """Run workers only."""
    settings = Settings.from_environment(**given)
    if settings.workers.most == 0:
        raise SettingsError("MODELYARD_WORKERS: say at least 1")
    _supervise(settings, supervisor.worker_roles(settings), workers=True)


@main.command()
@_home_option
@click.option("--processors", type=click.IntRange(1, 64), help="Processor processes.")
def processor(**given: Any) -> None:
    """Run processors of topics only."""
    settings = Settings.from_environment(**given)
    processors = supervisor.processor_roles(settings)
    if not processors:
        raise SettingsError("Serve `streams`, and say at least 1 in MODELYARD_PROCESSORS")
    neighbours = supervisor.neighbours(settings)
    _supervise(settings, neighbours, processors=processors)


@main.command(hidden=True)
@click.argument("name")
def role(name: str) -> None:
    """Run one role in this process; the supervisor calls it."""
    parent = os.environ.get(supervisor.PARENT_VARIABLE)
    if parent is not None:
        # Before the imports, which take seconds in which the supervisor may die.
        die_with(int(parent))
    if name == "scorer":
        # It forks: no library may start threads when it is imported.
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ[f"{library}_NUM_THREADS"] = "1"
    settings = Settings.from_environment()
    configure_logs(settings.log_level, as_json=settings.log_json, role=name)
    with loading():
        run = _runner_of(name)
    run(settings)


def _runner_of(name: str) -> Callable[[Settings], None]:
    """What runs a role; each loads only what it needs."""
    if name == "api":
        from app.api_process import run_api

        return run_api
    if name in ("ingest", "scorer"):
        from app.neighbours import NEIGHBOURS

        return NEIGHBOURS[name]
    if name.partition("-")[0] == "processor":
        from app.processor_role import run_processor

        return partial(run_processor, name=name)
    from app.roles import run_role

    return partial(run_role, name)


@main.command()
@_home_option
def migrate(**given: Any) -> None:
    """Bring the databases up to date and make the first admin key."""
    from app.roles import run_role

    settings = Settings.from_environment(**given)
    configure_logs(settings.log_level, as_json=settings.log_json, role="migrate")
    run_role("migrate", settings)


@main.command()
@_home_option
def demo(**given: Any) -> None:
    """Upload the penguins, train, predict; each call is shown."""
    from app.demo import run_demo

    sys.exit(run_demo(Settings.from_environment(**given)))


@main.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: stdout.")
def openapi(output: Path | None) -> None:
    """Write the OpenAPI document."""
    from app.administration import openapi_document

    text = openapi_document()
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="Address of nginx.")
def gateway(folder: Path, listen: str) -> None:
    """Write into FOLDER a configuration for nginx: one address before services that live apart."""
    from app.gateway import write_gateway

    made = write_gateway(Settings.from_environment(), folder, listen)
    click.echo(f"nginx -c {made} -g 'daemon off;'")


@main.command()
@_home_option
@click.option("--repair", is_flag=True, help="Remove what nothing refers to.")
@click.option(
    "--remote", is_flag=True, help="Ask the services that have a URL; look at nothing here."
)
@click.option(
    "--gateway", metavar="URL", help="Where clients call: whether it leads to each service."
)
@click.option(
    "--nats-monitor",
    "monitors",
    metavar="URL",
    multiple=True,
    help="A NATS server's monitoring address: whether it waits for the disk.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell it as one JSON document.")
def doctor(
    repair: bool,
    remote: bool,
    gateway: str | None,
    monitors: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Check the settings, databases and store here, and each service that has a URL.

    Ends with 1 if something has to be done.
    """
    from app.administration import examine
    from app.gateway import examine_gateway
    from app.installation import examine_installation, examine_monitors

    settings = Settings.from_environment(**given)
    configure_logs("error", as_json=False, role="doctor")
    findings = chain(
        () if remote else examine(settings, repair=repair),
        examine_installation(settings) if settings.peer_urls or remote else (),
        examine_gateway(gateway) if gateway else (),
        examine_monitors(monitors),
    )
    sys.exit(_told(findings, as_json=as_json))


_MARKS = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "bad": ("BAD ", "red")}


def _told(findings: Iterable["Finding"], *, as_json: bool) -> int:
    """Tell each finding as it is made; the exit status."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            mark, colour = _MARKS[finding.level]
            advice = f": {finding.advice}" if finding.advice and finding.level != "ok" else ""
            click.secho(_harmless(f"{mark} {finding.text}{advice}"), fg=colour)
    well = all(finding.well for finding in found)
    if as_json:
        document = {"well": well, "findings": [asdict(finding) for finding in found]}
        click.echo(json.dumps(document, indent=2))
    return 0 if well else 1


_BACKUP_FILE = click.Path(dir_okay=False, path_type=Path)


@main.command()
@_home_option
@click.option("--without-postgres", is_flag=True, help="Leave Postgres databases to pg_dump.")
@click.argument("file", type=_BACKUP_FILE)
def backup(file: Path, without_postgres: bool, **given: Any) -> None:
    """Write databases, artifacts and secret to FILE; the server may go on."""
    from app.backup import back_up

    settings = Settings.from_environment(**given)
    configure_logs("error", as_json=False, role="backup")
    made = back_up(settings, file, without_postgres=without_postgres)
    click.echo(f"{file}: {made.databases} databases, {len(made.artifacts)} artifacts")
    _warn_of_missing(made.missing)


@main.command()
@_home_option
@click.argument("file", type=_BACKUP_FILE)
def restore(file: Path, **given: Any) -> None:
    """Put a backup into an empty home, whole or not at all."""
    from app.restore import restore as put_in_place

    settings = Settings.from_environment(**given)
    configure_logs("error", as_json=False, role="restore")
    done = put_in_place(settings, file)
    counts = done.counts
    click.echo(f"{settings.home}: {counts['databases']} databases, {counts['artifacts']} artifacts")
    _warn_of_missing(done.missing)


def _warn_of_missing(missing: Mapping[str, str]) -> None:
    for key, reason in missing.items():
        click.secho(_harmless(f"not in the backup: {key}: {reason}"), fg="yellow", err=True)


@main.group()
def keys() -> None:
    """Make, list and revoke keys, by who may read the home."""


@keys.command("create")
@_home_option
@click.option("--name", default="from the command line")
@click.option("--role", default="admin", help="viewer, predictor, trainer, maintainer, admin.")
@click.option("--project", default="default")
def create_key(name: str, role: str, project: str, **given: Any) -> None:
    """Print a new key, once."""
    from app.administration import create_key as create

    configure_logs("error", as_json=False, role="keys")
    click.echo(create(Settings.from_environment(**given), name=name, role=role, project=project))


@keys.command("list")
@_home_option
@click.option("--project", default="default")
def list_keys(project: str, **given: Any) -> None:
    """List the keys of a project, without their secrets."""
    from app.administration import list_keys as listed

    configure_logs("error", as_json=False, role="keys")
    for line in listed(Settings.from_environment(**given), project=project):
        click.echo(_harmless(line))


@keys.command("revoke")
@_home_option
@click.option("--project", default="default")
@click.argument("key_id")
def revoke_key(key_id: str, project: str, **given: Any) -> None:
    """End a key's life."""
    from app.administration import revoke_key as revoke

    configure_logs("error", as_json=False, role="keys")
    revoke(Settings.from_environment(**given), key_id=key_id, project=project)


def _harmless(line: str) -> str:
    """A line for a terminal, without what would move its cursor: clients choose names."""
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


if __name__ == "__main__":
    main()
