"""The one place where flask-smorest is tuned. Services use its decorators plainly.

What is added or mended: every operation has an operationId and a scope; failures and their
documentation are ``application/problem+json``; unknown query parameters are refused; ETag,
If-None-Match and Location come from the resource that a view returns; ``Blueprint.creates`` gives
a POST its Idempotency-Key.

A request goes: host, request id, route, key, scope, query names (``guard_request``), then the
view's arguments, then the view.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ClassVar, cast

import flask_smorest
import msgspec
from apispec.ext.marshmallow import MarshmallowPlugin, OpenAPIConverter
from flask import Flask, Response, current_app, g, request
from flask.views import MethodView
from marshmallow import Schema
from marshmallow.validate import Range
from werkzeug.routing import BaseConverter

from app.kernel.auth import Access, Call
from app.kernel.bodies import JSON_TYPES, StrictParser, json_body
from app.kernel.changes import Result
from app.kernel.errors import FieldError, Invalid
from app.kernel.fields import NAME_PATTERN
from app.kernel.idempotency import Answer, HeldKey, IdempotencyStore, fingerprint
from app.kernel.peers import PREFIX
from app.kernel.problems import CONTENT_TYPE, Problem

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")


class Action(MethodView):
    """A view of one POST that does something; its operationId is the class's name."""


class NameConverter(BaseConverter):
    """The name of a resource in a path."""

    regex = NAME_PATTERN
    part_isolating = True


class IdConverter(BaseConverter):
    """A UUID in a path, as text."""

    regex = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    part_isolating = True


class KeyIdConverter(BaseConverter):
    """The public part of an API key."""

    regex = "[A-Za-z0-9]{8}"
    part_isolating = True


class NumberConverter(BaseConverter):
    """A version number in a path: from 1, at most nine digits."""

    regex = "[1-9][0-9]{0,8}"
    part_isolating = True

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)


@dataclass(frozen=True)
class Operation:
    """What is known of one method of one route before any request comes."""

    operation_id: str
    scopes: tuple[str, ...]
    query: frozenset[str]
    service: str


def current_call() -> Call:
    """The call of the request at hand."""
    return cast("Call", g.call)


def operation_id(view: type[MethodView], method: str) -> str:
    """``listDatasets``, ``createDataset``, ``getDataset`` .. from the class's name."""
    name = view.__name__
    if issubclass(view, Action):
        return name[0].lower() + name[1:]
    plural = name.endswith("s") and hasattr(view, "get")
    verbs = {"GET": "get", "PUT": "put", "PATCH": "update", "DELETE": "delete", "POST": "create"}
    if plural and method == "GET":
        return f"list{name}"
    if plural and method == "POST":
        return "create" + (f"{name[:-3]}y" if name.endswith("ies") else name[:-1])
    return verbs[method] + name


