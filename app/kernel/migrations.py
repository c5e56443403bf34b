"""Brings databases up to date: one Alembic history for the kernel's tables and one per service.

Each history has its own version table, so that a service can take its tables elsewhere. An upgrade
is one transaction under a lock: of two first starts at once the second one waits and finds nothing
left to do, and a killed one leaves nothing behind.

A revision's name is its history, its number, and the oldest code that works on what it makes:
``models_0002_from_0001`` only adds, so code that knows the tables up to 0001 goes on, also when it
is started again. What takes away comes later, ``models_0003_from_0002``, when no code is left that
asks for it. Without ``from`` it is for code that has it. So the database says who may use it.
"""

import re
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from app.kernel import faults
from app.kernel.errors import ServiceError
from app.kernel.sql import Database

_HERE = Path(__file__).resolve()
_NAME: Final = re.compile(r"[a-z]+_(?P<number>[0-9]{4})(_from_(?P<oldest>[0-9]{4}))?")


def migrations_folder() -> Path:
    """The folder of the histories: beside the package in a checkout, inside it in a wheel."""
    inside = _HERE.parents[1] / "migrations"
    return inside if inside.is_dir() else _HERE.parents[2] / "migrations"


def configuration(history: str) -> Config:
    """Alembic's configuration for one history."""
    config = Config()
    folder = migrations_folder()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("version_locations", str(folder / history).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = f"alembic_version_{history}"
    return config


class NewerDatabase(ServiceError):
    """A newer version of the product has written to the database."""

    status, code, title = 503, "newer-database", "The database belongs to a newer version"


def upgrade(database: Database, history: str) -> None:
    """Run what is missing of a history, in one transaction and by one process at a time.

    Raises NewerDatabase where the history has gone on past what this code knows.
    """
    refuse_newer(database, history)
    if _is_ahead(database, history):
        return
    config = configuration(history)
    with database.exclusive("migrations") as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
        faults.hit("migrations.upgraded")


def is_current(database: Database, history: str) -> bool:
    """Whether nothing of a history is missing."""
    return revision_of(database, history) == _head(history) or _is_ahead(database, history)


def _is_ahead(database: Database, history: str) -> bool:
    """Whether a newer version has added to the database what this code doesn't ask for."""
    revision = revision_of(database, history)
    return revision is not None and not is_known(history, revision) and serves(history, revision)


def _head(history: str) -> str:
    head = ScriptDirectory.from_config(configuration(history)).get_current_head()
    if head is None:
        raise LookupError(f"no migrations of {history}")
    return head


def revision_of(database: Database, history: str) -> str | None:
    """How far a database has come in a history; None: it has not begun."""
    with database.read() as session:
        options = {"version_table": configuration(history).attributes["version_table"]}
        context = MigrationContext.configure(session.connection(), opts=options)
        return context.get_current_revision()


def is_known(history: str, revision: str) -> bool:
    """Whether this code has a revision: a database beyond it was written by a newer version."""
    scripts = ScriptDirectory.from_config(configuration(history)).walk_revisions()
    return any(script.revision == revision for script in scripts)


def number_of(revision: str) -> str:
    """The number in a revision's name; of what is no name of ours it is after all others."""
    found = _NAME.fullmatch(revision)
    return found["number"] if found else "9999"


def oldest_of(revision: str) -> str:
    """The number of the oldest code that works on a database at a revision."""
    found = _NAME.fullmatch(revision)
    return (found["oldest"] if found else None) or number_of(revision)


def serves(history: str, revision: str) -> bool:
    """Whether this code works on a database at a revision: its own, or one that says so."""
    return is_known(history, revision) or oldest_of(revision) <= number_of(_head(history))


def refuse_newer(database: Database, history: str) -> None:
    """Raise NewerDatabase where a database is beyond this code, and not made for it, too."""
    revision = revision_of(database, history)
    if revision is not None and not serves(history, revision):
        raise NewerDatabase(
            f"A newer version of Modelyard has written to the database (revision {revision[:40]}):"
            " use that version, or restore a backup that this one has made"
        )


def draft(
    database: Database, history: str, metadata: MetaData, message: str, *, oldest: int | None = None
) -> None:
    """Write the next revision from what the tables' code has and the database lacks.

    ``oldest`` is the number of the oldest code that works on it; without one, it is for new code.
    """
    config = configuration(history)
    config.attributes["metadata"] = metadata
    folder = migrations_folder() / history
    number = len(list(folder.glob(f"{history}_[0-9]*.py"))) + 1
    since = "" if oldest is None else f"_from_{oldest:04d}"
    with database.exclusive("migrations") as session:
        config.attributes["connection"] = session.connection()
        command.revision(
            config,
            message=message,
            autogenerate=True,
            rev_id=f"{history}_{number:04d}{since}",
            version_path=str(folder),
            head="head" if number > 1 else "base",
        )
