"""What of a change of tables older code would stumble over, and such changes for tests."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, inspect, text

Tables = Mapping[str, Mapping[str, Any]]


def tables_of(engine: Engine) -> dict[str, dict[str, Any]]:
    """What code relies on of each table: columns, and what is refused."""
    found: dict[str, dict[str, Any]] = {}
    inspector = inspect(engine)
    for table in inspector.get_table_names():
        if table.startswith("alembic_version"):
            continue
        unique = [one["column_names"] for one in inspector.get_unique_constraints(table)]
        unique += [one["column_names"] for one in inspector.get_indexes(table) if one["unique"]]
        foreign = [one["constrained_columns"] for one in inspector.get_foreign_keys(table)]
        checks = [one["sqltext"] for one in inspector.get_check_constraints(table)]
        found[table] = {
            "columns": {one["name"]: one for one in inspector.get_columns(table)},
            "refuses": {
                *(f"unique {', '.join(map(str, sorted(map(str, one))))}" for one in unique),
                *(f"foreign key {', '.join(one)}" for one in foreign),
                *(f"check {one}" for one in checks),
            },
        }
    return found


def breaks(before: Tables, after: Tables) -> list[str]:
    """Why code that was made for the tables before doesn't work on those after."""
    found = [f"{table} is gone" for table in before.keys() - after.keys()]
    for table in before.keys() & after.keys():
        old, new = before[table]["columns"], after[table]["columns"]
        found += [f"{table}.{name} is gone" for name in old.keys() - new.keys()]
        for name in old.keys() & new.keys():
            if str(old[name]["type"]) != str(new[name]["type"]):
                found.append(f"{table}.{name} has another type")
            if old[name]["nullable"] and not new[name]["nullable"]:
                found.append(f"{table}.{name} must be there now")
        for name in new.keys() - old.keys():
            if not new[name]["nullable"] and new[name]["default"] is None:
                found.append(f"{table}.{name} must be given, and has no default")
        refused = after[table]["refuses"] - before[table]["refuses"]
        found += [f"{table} refuses more: {one}" for one in refused]
    return sorted(found)


def expand(engine: Engine, history: str, revision: str) -> None:
    """Add to a database what a newer version might: a table, and columns to each table."""
    with engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            if table.startswith(f"{history}_"):
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN later_told VARCHAR(9)"))
                counted = "later_count INTEGER NOT NULL DEFAULT 7"
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {counted}"))
        connection.execute(text(f"CREATE TABLE {history}_later (id INTEGER PRIMARY KEY)"))
        named = text(f"UPDATE alembic_version_{history} SET version_num = :revision")
        connection.execute(named, {"revision": revision})
