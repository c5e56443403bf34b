"""One address before services that live apart: a configuration for nginx, made from the URL map.

nginx does what a gateway is for, and has done so for long: it holds slow clients off, ends bodies
that stall, speaks TLS. What it can't know is which path is whose. That is written here from the
routes themselves, so that it can't differ from them. What only peers may ask isn't passed on.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from flask import Flask
from werkzeug.routing import Rule

from app.access.service import SCOPES
from app.config import Settings
from app.examination import Finding
from app.factory import create_app
from app.kernel.http.api import api_of
from app.kernel.http.pages import spec_as_yaml, spec_of
from app.kernel.peers import PREFIX
from app.settings_table import SERVICES, SettingsError
from app.wiring import Wiring

Urls = Mapping[str, Sequence[str]]
"""Where the replicas of each service are."""
_FRONT = "access"
"""The service that answers what each of them could: the pages of the documentation."""
_STREAMS = ("/events", "/stream")
_OF_ALL = (f"{PREFIX}/events", f"{PREFIX}/audit")
"""Each service has them: who answered can't be told."""
_EXAMINED_SECONDS = 10.0
_ANEW = "write nginx.conf anew with `modelyard gateway`, and reload nginx"
_HEAD = """# Made by `modelyard gateway`: which path is whose follows from the services' routes.
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes auto;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  client_body_temp_path {folder}/tmp/body;
  proxy_temp_path {folder}/tmp/proxy;
  fastcgi_temp_path {folder}/tmp/fastcgi;
  uwsgi_temp_path {folder}/tmp/uwsgi;
  scgi_temp_path {folder}/tmp/scgi;
  types {{ application/json json; application/yaml yaml; }}
  map $http_x_request_id $seen_as {{
    default $request_id;
    "~^[A-Za-z0-9._:-]{{1,128}}$" $http_x_request_id;
  }}
"""
_SERVER = """
  server {{
    listen {listen};
    root {folder};
    # The services bound what they take; what stalls is cut here.
    client_max_body_size 0;
    client_body_timeout 30s;
    client_header_timeout 15s;
    send_timeout 60s;
    absolute_redirect off;
    merge_slashes off;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_connect_timeout 2s;
    proxy_read_timeout 1h;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    error_page 502 504 = @away;
    error_page 400 404 413 414 431 494 = @none;

    location @away {{
      internal;
      default_type application/problem+json;
      add_header Retry-After 1 always;
      add_header X-Request-Id $seen_as always;
      return 503 '{away}';
    }}
    location @none {{
      internal;
      default_type application/problem+json;
      add_header X-Request-Id $seen_as always;
      return 404 '{none}';
    }}
    location = /livez {{ default_type application/json; return 200 '{{"status":"alive"}}'; }}
    location = /openapi.json {{ }}
    location = /openapi.yaml {{ }}
"""


def write_gateway(settings: Settings, folder: Path, listen: str) -> Path:
    """Write nginx.conf and the OpenAPI document of all services; the configuration's path.

    Raises SettingsError where a service has no URL.
    """
    missing = [name for name in SERVICES if name not in settings.peer_urls]
    if missing:
        names = ", ".join(f"MODELYARD_{name.upper()}_URL" for name in missing)
        raise SettingsError(f"Say where each service is: {names}")
    everything = replace(settings, services=SERVICES)
    app = create_app(everything, Wiring(everything))
    folder = folder.resolve()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "openapi.yaml").write_text(spec_as_yaml(app), encoding="utf-8")
    (folder / "openapi.json").write_text(json.dumps(spec_of(app)), encoding="utf-8")
    made = folder / "nginx.conf"
    made.write_text(configuration(app, settings.peer_urls, folder, listen), encoding="utf-8")
    return made


def configuration(app: Flask, urls: Urls, folder: Path, listen: str) -> str:
    """The text of nginx.conf: upstreams by URL, then locations by route."""
    lines = [_HEAD.format(folder=folder)]
    lines += [f"  upstream {name} {{ {_replicas(urls[name])} keepalive 32; }}" for name in SERVICES]
    lines.append(_SERVER.format(listen=listen, folder=folder, away=_AWAY, none=_NONE))
    lines += [f"    {line}" for line in _locations(app, urls)]
    return "\n".join([*lines, "  }", "}", ""])


def _problem(code: str, title: str, status: int, detail: str, *, retryable: bool) -> str:
    told: dict[str, object] = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    told |= {"retryable": retryable, "request_id": "$seen_as"}
    return json.dumps(told, separators=(",", ":"))


_AWAY = _problem(
    "unavailable", "Temporarily unavailable", 503, "The service is away", retryable=True
)
_NONE = _problem("not-found", "Not found", 404, "There is nothing here", retryable=False)


