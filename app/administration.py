"""What the command line does besides serving: keys, the spec, and the doctor's examination."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

import click

from app.access.service import ROLES, SCOPES, Access
from app.config import Settings
from app.examination import Finding, parts
from app.factory import create_app
from app.kernel.auth import Call
from app.kernel.errors import ServiceError
from app.kernel.findings import Collector
from app.kernel.http.pages import spec_as_yaml
from app.kernel.migrations import is_current
from app.wiring import Wiring

_LONGEST_NAME = 100
_MIGRATE = "run `modelyard migrate`, or `modelyard serve`, first"
_ALL_KEYS = {"page_size": 500, "page_token": None, "order_by": "-created_at"}


def _call(project: str) -> Call:
    return Call(project, "command", frozenset(SCOPES), "command-line", address="local")


def create_key(settings: Settings, *, name: str, role: str, project: str) -> str:
    """A new key's text. Raises ClickException for what the service refuses."""
    if role not in ROLES:
        raise click.ClickException(f"No such role: {role}; there are {', '.join(ROLES)}")
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise click.ClickException(f"A name has 1 to {_LONGEST_NAME} characters")
    with _accessed(settings, project) as access:
        made = access.create_key(
            _call(project), name=name, scopes=ROLES[role], project=project, expires_at=None
        )
    return made.secret or ""


def list_keys(settings: Settings, *, project: str) -> Iterator[str]:
    """A line for each key. Raises ClickException for what the service refuses."""
    with _accessed(settings, project) as access:
        for key in access.list_keys(_call(project), _ALL_KEYS).items:
            state = "revoked" if key.revoked_at else "live"
            yield f"{key.key_id}  {state:8} {key.created_at:%Y-%m-%d %H:%M}  {key.name}"


def revoke_key(settings: Settings, *, key_id: str, project: str) -> None:
    """End a key's life. Raises ClickException for what the service refuses."""
    with _accessed(settings, project) as access:
        access.revoke_key(_call(project), key_id)


@contextmanager
def _accessed(settings: Settings, project: str) -> Iterator[Access]:
    """The keys of a project that exists, in a home that has been migrated."""
    with closing(Wiring(settings)) as wiring:
        database = wiring.database("access")
        try:
            migrated = all(is_current(database, history) for history in ("kernel", "access"))
            if not migrated:
                raise click.ClickException(f"There are no keys yet in {settings.home}: {_MIGRATE}")
            wiring.access.get_project(project)
            yield wiring.access
        except ServiceError as error:
            raise click.ClickException(error.detail) from error


def openapi_document() -> str:
    """The OpenAPI document of all services, as YAML; the same on every machine."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"MODELYARD_HOME": home})
        with closing(Wiring(settings)) as wiring:
            return spec_as_yaml(create_app(settings, wiring))


def examine(settings: Settings, *, repair: bool) -> Iterator[Finding]:
    """Look at everything of an installation; each finding as it is made."""
    yield Finding("ok", f"home {settings.home}")
    with closing(Wiring(settings)) as wiring:
        found = [*parts(wiring, deep=True)]
        yield from found
        if all(finding.well for finding in found):
            with wiring.disk_reserve.lent() if repair else nullcontext():
                yield from _agreement(wiring, repair=repair)


def _agreement(wiring: Wiring, *, repair: bool) -> Iterator[Finding]:
    """Whether store and databases agree, both ways."""
    if "datasets" in wiring.settings.services:
        orphans = list(wiring.datasets.leftovers.orphans())
        if repair:
            wiring.datasets.leftovers.sweep()
        done = "removed" if repair else "nothing refers to it"
        yield from (_mended(repair, f"{key}: {done}") for key in orphans)
        for fault in wiring.datasets.leftovers.faults():
            yield _mended(False, f"{fault.subject}: {fault.code}: {fault.detail}")
    served = wiring.settings.services
    collectors: dict[str, Callable[[], Collector]] = {
        "models": lambda: wiring.models.collector,
        "predictions": lambda: wiring.batches.contents,
    }
    for collector in (collectors[name]() for name in collectors if name in served):
        for found in collector.run(deep=True) if repair else collector.plan(deep=True):
            yield _mended(found.mended, f"{found.subject}: {found.code}: {found.detail}")
    yield Finding("ok", "store and databases have been compared")


def _mended(well: bool, text: str) -> Finding:
    return Finding("ok", text) if well else Finding("bad", text, "see docs/how-to/damage.md")
