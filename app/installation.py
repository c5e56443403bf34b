"""The doctor's look at services that live apart: each is asked, and what must agree is compared.

Needed are the secret, each service's URL and, to see whether all share one, the artifact store.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from secrets import token_urlsafe
from typing import Annotated, Final

import httpx
import msgspec

from app.config import Settings
from app.examination import EXAMINE, Finding, probed
from app.kernel.artifacts.store import open_store
from app.kernel.auth import make_peer_token
from app.kernel.errors import ServiceError
from app.kernel.log.nats_monitor import waits_for_the_disk
from app.kernel.peers import PREFIX
from app.kernel.signing import KeyRing
from app.kernel.sql import utc_now
from app.secret import key_ring
from app.settings_table import SERVICES

_SECONDS: Final = 15.0
_CLOCK_SECONDS: Final = 5.0
"""Tokens between services live for a minute: clocks that differ by that much part services."""
_TOKEN_SECONDS: Final = 7 * 24 * 3600.0
"""Longer than services give theirs: a clock that is wrong must be seen, not shut the doctor out."""
_CALLER: Final = "doctor"
_ROUTE: Final = f"{PREFIX}/examination"
_BRIEF: Final = {"depth": "brief"}
_NO_ANSWER: Final = (httpx.HTTPError, msgspec.MsgspecError, ValueError)
"""What is raised where something else than a server of ours answers, or none to the end."""


class _Readiness(msgspec.Struct):
    checks: dict[str, str]


class _Problem(msgspec.Struct):
    detail: str = ""


class _Examination(msgspec.Struct):
    version: str
    services: tuple[str, ...]
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Told:
    """What one server told of itself, and how far its clock is from ours, in seconds."""

    name: str
    version: str
    services: tuple[str, ...]
    ahead: float
    findings: tuple[Finding, ...]


def examine_installation(settings: Settings) -> Iterator[Finding]:
    """Look at every service that has a URL; each finding as it is made."""
    missing = [name for name in SERVICES if name not in settings.peer_urls]
    if len(missing) == len(SERVICES):
        yield Finding("bad", "no service has a URL here", "set MODELYARD_ACCESS_URL and the others")
        return
    if missing:
        variables = ", ".join(f"MODELYARD_{name.upper()}_URL" for name in missing)
        yield Finding("note", f"not looked at: {', '.join(missing)}", f"set {variables}")
    if not settings.secret and not (settings.instance / "secret").exists():
        yield Finding("bad", "secret: there is none here", "set MODELYARD_SECRET to that of all")
        return
    ring = key_ring(settings)
    with ExitStack() as held:
        client = held.enter_context(httpx.Client(timeout=_SECONDS))
        probe, findings = _probe(settings, held)
        yield from findings
        found = []
        for url, names in _servers(settings).items():
            told = yield from _examine(client, url, names, ring, probe)
            found += [told] if told else []
    yield from _versions(found)


def _servers(settings: Settings) -> dict[str, list[str]]:
    """Each address with the services that should be there."""
    found: dict[str, list[str]] = {}
    for name in SERVICES:
        for url in settings.peer_urls.get(name, ()):
            found.setdefault(url, []).append(name)
    return found


def _probe(settings: Settings, held: ExitStack) -> tuple[str | None, list[Finding]]:
    """The name of something that every service should find in the store."""
    if not settings.store_url:
        advice = "set MODELYARD_STORE_URL to that of all"
        return None, [Finding("note", "whether all share one artifact store isn't seen", advice)]
    try:
        return held.enter_context(probed(open_store(settings.store()))), []
    except (ServiceError, ValueError, OSError) as error:
        return None, [Finding("bad", f"artifact store: {error}", "mend MODELYARD_STORE_URL")]


def _examine(
    client: httpx.Client, url: str, names: list[str], ring: KeyRing, probe: str | None
) -> Generator[Finding, None, Told | None]:
    """Yields findings of one server; returns what it told."""
    whose = ", ".join(names)
    variables = ", ".join(f"MODELYARD_{name.upper()}_URL" for name in names)
    away = _away(client, url, whose, variables)
    if away is not None:
        yield away
        return None
    yield _ready(client, url, whose)
    try:
        yield from _lets_in(partial(_ask, client, url, params=_BRIEF), ring, whose)
        started = utc_now()
        answer = _ask(client, url, ring, EXAMINE, {"probe": probe} if probe else {})
        refused = _refused(answer, whose, variables)
        if refused is not None:
            yield refused
            return None
        told = _read(answer.content, whose, started, utc_now())
    except _NO_ANSWER as error:
        text = f"{whose}: {url} doesn't answer as a server of ours does: {type(error).__name__}"
        yield Finding("bad", text, f"look at its log, or mend {variables}")
        return None
    absent = [name for name in names if name not in told.services]
    for name in absent:
        text = f"{name}: at {url} is a server of {', '.join(told.services)}"
        yield Finding("bad", text, f"mend MODELYARD_{name.upper()}_URL")
    if absent == names:
        return None
    yield _clock(told)
    yield from told.findings
    return told


def _away(client: httpx.Client, url: str, whose: str, variables: str) -> Finding | None:
    try:
        answer = client.get(f"{url}/livez")
    except httpx.HTTPError as error:
        text = f"{whose}: {url} can't be reached: {type(error).__name__}"
        return Finding("bad", text, f"start it, or mend {variables}")
    if answer.status_code == 200:
        return None
    text = f"{whose}: {url}/livez answers {answer.status_code}"
    return Finding("bad", text, f"let MODELYARD_HOSTS there name its host, or mend {variables}")


def _ready(client: httpx.Client, url: str, whose: str) -> Finding:
    try:
        answer = client.get(f"{url}/readyz")
        checks = msgspec.json.decode(answer.content, type=_Readiness).checks
    except _NO_ANSWER as error:
        return Finding("bad", f"{whose}: /readyz: {type(error).__name__}", "look at its log")
    wrong = [f"{name}: {word}" for name, word in checks.items() if word != "ok"]
    if answer.status_code == 200 and not wrong:
        return Finding("ok", f"{whose}: alive and ready at {url}")
    return Finding("bad", f"{whose}: not ready: {'; '.join(wrong)}", "look at its log")


def _ask(
    client: httpx.Client, url: str, ring: KeyRing, scope: str, params: Mapping[str, str]
) -> httpx.Response:
    token = make_peer_token(
        ring,
        service=_CALLER,
        project="default",
        scopes=frozenset({scope}),
        lifetime=_TOKEN_SECONDS,
    )
    headers = {"Authorization": f"Bearer {token}"}
    return client.get(f"{url}{_ROUTE}", headers=headers, params=params)


def _lets_in(
    ask: Callable[[KeyRing, str], httpx.Response], ring: KeyRing, whose: str
) -> Iterator[Finding]:
    """A token of another scope must not be enough, nor one that nobody of ours has signed."""
    wider = {
        "a token that lacks the scope": (ring, "events:read"),
        "a token of another secret": (KeyRing.from_text(token_urlsafe(48)), EXAMINE),
    }
    for what, (signer, scope) in wider.items():
        if ask(signer, scope).status_code < 400:
            text = f"{whose}: lets in {what}"
            yield Finding("bad", text, "it isn't as it was made: install it anew")


def _refused(answer: httpx.Response, whose: str, variables: str) -> Finding | None:
    """What it means that a server doesn't tell of itself."""
    if answer.status_code == 200:
        return None
    detail = ""
    with suppress(*_NO_ANSWER):
        detail = msgspec.json.decode(answer.content, type=_Problem).detail
    if answer.status_code == 401:
        if "too old" in detail:
            return Finding(
                "bad", f"{whose}: its clock is far ahead of ours", "set both clocks by NTP"
            )
        text = f"{whose}: it has another secret than there is here"
        return Finding("bad", text, "give all services the same MODELYARD_SECRET")
    if answer.status_code == 404:
        text = f"{whose}: it can't tell how it is: it is of an older version, or something else"
        return Finding("bad", text, f"upgrade it, or mend {variables}")
    return Finding("bad", f"{whose}: answers {answer.status_code}: {detail}", "look at its log")


