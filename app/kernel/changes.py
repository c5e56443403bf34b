"""How a service changes something: rows, event, audit and idempotent answer in one transaction.

::

    with self.changes.begin(call) as change:
        row = change.session.scalar(select(Dataset).where(..).with_for_update())
        change.guard(row)                                  # If-Match, atomically
        row.description = description
        change.record("dataset.updated", row.subject, {"name": row.name})
        change.answer(row)                                 # the answer that a retry will get
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from sqlalchemy import Connection, String, Table, inspect
from sqlalchemy.orm import Mapped, Session, declared_attr, mapped_column

from app.kernel.audit import AuditRow
from app.kernel.auth import Call
from app.kernel.errors import PreconditionFailed
from app.kernel.events import Event, append, hold_order
from app.kernel.insertion import Insertion
from app.kernel.sql import Database, UtcDateTime, new_id, utc_now


class ResourceRow:
    """Mixin for a table whose rows are resources: owned by a project, with an ETag.

    SQLAlchemy counts ``row_version`` up with each update and refuses to update a row that somebody
    else has changed. A subclass says its ``subject``, the path below the API's prefix.
    """

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project: Mapped[str] = mapped_column(String(63), index=True)
    row_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.row_version}

    @property
    def subject(self) -> str:
        """The path of the resource below the API's prefix."""
        raise NotImplementedError

    @property
    def etag(self) -> str:
        """Changes with each update, and differs for a later thing of the same name."""
        return _etag(self.id, self.row_version)


def _etag(row_id: str, row_version: int) -> str:
    return f"{row_id[-12:]}-{row_version}"


class Result:
    """A resource with the status that tells what became of it, where a view has several."""

    http_status: ClassVar[int] = 200

    def __init__(self, resource: Any) -> None:
        self.resource = resource

    def __getattr__(self, name: str) -> Any:
        """Everything but the status is the resource's."""
        return getattr(self.resource, name)


class Created(Result):
    """The resource is new."""

    http_status = 201


class Accepted(Result):
    """The resource is there, and what makes it goes on."""

    http_status = 202


class Tagged(Protocol):
    """What If-Match can be checked against."""

    @property
    def etag(self) -> str:
        """The current tag."""


class Change:
    """One transaction of one caller."""

    def __init__(self, session: Session, call: Call, service: str) -> None:
        self.session = session
        self.call = call
        self._service = service

    def guard(self, row: Tagged) -> None:
        """Raise PreconditionFailed unless If-Match, where sent, names the row's present version.

        The row must be read ``with_for_update()`` in this transaction, else the check isn't atomic.
        """
        wanted = self.call.if_match
        if wanted is not None and "*" not in wanted and row.etag not in wanted:
            raise PreconditionFailed("The resource has changed since that version")

    def record(self, type_: str, subject: str, data: Mapping[str, Any] | None = None) -> None:
        """Write the event and the audit row of what this transaction does."""
        self.session.flush()
        told = Told(type_, subject, data or {})
        append(self.session, Event(**_event(self.call, self._service, told)))
        self.session.add(AuditRow(**_audit(self.call, told)))

    def answer(self, result: Any) -> None:
        """Store the answer under the caller's Idempotency-Key, where there is one."""
        if self.call.reservation is not None:
            self.session.flush()
            self.call.reservation.complete(self.session, result)


class Told(NamedTuple):
    """What is told of a change: by an event, and in the audit."""

    type: str
    subject: str
    data: Mapping[str, Any]


class Made(NamedTuple):
    """A new resource by its columns' values, who made it, and the event that tells of it."""

    call: Call
    values: Mapping[str, Any]
    told: Told

    @property
    def subject(self) -> str:
        """The path of the resource below the API's prefix."""
        return self.told.subject

    @property
    def etag(self) -> str:
        """That of the row."""
        return _etag(self.values["id"], self.values["row_version"])


class Changes:
    """Begins the changes of one service in its database."""

    def __init__(self, database: Database, service: str) -> None:
        self.database = database
        self._service = service
        self._insertions: dict[type[Any], Insertion] = {}

    @contextmanager
    def begin(self, call: Call) -> Iterator[Change]:
        """One transaction; committed on return, rolled back when the block raises.

        Raises DeadlineExceeded when the caller's deadline has passed, also at the end: then nothing
        has been done.
        """
        call.remaining()
        with self.database.write() as session:
            yield Change(session, call, self._service)
            call.remaining()

    def make(self, kind: type[ResourceRow], made: Sequence[Made]) -> None:
        """Store new resources of one table, with all that ``record`` and ``answer`` write.

        In one transaction, by a few statements for all. All columns' values must be given.
        """
        with self.database.write() as session:
            hold_order(session)
            connection = session.connection()
            self._insert(connection, kind, [one.values for one in made])
            events = [_event(one.call, self._service, one.told) for one in made]
            self._insert(connection, Event, events)
            self._insert(connection, AuditRow, [_audit(one.call, one.told) for one in made])
            for one in made:
                if one.call.reservation is not None:
                    one.call.reservation.complete(session, kind(**one.values))

    def _insert(
        self, connection: Connection, kind: type[Any], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        insertion = self._insertions.get(kind)
        if insertion is None:
            table = cast("Table", inspect(kind).local_table)
            insertion = Insertion(table, list(rows[0]), connection.dialect)
            self._insertions[kind] = insertion
        insertion.run(connection, rows)


def _event(call: Call, service: str, told: Told) -> dict[str, Any]:
    return {
        "source": service,
        "project": call.project,
        "type": told.type,
        "subject": told.subject,
        "data": dict(told.data),
        "request_id": call.request_id,
        "id": new_id(),
        "time": utc_now(),
    }


def _audit(call: Call, told: Told) -> dict[str, Any]:
    return {
        "project": call.project,
        "key_id": call.key_id,
        "peer": call.peer,
        "address": call.address,
        "request_id": call.request_id,
        "action": told.type,
        "subject": told.subject,
        "outcome": "done",
        "detail": dict(told.data) or None,
        "id": new_id(),
        "time": utc_now(),
        "count": 1,
    }