def _locations(app: Flask, urls: Urls) -> Iterator[str]:
    """Hidden routes, then routes that lie below another service's paths, then whole subtrees."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)]
    hidden = [rule for rule in rules if _is_for_peers(app, rule)]
    rules = [rule for rule in rules if rule not in hidden]
    owners = {_subtree(rule): _service(app, rule) for rule in rules if _is_root(rule)}
    exceptions, streams = [], []
    for rule in rules:
        service = _service(app, rule)
        if owners.get(_subtree(rule)) != service:
            exceptions.append((rule, service))
        elif rule.rule.endswith(_STREAMS):
            streams.append((rule, service))
    for rule in hidden:
        yield f"location ~ {_pattern(rule)} {{ return 404; }}"
    for rule, service in exceptions:
        yield f"location ~ {_pattern(rule)} {{ {_passed(service, urls)} }}"
    for rule, service in streams:
        yield f"location ~ {_pattern(rule)} {{ proxy_buffering off; {_passed(service, urls)} }}"
    for subtree, service in sorted(owners.items()):
        yield f"location {subtree} {{ {_passed(service, urls)} }}"
    for path in ("/docs", "/readyz"):
        yield f"location {path} {{ {_passed(_FRONT, urls)} }}"
    yield "location / { return 404; }"


def _subtree(rule: Rule) -> str:
    """The prefix and the first name after it."""
    return PREFIX + "/" + rule.rule.removeprefix(PREFIX + "/").split("/")[0]


def _is_root(rule: Rule) -> bool:
    return rule.rule == _subtree(rule)


def _service(app: Flask, rule: Rule) -> str:
    return app.view_functions[rule.endpoint].__module__.split(".")[1]


def _is_for_peers(app: Flask, rule: Rule) -> bool:
    """Whether no key can hold a scope that the route wants."""
    operations = api_of(app).operations
    wanted = {
        scope
        for method in rule.methods or ()
        if (rule.endpoint, method) in operations
        for scope in operations[rule.endpoint, method].scopes
    }
    return bool(wanted) and wanted.isdisjoint(SCOPES)


def _pattern(rule: Rule) -> str:
    """The rule as a regular expression of nginx: a name is whatever stands between two slashes."""
    return '"^' + re.sub(r"<[^>]+>", "[^/]+", rule.rule.replace(".", r"\.")) + '$"'


def _replicas(urls: Sequence[str]) -> str:
    """Its servers; one that has refused is passed over for a second, where there is another."""
    return " ".join(f"server {urlsplit(url).netloc} fail_timeout=1s;" for url in urls)


def _passed(service: str, urls: Urls) -> str:
    return f"proxy_pass {urlsplit(urls[service][0]).scheme}://{service};"


def examine_gateway(url: str) -> Iterator[Finding]:
    """Whether an address leads to each service by its paths, and to nothing that is for peers.

    Each path is asked for without a key: the service that has it answers 401, another one 404.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"MODELYARD_HOME": home})
        with closing(Wiring(settings)) as wiring:
            samples = list(_samples(create_app(settings, wiring)))
    with httpx.Client(base_url=url.rstrip("/"), timeout=_EXAMINED_SECONDS) as client:
        try:
            asked = [_misled(client, *sample) for sample in samples]
        except httpx.HTTPError as error:
            text = f"gateway: {url} can't be asked: {type(error).__name__}"
            yield Finding("bad", text, "start nginx, or mend --gateway")
            return
    found = [finding for finding in asked if finding is not None]
    yield from found
    if not found:
        yield Finding("ok", f"the gateway at {url} leads to each service")


def _samples(app: Flask) -> Iterator[tuple[str, str, str]]:
    """One path of each service below each name, and all that are for peers (service: empty)."""
    seen: set[tuple[str, str]] = set()
    adapter = app.url_map.bind("gateway")
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: len(rule.arguments)):
        if not rule.rule.startswith(PREFIX) or _subtree(rule) in _OF_ALL:
            continue
        service = "" if _is_for_peers(app, rule) else _service(app, rule)
        method = min((rule.methods or set()) - {"HEAD", "OPTIONS"})
        for sample in ("x", "aaaaaaaa", "1", "01a203dd-2710-7023-bd67-9d8929f69490"):
            path = re.sub(r"<[^>]+>", sample, rule.rule)
            if not adapter.test(path, method) or adapter.match(path, method)[0] != rule.endpoint:
                continue
            if not service or (service, _subtree(rule)) not in seen:
                seen.add((service, _subtree(rule)))
                yield service, method, path
            break


def _misled(client: httpx.Client, service: str, method: str, path: str) -> Finding | None:
    """What is wrong with where a path leads; None: nothing."""
    answer = client.request(method, path)
    ours = b'"instance"' in answer.content
    if not service and ours:
        text = f"gateway: {path} is for services only, and is passed on"
        return Finding("bad", text, _ANEW)
    if service and answer.status_code in (502, 503):
        return Finding(
            "bad", f"gateway: {service} is away ({path})", f"start {service}, or: {_ANEW}"
        )
    if service and answer.status_code != 401:
        text = f"gateway: {path} does not lead to {service}: {answer.status_code}"
        return Finding("bad", text, _ANEW)
    return None