class Blueprint(flask_smorest.Blueprint):
    """A service's routes. ``name`` is the service's."""

    ARGUMENTS_PARSER = StrictParser()
    DEFAULT_LOCATION_CONTENT_TYPE_MAPPING: ClassVar[dict[str, str]] = {
        **flask_smorest.Blueprint.DEFAULT_LOCATION_CONTENT_TYPE_MAPPING
    }

    def __init__(self, *args: Any, service: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.service = service or self.name
        self.operations: dict[tuple[str, str], Operation] = {}

    def _store_endpoint_docs(
        self, endpoint: str, obj: Any, parameters: Any, tags: Any, **options: Any
    ) -> None:
        super()._store_endpoint_docs(endpoint, obj, parameters, tags, **options)
        for method in _METHODS:
            view = getattr(obj, method.lower(), None)
            if view is None:
                continue
            access = getattr(view, "access", None)
            if not isinstance(access, Access):
                raise TypeError(f"{obj.__name__}.{method.lower()} has neither a scope nor @public")
            docs = self._docs[endpoint][method.lower()]
            manual = docs.setdefault("manual_doc", {})
            manual.setdefault("operationId", operation_id(obj, method))
            _document_access(manual, access)
            if method in ("PUT", "PATCH", "DELETE"):
                _document_if_match(docs)
            self.operations[f"{self.name}.{endpoint}", method] = Operation(
                manual["operationId"], access.scopes, _query_names(docs), self.service
            )

    def response(self, status_code: int, schema: Any = None, **kwargs: Any) -> Any:
        """flask-smorest's, with ETag, 304 and Location from the resource that is returned."""
        outer = super().response(status_code, schema, **kwargs)

        def decorate(view: Callable[..., Any]) -> Any:
            @wraps(view)
            def answered(*args: Any, **options: Any) -> Any:
                result = view(*args, **options)
                if isinstance(result, Response | tuple) or not hasattr(result, "etag"):
                    return result
                if request.method in ("GET", "HEAD") and request.if_none_match.contains_weak(
                    result.etag
                ):
                    return Response(status=304, headers={"ETag": f'"{result.etag}"'})
                status = _status_of(result, status_code)
                return result, status, resource_headers(result, status)

            return outer(answered)

        return decorate

    def creates(self, status_code: int, schema: Any, **kwargs: Any) -> Any:
        """``response`` for a POST that creates: takes an Idempotency-Key."""
        outer = self.response(status_code, schema, **kwargs)
        instance: Schema = schema() if isinstance(schema, type) else schema

        def decorate(view: Callable[..., Any]) -> Any:
            @wraps(view)
            def held(*args: Any, **options: Any) -> Any:
                key = request.headers.get("Idempotency-Key")
                if key is None:
                    return view(*args, **options)
                return _idempotently(key, lambda: view(*args, **options), instance, status_code)

            decorated = outer(held)
            manual = decorated._apidoc.setdefault("manual_doc", {})  # noqa: SLF001
            manual.setdefault("parameters", []).append(_IDEMPOTENCY_PARAMETER)
            return decorated

        return decorate


_IDEMPOTENCY_PARAMETER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "A retry with the same key and the same body gets the first answer again.",
}
_IF_MATCH_PARAMETER = {
    "in": "header",
    "name": "If-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "Only if the resource still has this ETag; else 412.",
}


def _document_access(manual: dict[str, Any], access: Access) -> None:
    if not access.scopes:
        manual["security"] = []
        return
    manual["security"] = [{"key": []}]
    manual["x-scope"] = access.scopes[0]


def _document_if_match(docs: dict[str, Any]) -> None:
    parameters = docs["manual_doc"].setdefault("parameters", [])
    if _IF_MATCH_PARAMETER not in parameters:
        parameters.append(_IF_MATCH_PARAMETER)


def _query_names(docs: dict[str, Any]) -> frozenset[str]:
    names: set[str] = set()
    for parameter in docs.get("arguments", {}).get("parameters", ()):
        if parameter["in"] == "query":
            schema = parameter["schema"]
            instance = schema() if isinstance(schema, type) else schema
            names |= {field.data_key or name for name, field in instance.fields.items()}
    for parameter in docs["manual_doc"].get("parameters", ()):
        if parameter["in"] == "query":
            names.add(parameter["name"])
    return frozenset(names)


def _status_of(result: Any, usual: int) -> int:
    return result.http_status if isinstance(result, Result) else usual


def resource_headers(result: Any, status: int) -> dict[str, str]:
    """ETag of a resource and, where it was just created or accepted, its Location."""
    headers = {"ETag": f'"{result.etag}"'}
    if status in (201, 202):
        headers["Location"] = f"{PREFIX}/{result.subject}"
    return headers


def _idempotently(key: str, view: Callable[[], Any], schema: Schema, status: int) -> Any:
    """Run the view under the key, or repeat the answer that the key already has."""
    if not _KEY_PATTERN.fullmatch(key):
        raise Invalid.at("Idempotency-Key", "invalid", "1 to 255 visible ASCII characters")
    call = current_call()
    store = cast("IdempotencyStore", current_app.extensions["idempotency"][_operation().service])

    def render(result: Any) -> Answer:
        body = msgspec.json.encode(schema.dump(result)).decode()
        own = _status_of(result, status)
        return Answer(own, body, resource_headers(result, own))

    held = store.reserve(call, key, _fingerprint(), render)
    if isinstance(held, Answer):
        headers = {**held.headers, "Idempotent-Replayed": "true"}
        return Response(held.body, held.status, headers, content_type="application/json")
    g.call = replace(call, reservation=held)
    try:
        result = view()
    finally:
        if not held.completed:
            held.release()
    if not held.completed and not isinstance(result, Response):
        raise RuntimeError(f"{_operation().operation_id} did not answer under its key")
    return result


