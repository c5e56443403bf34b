"""Every failure that a client may be told about.

ServiceError                      500  something of ours broke
├── Malformed                     400  the message cannot be read at all
├── Unauthenticated               401  no key, or one that is not valid
├── Forbidden                     403  the key lacks a scope
├── NotFound                      404  no such thing in this project
├── NotAcceptable                 406  no representation of the accepted types
├── Conflict                      409  the state of the thing forbids it
│   └── StillReferred             409  others still refer to the thing
├── Gone                          410  what was asked for is no longer kept
├── PreconditionFailed            412  If-Match names an older version
├── LengthRequired                411  a body of unknown length without a digest
├── TooLarge                      413  over a limit of size
├── UnsupportedMediaType          415  a content type that is not offered
├── RangeNotSatisfiable           416  a byte range outside the content
├── Invalid                       422  readable, but not valid
├── TooManyRequests               429  the caller's quota is used up
├── Unavailable                   503  ours: try again later
├── DatabaseCorrupt               503  the database's file is damaged
├── DeadlineExceeded              504  the caller's deadline passed
└── StorageFull                   507  no space left to keep it

A class knows its HTTP status and whether trying again may help; it knows nothing of Flask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


def escape(part: str) -> str:
    """One reference token of a JSON pointer (RFC 6901), without what can't be written."""
    return part.replace("~", "~0").replace("/", "~1").encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class FieldError:
    """One reason why one place of the request was refused.

    ``pointer`` is a JSON pointer into the body (``/inputs/3/mass``), or ``?name`` for a query
    parameter, or the name of a header. ``allowed`` tells what would have been accepted.
    """

    pointer: str
    code: str
    detail: str
    allowed: Any = None

    def as_dict(self) -> dict[str, Any]:
        """The form that goes over the wire."""
        told = {"pointer": self.pointer, "code": self.code, "detail": self.detail}
        return told if self.allowed is None else {**told, "allowed": self.allowed}


class ServiceError(Exception):
    """Something of ours broke."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    def as_dict(self) -> dict[str, Any]:
        """A form in which another process can be told; ``told`` reads it back."""
        return {
            "code": self.code,
            "detail": self.detail,
            "errors": [found.as_dict() for found in self.errors],
            "retry_after": self.retry_after,
            "extra": self.extra,
        }


class Malformed(ServiceError):
    """The message cannot be read at all."""

    status, code, title = 400, "malformed", "Malformed request"


class Unauthenticated(ServiceError):
    """No key, or one that is not valid."""

    status, code, title = 401, "unauthenticated", "A valid API key is needed"


class Forbidden(ServiceError):
    """The key lacks a scope."""

    status, code, title = 403, "forbidden", "The key may not do this"


class NotFound(ServiceError):
    """No such thing in this project."""

    status, code, title = 404, "not-found", "Not found"


class NotAcceptable(ServiceError):
    """No representation of the accepted types."""

    status, code, title = 406, "not-acceptable", "Not acceptable"


class Conflict(ServiceError):
    """The state of the thing forbids it."""

    status, code, title = 409, "conflict", "Conflict"


class InProgress(Conflict):
    """The first request with this Idempotency-Key has no answer yet."""

    code, title, retryable = "in-progress", "Still in progress", True


class StillReferred(Conflict):
    """Others still refer to the thing; ``extra["referrers"]`` lists them."""

    code, title = "still-referred", "Still referred to"


class Gone(ServiceError):
    """What was asked for is no longer kept."""

    status, code, title = 410, "gone", "No longer kept"


class LengthRequired(ServiceError):
    """A body of unknown length without a digest."""

    status, code, title = 411, "length-required", "Length required"


class PreconditionFailed(ServiceError):
    """If-Match names an older version."""

    status, code, title = 412, "precondition-failed", "Precondition failed"


class TooLarge(ServiceError):
    """Over a limit of size."""

    status, code, title = 413, "too-large", "Too large"


class UnsupportedMediaType(ServiceError):
    """A content type that is not offered."""

    status, code, title = 415, "unsupported-media-type", "Unsupported media type"


class RangeNotSatisfiable(ServiceError):
    """A byte range outside the content."""

    status, code, title = 416, "range-not-satisfiable", "Range not satisfiable"


class Invalid(ServiceError):
    """Readable, but not valid."""

    status, code, title = 422, "invalid", "Validation failed"

    @classmethod
    def at(cls, pointer: str, code: str, detail: str, allowed: Any = None) -> "Invalid":
        """One reason at one place."""
        return cls(detail, errors=[FieldError(pointer, code, detail, allowed)])


class TooManyRequests(ServiceError):
    """The caller's quota is used up."""

    status, code, title, retryable = 429, "too-many-requests", "Too many requests", True


class Unavailable(ServiceError):
    """Ours: try again later."""

    status, code, title, retryable = 503, "unavailable", "Temporarily unavailable", True


class DatabaseCorrupt(ServiceError):
    """The database's file is damaged; trying again does not help."""

    status, code, title = 503, "database-corrupt", "The database is damaged"


class DeadlineExceeded(ServiceError):
    """The caller's deadline passed."""

    status, code, title, retryable = 504, "deadline-exceeded", "Deadline exceeded", True


class StorageFull(ServiceError):
    """No space left to keep it."""

    status, code, title, retryable = 507, "storage-full", "No space left", True


def tree(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """A class and all below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def told(message: Mapping[str, Any]) -> ServiceError:
    """The error that another process told of by ``as_dict``, as the class whose code it names.

    A class without a code of its own says more than the code: its errors become its parent's.
    """
    kinds = {kind.code: kind for kind in reversed(list(tree()))}
    found = [
        FieldError(item["pointer"], item["code"], item["detail"], item.get("allowed"))
        for item in message.get("errors", ())
    ]
    kind = kinds.get(message.get("code", ""), ServiceError)
    # Past the class's own constructor: what it would ask for, the message has been made from.
    error = kind.__new__(kind)
    ServiceError.__init__(
        error,
        message.get("detail", ""),
        errors=found,
        retry_after=message.get("retry_after"),
        extra=message.get("extra"),
    )
    return error
