"""Brings databases up to date: one Alembic history for the kernel's tables and one per service.

Each history has its own version table, so that a service can take its tables elsewhere. An upgrade
is one transaction under a lock: of two first starts at once the second one waits and finds nothing
left to do, and a killed one leaves nothing behind.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from app.kernel import faults
from app.kernel.errors import ServiceError
from app.kernel.sql import Database

_HERE = Path(__file__).resolve()


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
    config = configuration(history)
    with database.exclusive("migrations") as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
        faults.hit("migrations.upgraded")


def is_current(database: Database, history: str) -> bool:
    """Whether nothing of a history is missing."""
    head = ScriptDirectory.from_config(configuration(history)).get_current_head()
    return revision_of(database, history) == head


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


def refuse_newer(database: Database, history: str) -> None:
    """Raise NewerDatabase where a database is beyond this code."""
    revision = revision_of(database, history)
    if revision is not None and not is_known(history, revision):
        raise NewerDatabase(
            f"A newer version of Modelyard has written to the database (revision {revision[:40]}):"
            " use that version, or restore a backup that this one has made"
        )


def draft(database: Database, history: str, metadata: MetaData, message: str) -> None:
    """Write the next revision from what the tables' code has and the database lacks."""
    config = configuration(history)
    config.attributes["metadata"] = metadata
    with database.exclusive("migrations") as session:
        config.attributes["connection"] = session.connection()
        folder = migrations_folder() / history
        number = len(list(folder.glob("[0-9]*.py"))) + 1
        command.revision(
            config,
            message=message,
            autogenerate=True,
            rev_id=f"{history}_{number:04d}",
            version_path=str(folder),
            head=f"{history}@head" if number > 1 else "base",
        )