def held_key() -> HeldKey | None:
    """The Idempotency-Key held for this request, for those that must renew it."""
    return cast("HeldKey | None", current_call().reservation)


def _fingerprint() -> str:
    """Method, path, query and body; of an upload its Content-Digest stands for the body."""
    query = sorted(request.args.items(multi=True))
    if request.mimetype in JSON_TYPES or "body" in g:
        body = json_body(request)
    else:
        digest = request.headers.get("Content-Digest")
        if digest is None:
            raise Invalid.at(
                "Content-Digest", "required", "An upload with Idempotency-Key needs Content-Digest"
            )
        body = digest.encode()
    parts = (request.method, request.path, repr(query), request.mimetype)
    return fingerprint(*(part.encode() for part in parts), body)


def _operation() -> Operation:
    return cast("Operation", g.operation)


def unknown_parameters(operation: Operation, sent: Iterable[str]) -> list[FieldError]:
    """One error for each query parameter that the operation doesn't have."""
    return [
        FieldError(
            f"?{name}",
            "unknown_parameter",
            "No such query parameter here",
            sorted(operation.query),
        )
        for name in sent
        if name not in operation.query
    ]


class SpecConverter(OpenAPIConverter):
    """apispec's, which writes an exclusive bound of ``Range`` as an inclusive one."""

    def field2range(self, field: Any, **kwargs: Any) -> dict[str, Any]:
        """The bounds of a field's ``Range``."""
        told: dict[str, Any] = super().field2range(field, **kwargs)
        for validator in field.validators:
            if isinstance(validator, Range):
                if not validator.min_inclusive and "minimum" in told:
                    told["exclusiveMinimum"] = told.pop("minimum")
                if not validator.max_inclusive and "maximum" in told:
                    told["exclusiveMaximum"] = told.pop("maximum")
        return told


class Api(flask_smorest.Api):
    """flask-smorest's Api with our problems, our converters and a mended spec."""

    ERROR_SCHEMA = Problem

    def __init__(self, app: Flask) -> None:
        self.operations: dict[tuple[str, str], Operation] = {}
        app.url_map.converters |= {
            "name": NameConverter,
            "id": IdConverter,
            "key_id": KeyIdConverter,
            "n": NumberConverter,
        }
        plugin = MarshmallowPlugin()
        plugin.Converter = SpecConverter
        super().__init__(app, spec_kwargs={"marshmallow_plugin": plugin})
        self.register_converter(
            NameConverter, lambda _: {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
        )
        self.register_converter(
            KeyIdConverter, lambda _: {"type": "string", "pattern": f"^{KeyIdConverter.regex}$"}
        )
        self.register_converter(IdConverter, lambda _: {"type": "string", "format": "uuid"})
        self.register_converter(
            NumberConverter, lambda _: {"type": "integer", "minimum": 1, "maximum": 999_999_999}
        )

    def register_blueprint(self, blp: Blueprint, **options: Any) -> None:
        """Register a service's routes and remember what each operation needs."""
        super().register_blueprint(blp, **options)
        self.operations |= blp.operations

    def _register_error_handlers(self) -> None:
        """Ours are registered by ``problems``."""

    def _register_responses(self) -> None:
        self.DEFAULT_RESPONSE_CONTENT_TYPE = CONTENT_TYPE
        try:
            super()._register_responses()
        finally:
            del self.DEFAULT_RESPONSE_CONTENT_TYPE

    def check(self, app: Flask, public_endpoints: frozenset[str]) -> None:
        """Raise TypeError when a rule of the app is neither ours nor marked public."""
        known = {endpoint for endpoint, _ in self.operations}
        for rule in app.url_map.iter_rules():
            if rule.endpoint not in known | public_endpoints:
                raise TypeError(f"{rule.rule} has neither a scope nor an explicit public mark")
