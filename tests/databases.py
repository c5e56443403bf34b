"""Databases on one Postgres: those that tests give back are emptied and used again.

To make a database and its tables takes many times as long as to empty the few tables that a test
has filled. One whose tables a test has changed is not used again.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import make_url

from app.kernel.migrations import upgrade
from app.kernel.sql import Database
from app.settings_table import SERVICES

_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_TABLES = """
SELECT relname, concat(
        (SELECT string_agg(concat_ws(' ', attname, atttypid, attnotnull), ',' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0),
        (SELECT string_agg(i.relname, ',' ORDER BY i.relname)
         FROM pg_index JOIN pg_class i ON i.oid = indexrelid WHERE indrelid = t.oid)),
    pg_relation_size(t.oid) > 0
FROM pg_class t WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


class PostgresDatabases:
    """Makes databases on a server, and keeps those that can be used again."""

    def __init__(self, server_url: str) -> None:
        self._admin = make_url(server_url).set(drivername="postgresql+psycopg")
        self._numbers = itertools.count()
        self._spare: list[str] = []
        self._shape: dict[str, str] = {}

    def execute(self, *commands: str) -> None:
        """Run commands as the owner of the server."""
        with _connected(self._url_of(None)) as connection:
            for command in commands:
                connection.execute(command)

    def fresh(self) -> str:
        """The URL of an empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url_of(name)

    def owned(self) -> str:
        """The URL of an empty database which only a user of its own can reach."""
        url = make_url(self.fresh())
        owner = f"owner_of_{url.database}"
        self.execute(
            f"CREATE ROLE {owner} LOGIN",
            f"ALTER DATABASE {url.database} OWNER TO {owner}",
            f"REVOKE CONNECT ON DATABASE {url.database} FROM PUBLIC",
        )
        return url.set(username=owner, password=None).render_as_string(hide_password=False)

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database that has all tables, and no rows."""
        url = self._spare.pop() if self._spare else self._migrated()
        yield url
        if self._empty(url):
            self._spare.append(url)

    def _migrated(self) -> str:
        url = self.fresh()
        database = Database(url)
        for history in ("kernel", *SERVICES):
            upgrade(database, history)
        database.close()
        with _connected(url) as connection:
            self._shape = {name: shape for name, shape, _ in connection.execute(_TABLES)}
        return url

    def _empty(self, url: str) -> bool:
        """Take all rows away; False where the tables aren't those of the migrations any more."""
        with _connected(url) as connection:
            connection.execute(_END_OTHERS)
            tables = connection.execute(_TABLES).fetchall()
            for name in {name for name, _, _ in tables} - {*self._shape}:
                connection.execute(f"DROP TABLE {name}")
            ours = [table for table in tables if table[0] in self._shape]
            if {name: shape for name, shape, _ in ours} != self._shape:
                return False
            filled = [name for name, _, has_rows in ours if has_rows and not _is_version(name)]
            if filled:
                connection.execute(f"TRUNCATE {', '.join(filled)} RESTART IDENTITY CASCADE")
        return True

    def _url_of(self, name: str | None) -> str:
        url = self._admin if name is None else self._admin.set(database=name)
        return url.render_as_string(hide_password=False)


def _is_version(table: str) -> bool:
    return table.startswith("alembic_version_")


def _connected(url: str) -> "psycopg.Connection[tuple[str, ...]]":
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
