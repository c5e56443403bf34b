"""Finding one row, and reading a whole table a few rows at a time."""

from collections.abc import Iterator
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from app.kernel.changes import ResourceRow
from app.kernel.errors import NotFound
from app.kernel.sql import Database

_AT_ONCE = 200


Row = TypeVar("Row", bound=ResourceRow)


def the_row(session: Session, query: Select[Row], missing: str, *, lock: bool = False) -> Row:
    """The one row of a query, locked until the transaction ends if ``lock``.

    Raises NotFound with the text ``missing``.
    """
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(missing)
    return row


def all_rows(database: Database, table: type[Row], *which: ColumnElement[bool]) -> Iterator[Row]:
    """The rows in the order of their ids; no transaction is open while the caller works."""
    last = ""
    while True:
        query = select(table).where(table.id > last, *which).order_by(table.id).limit(_AT_ONCE)
        with database.read() as session:
            found = list(session.scalars(query))
        if not found:
            return
        yield from found
        last = found[-1].id
