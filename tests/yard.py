"""A whole installation in a temporary folder, for tests: settings, wiring, app, keys, clients."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from app.config import Settings
from app.factory import create_app
from app.kernel.auth import Call
from app.kernel.migrations import configuration, revision_of, upgrade
from app.kernel.sql import Database
from app.wiring import Wiring


def _builder(rule: Rule, append_unknown: bool = True) -> Any:
    if rule.defaults:
        return _COMPILE_BUILDER(rule, append_unknown)
    key = (tuple(rule._trace), append_unknown)
    if key not in _BUILDERS:
        _BUILDERS[key] = _COMPILE_BUILDER(rule, append_unknown)
    return _BUILDERS[key]


# Each app compiles anew how its URLs are built: half of what it takes to make an installation.
_COMPILE_BUILDER, _BUILDERS = Rule._compile_builder, dict[Any, Any]()
Rule._compile_builder = _builder  # type: ignore[method-assign]


@cache
def _newest(history: str) -> str | None:
    return ScriptDirectory.from_config(configuration(history)).get_current_head()


@cache
def _migrated(histories: tuple[str, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database(f"sqlite:///{folder / 'empty.db'}")
    for history in histories:
        upgrade(database, history)
    database.close()
    return folder / "empty.db"


class Yard:
    """The app of all services (or those named) over fresh databases."""

    def __init__(
        self,
        home: Path,
        *,
        database_url: str = "",
        own_urls: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        environment = {
            "MODELYARD_HOME": str(home),
            "MODELYARD_DATABASE_URL": database_url,
            "MODELYARD_LOG_LEVEL": "error",
        }
        for service, url in (own_urls or {}).items():
            environment[f"MODELYARD_{service.upper()}_DATABASE_URL"] = url
        self.settings = Settings.from_environment(environment, **settings)
        self.wiring = Wiring(self.settings)
        self._migrate()
        self.admin_key = self.wiring.access.ensure_admin() or ""
        self.app: Flask = create_app(self.settings, self.wiring)

    def _migrate(self) -> None:
        histories: dict[Database, list[str]] = {}
        for service in self.settings.services:
            found = histories.setdefault(self.wiring.database(service), ["kernel"])
            found.append(service)
        for database, names in histories.items():
            if database.dialect != "sqlite":
                for name in names:
                    if revision_of(database, name) != _newest(name):
                        upgrade(database, name)
                continue
            # Migrated once a process: the same empty file serves every test.
            path = Path(str(database.url.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_migrated(tuple(names)), path)

    def client(self, key: str | None = None) -> FlaskClient:
        """A client that sends a key (the admin's by default, ``""`` for none) with each request."""
        client = self.app.test_client()
        token = self.admin_key if key is None else key
        if token:
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    def key(self, *, project: str = "default", role: str | None = None, scopes: Any = ()) -> str:
        """A new key; makes its project where that is missing."""
        admin = self.client()
        if project != "default":
            admin.post("/api/v1/projects", json={"name": project})
        body = {"name": "test", "scopes": list(scopes), "role": role, "project": project}
        answer = admin.post("/api/v1/keys", json={k: v for k, v in body.items() if v is not None})
        assert answer.status_code == 201, answer.text
        return str(answer.json["secret"])

    def call(self, *, project: str = "default", scopes: Any = ()) -> Call:
        """A call as a service method takes it."""
        return Call(project, "testtest", frozenset(scopes), "test-request")

    def close(self) -> None:
        """Give all connections back."""
        self.wiring.close()
