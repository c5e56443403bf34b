"""Every failure of a request as ``application/problem+json`` (RFC 9457).

One place translates: our errors, Werkzeug's and Flask's, marshmallow's (by the parser, as Invalid),
SQLAlchemy's, and, at the outermost door, whatever nobody foresaw, which is logged with its
traceback and told without it.
"""

import json
import math
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, request
from marshmallow import fields
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import InternalServerError as WerkzeugInternalError

from app.kernel.errors import Conflict, FieldError, Invalid, Malformed, ServiceError
from app.kernel.http.fields import Output

CONTENT_TYPE = "application/problem+json"
_MOST_ERRORS = 100
log = structlog.get_logger("problems")


class FieldErrorSchema(Output):
    """One reason at one place of the request."""

    pointer = fields.String(
        required=True, metadata={"description": "JSON pointer into the body, or `?parameter`."}
    )
    code = fields.String(required=True)
    detail = fields.String(required=True)
    allowed = fields.Raw(metadata={"description": "What would have been accepted."})


class Problem(Output):
    """What went wrong (RFC 9457)."""

    type = fields.String(required=True, metadata={"description": "`/problems/<code>`"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    instance = fields.String(required=True, metadata={"description": "Path of the request."})
    request_id = fields.String(required=True)
    retryable = fields.Boolean(
        required=True, metadata={"description": "Whether trying again may help."}
    )
    errors = fields.List(fields.Nested(FieldErrorSchema))


def problem_example(status: int, name: str, title: str) -> dict[str, Any]:
    """What a failure looks like, for the documentation."""
    code = "".join(f"-{char.lower()}" if char.isupper() else char for char in name).lstrip("-")
    return {
        "type": "/problems/internal" if status == 500 else f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": title,
        "instance": "/api/v1/datasets/penguins",
        "request_id": "01a203dd-26fa-784e-ba95-0b8f24d0d229",
        "retryable": status in (429, 503, 504, 507),
    }


def problem_response(error: ServiceError) -> Response:
    """The response that tells the client of the request at hand of ``error``."""
    return refusal_of(error, path=request.path, request_id=g.get("request_id", ""))


def refusal_of(error: ServiceError, *, path: str, request_id: str) -> Response:
    """The response that tells of ``error``, outside of any request, too."""
    body = problem_text(error, path=path, request_id=request_id)
    response = Response(body, error.status, content_type=CONTENT_TYPE)
    if error.retry_after is not None or error.status in (429, 503):
        response.headers["Retry-After"] = pause_of(error)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="modelyard"'
    return response


def pause_of(error: ServiceError) -> str:
    """How many seconds to wait, as ``Retry-After`` tells it."""
    return str(max(1, math.ceil(error.retry_after or 1)))


def problem_text(error: ServiceError, *, path: str, request_id: str) -> str:
    """The body of the response that tells of ``error``."""
    body: dict[str, Any] = {
        "type": f"/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": _plain(error.detail),
        "instance": _plain(path),
        "request_id": request_id,
        "retryable": error.retryable,
    }
    if error.errors:
        body["errors"] = [_bounded(found) for found in error.errors[:_MOST_ERRORS]]
    body |= {name: value for name, value in error.extra.items() if name not in body}
    return json.dumps(body)


def _bounded(found: FieldError) -> dict[str, Any]:
    """An error for the wire, no longer than what a person can read: a request can have many."""
    told = found.as_dict()
    if isinstance(found.allowed, list):
        told["allowed"] = found.allowed[:_MOST_ERRORS]
    told["pointer"] = _plain(found.pointer)
    return told


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:1000]


def register_problems(app: Flask) -> None:
    """Make the app answer every failure as a problem."""
    app.register_error_handler(ServiceError, problem_response)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(DataError, _data_error)
    app.register_error_handler(StatementError, _statement_error)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(Exception, _unforeseen)


def _http_exception(error: HTTPException) -> Response:
    """Werkzeug's own failures, with the headers that they must carry (Allow, Retry-After)."""
    status = error.code or 500
    phrase = HTTPStatus(status).phrase
    kind = {400: Malformed}.get(status, ServiceError)
    told = kind(error.description or phrase)
    response = problem_response(told)
    body = json.loads(response.get_data())
    body |= {
        "type": f"/problems/{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "retryable": status in (429, 503),
    }
    if 300 <= status < 400 and error.get_response().location:
        return error.get_response()  # type: ignore[return-value]
    answer = Response(json.dumps(body), status, content_type=CONTENT_TYPE)
    for name, value in error.get_response().headers.items():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def _integrity_error(error: IntegrityError) -> Response:
    log.info("integrity_error", error=str(error.orig)[:500])
    return problem_response(Conflict("Another request has made the same thing, or removed it"))


def _data_error(error: DataError) -> Response:
    log.warning("data_error", error=str(error.orig)[:500])
    return problem_response(Invalid("A value can't be kept by the database"))


def _statement_error(error: StatementError) -> Response:
    if isinstance(error.orig, OverflowError | UnicodeError | ValueError):
        log.warning("statement_error", error=str(error.orig)[:500])
        return problem_response(Invalid("A value can't be kept by the database"))
    return _unforeseen(error)


def _too_deep(error: RecursionError) -> Response:
    return problem_response(Malformed("The request is nested too deeply"))


def _unforeseen(error: Exception) -> Response:
    if isinstance(error, WerkzeugInternalError) and error.original_exception is not None:
        error = error.original_exception  # type: ignore[assignment]
    log.error("unforeseen_error", path=request.path, exc_info=error)
    return problem_response(ServiceError("Something of ours broke; the log knows more"))
