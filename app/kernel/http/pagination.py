"""Lists: ``{items, next_page_token}``, filters as ``field__op=value``, ordering by allow-list.

A page token is a signed cursor: the order, the last row's place in it, and what the list was
filtered by. It holds for the same list of the same project only, and costs the same on any page.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from marshmallow import ValidationError, fields
from marshmallow.validate import Length, OneOf, Range
from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.kernel.errors import Invalid, Malformed
from app.kernel.http.fields import LONGEST_TIME, Input, QueryInteger, UtcTime
from app.kernel.signing import KeyRing

DEFAULT_SIZE, MOST_SIZE = 50, 500
_LONGEST_LIST = 2000
_PURPOSE = "page-token"

Row = TypeVar("Row")
Column = InstrumentedAttribute[Any]

_COMPARE: dict[str, Callable[[Column, Any], ColumnElement[bool]]] = {
    "eq": lambda column, value: column == value,
    "ne": lambda column, value: column != value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "in": lambda column, value: column.in_(value),
    "prefix": lambda column, value: column.startswith(value, autoescape=True),
}
_WORDS = {
    "eq": "is this",
    "ne": "is not this",
    "lt": "is before or below this",
    "lte": "is this, or before or below",
    "gt": "is after or above this",
    "gte": "is this, or after or above",
    "in": "is one of these, comma-separated",
    "prefix": "begins with this",
}
_TEXT_OPERATORS = ("eq", "ne", "in", "prefix")
_ORDERED_OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte")


class _TextList(fields.String):
    """Comma-separated values of an ``__in`` filter."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if len(text) > _LONGEST_LIST:
            raise ValidationError(f"Longer than maximum length {_LONGEST_LIST}.")
        return text.split(",")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list, in the shape that goes over the wire."""

    items: list[Row]
    next_page_token: str | None


class Listing:
    """What one list may be filtered and ordered by.

    ``columns`` maps a public name to its column; its Python type decides the operators.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, Column],
        *,
        order: Sequence[str],
        identity: Column,
        default_order: str = "-created_at",
    ) -> None:
        self.name = name
        self._columns = columns
        self._identity = identity
        self._order = (*order, *(f"-{field}" for field in order))
        self._default_order = default_order
        self._filters = {
            f"{field}__{operator}": (column, operator)
            for field, column in columns.items()
            for operator in _operators(column)
        }

    def schema(self) -> type[Input]:
        """The query parameters as a marshmallow schema, for checking and for the docs."""
        members: dict[str, Any] = {
            "page_size": QueryInteger(
                load_default=DEFAULT_SIZE,
                validate=Range(1, MOST_SIZE),
                metadata={"description": "Most items of a page."},
            ),
            "page_token": fields.String(
                load_default=None,
                validate=Length(max=2000),
                metadata={"description": "`next_page_token` of the page before."},
            ),
            "order_by": fields.String(
                load_default=self._default_order,
                validate=OneOf(self._order),
                metadata={"description": "Field to order by; `-` before it: descending."},
            ),
        }
        for parameter, (column, operator) in self._filters.items():
            name = parameter.rpartition("__")[0]
            members[parameter] = _filter_field(name, column, operator)
        return Input.from_dict(members, name=f"{self.name}Query")  # type: ignore[return-value]

    def page(
        self,
        session: Session,
        query: Select[Row],
        arguments: Mapping[str, Any],
        keys: KeyRing,
        project: str,
    ) -> Page[Row]:
        """One page of ``query``; raises Malformed for a token that isn't of this list."""
        order, size = arguments["order_by"], arguments["page_size"]
        column = self._columns[order.removeprefix("-")]
        scope = self._scope(arguments, project)
        query = query.where(*self._conditions(arguments))
        if arguments["page_token"] is not None:
            last = _open_token(keys, arguments["page_token"], scope, column)
            query = query.where(_beyond(column, self._identity, last, order.startswith("-")))
        if order.startswith("-"):
            query = query.order_by(column.desc(), self._identity.desc())
        else:
            query = query.order_by(column, self._identity)
        rows = list(session.scalars(query.limit(size + 1)))
        if len(rows) <= size:
            return Page(rows, None)
        last_row = rows[size - 1]
        place = (getattr(last_row, column.key), getattr(last_row, self._identity.key))
        return Page(rows[:size], _make_token(keys, place, scope))

    def conditions(self, arguments: Mapping[str, Any]) -> list[ColumnElement[bool]]:
        """What the filters among the arguments ask for."""
        return self._conditions(arguments)

    def _conditions(self, arguments: Mapping[str, Any]) -> list[ColumnElement[bool]]:
        return [
            _COMPARE[operator](column, arguments[parameter])
            for parameter, (column, operator) in self._filters.items()
            if parameter in arguments
        ]

    def _scope(self, arguments: Mapping[str, Any], project: str) -> str:
        asked = sorted(
            (name, str(value))
            for name, value in arguments.items()
            if name == "order_by" or name in self._filters
        )
        return hashlib.sha256(repr((self.name, project, asked)).encode()).hexdigest()[:32]


def _operators(column: Column) -> tuple[str, ...]:
    return _TEXT_OPERATORS if column.type.python_type is str else _ORDERED_OPERATORS


def _filter_field(name: str, column: Column, operator: str) -> fields.Field[Any]:
    kind = column.type.python_type
    description = f"Only items whose {name} {_WORDS[operator]}."
    described: dict[str, Any] = {"metadata": {"description": description}}
    if kind is datetime:
        return UtcTime(metadata={"description": description, "maxLength": LONGEST_TIME})
    if kind is int:
        return QueryInteger(**described)
    if operator == "in":
        return _TextList(metadata={"description": description, "maxLength": _LONGEST_LIST})
    return fields.String(validate=Length(max=400), **described)


def _beyond(column: Column, identity: Column, last: tuple[Any, str], descending: bool) -> Any:
    value, row_id = last
    if descending:
        return or_(column < value, and_(column == value, identity < row_id))
    return or_(column > value, and_(column == value, identity > row_id))


def _make_token(keys: KeyRing, place: tuple[Any, Any], scope: str) -> str:
    payload = urlsafe_b64encode(msgspec.json.encode([scope, *place])).decode().rstrip("=")
    return f"{payload}.{keys.sign(_PURPOSE, payload.encode())}"


def _open_token(keys: KeyRing, token: str, scope: str, column: Column) -> tuple[Any, str]:
    payload, _, signature = token.partition(".")
    if not keys.verify(_PURPOSE, payload.encode("utf-8", "replace"), signature):
        raise Malformed("The page_token is not one of ours")
    found, value, row_id = msgspec.json.decode(urlsafe_b64decode(payload + "=" * 3))
    if found != scope:
        raise Invalid.at("?page_token", "other_list", "The page_token belongs to another list")
    return msgspec.convert(value, column.type.python_type), row_id