def _read(content: bytes, whose: str, started: datetime, ended: datetime) -> Told:
    told = msgspec.json.decode(content, type=_Examination)
    # It looked at its clock somewhere between.
    late, early = (told.time - ended).total_seconds(), (started - told.time).total_seconds()
    return Told(
        whose,
        told.version,
        told.services,
        max(0.0, late) - max(0.0, early),
        tuple(finding.of(whose) for finding in told.findings),
    )


def _clock(told: Told) -> Finding:
    if abs(told.ahead) <= _CLOCK_SECONDS:
        return Finding("ok", f"{told.name}: its clock agrees with ours")
    way = "ahead of" if told.ahead > 0 else "behind"
    text = f"{told.name}: its clock is {abs(told.ahead):.0f} s {way} ours"
    return Finding("bad", text, "set both clocks by NTP")


def _versions(found: list[Told]) -> Iterator[Finding]:
    """One version everywhere; next to one another while an upgrade is under way."""
    by_version: dict[str, list[str]] = {}
    for told in found:
        by_version.setdefault(told.version, []).append(told.name)
    if len(by_version) == 1:
        yield Finding("ok", f"all are of version {next(iter(by_version))}")
    if len(by_version) < 2:
        return
    text = "; ".join(f"{version}: {', '.join(names)}" for version, names in by_version.items())
    if _are_neighbours(list(by_version)):
        yield Finding("note", f"several versions: {text}", "finish the upgrade")
    else:
        yield Finding(
            "bad", f"versions too far apart: {text}", "upgrade one minor version at a time"
        )


def _are_neighbours(versions: list[str]) -> bool:
    """Whether all are of one major version, and of minor ones that follow one another."""
    try:
        numbers = [tuple(map(int, version.split(".")[:2])) for version in versions]
    except ValueError:
        return False
    minors = [number[-1] for number in numbers]
    return len({number[0] for number in numbers}) == 1 and max(minors) - min(minors) <= 1


def examine_monitors(monitors: Sequence[str]) -> Iterator[Finding]:
    """Whether NATS servers, by their monitoring addresses, say only what has reached the disk."""
    for monitor in monitors:
        try:
            waits = waits_for_the_disk(monitor)
        except ServiceError as error:
            yield Finding("bad", f"NATS: {error.detail}", "mend --nats-monitor, or start it")
            continue
        if waits:
            yield Finding("ok", f"NATS at {monitor} waits for the disk")
        else:
            text = f"NATS at {monitor} doesn't wait for the disk: a power cut loses records"
            yield Finding("note", text, "set `sync_interval: always` in its `jetstream`")
