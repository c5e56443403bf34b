"""The one place where flask-smorest is tuned. Services use its decorators plainly.

What is added or mended: every operation has an operationId and a scope; failures and their
documentation are ``application/problem+json``; unknown query parameters are refused; ETag,
If-None-Match and Location come from the resource that a view returns; ``Blueprint.creates`` gives
a POST its Idempotency-Key.

A request goes: host, request id, route, key, scope, query names (``guard_request``), then the
view's arguments, then the view.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ClassVar, cast

import flask_smorest
import msgspec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response, current_app, g, request
from marshmallow import Schema
from werkzeug.datastructures import MultiDict

from app.kernel import errors
from app.kernel.auth import Access, Call
from app.kernel.changes import Result
from app.kernel.errors import FieldError, Invalid
from app.kernel.http.bodies import (
    JSON_TYPES,
    StrictParser,
    content_coding,
    has_no_body,
    json_body,
)
from app.kernel.http.fields import example_of
from app.kernel.http.problems import CONTENT_TYPE, Problem, problem_example
from app.kernel.http.routes import CONVERTERS, PATH_SCHEMAS
from app.kernel.http.spec import (
    HEADERS,
    PROBLEMS,
    SpecConverter,
    document,
    document_idempotency,
    problem_headers,
    query_names,
)
from app.kernel.idempotency import Answer, HeldKey, IdempotencyStore, fingerprint
from app.kernel.peers import PREFIX

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")


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
        self._rule = ""

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
            name = document(docs, obj, method, access, rule=self._rule)
            self.operations[f"{self.name}.{endpoint}", method] = Operation(
                name, access.scopes, query_names(docs), self.service
            )

    def register_views_in_doc(self, api: "Api", *args: Any, **options: Any) -> None:
        """flask-smorest's, put off until the document is asked for."""
        api.undocumented.append(partial(super().register_views_in_doc, api, *args, **options))

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Flask's, remembering the rule for the documentation that follows from it."""
        self._rule = rule
        super().add_url_rule(rule, *args, **options)

    def response(self, status_code: int, schema: Any = None, **kwargs: Any) -> Any:
        """flask-smorest's, with ETag, 304 and Location from the resource that is returned."""
        _show_example(schema, kwargs)
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

    def alt_response(self, status_code: int, response: Any = None, **kwargs: Any) -> Any:
        """flask-smorest's, with the schema's example."""
        _show_example(kwargs.get("schema"), kwargs)
        return super().alt_response(status_code, response, **kwargs)

    def creates(
        self, status_code: int, schema: Any, *, headers: Sequence[str] = (), **kwargs: Any
    ) -> Any:
        """``response`` for a POST that creates: takes an Idempotency-Key.

        ``headers`` are its own: with others of them it is another request.
        """
        outer = self.response(status_code, schema, **kwargs)
        instance: Schema = schema() if isinstance(schema, type) else schema

        def decorate(view: Callable[..., Any]) -> Any:
            @wraps(view)
            def held(*args: Any, **options: Any) -> Any:
                key = request.headers.get("Idempotency-Key")
                if key is None:
                    return view(*args, **options)
                return _idempotently(
                    key, headers, lambda: view(*args, **options), instance, status_code
                )

            decorated = outer(held)
            document_idempotency(decorated._apidoc)  # noqa: SLF001
            return decorated

        return decorate


def _show_example(schema: Any, documentation: dict[str, Any]) -> None:
    instance = schema() if isinstance(schema, type) else schema
    if isinstance(instance, Schema) and not {"example", "examples"} & set(documentation):
        documentation["example"] = example_of(instance)


def _status_of(result: Any, usual: int) -> int:
    return result.http_status if isinstance(result, Result) else usual


def resource_headers(result: Any, status: int) -> dict[str, str]:
    """ETag of a resource and, where it was just created or accepted, its Location."""
    headers = {"ETag": f'"{result.etag}"'}
    if status in (201, 202):
        headers["Location"] = f"{PREFIX}/{result.subject}"
    return headers


def _idempotently(
    key: str, told_by: Sequence[str], view: Callable[[], Any], schema: Schema, status: int
) -> Any:
    """Run the view under the key, or repeat the answer that the key already has."""
    if not _KEY_PATTERN.fullmatch(key):
        raise Invalid.at("Idempotency-Key", "invalid", "1 to 255 visible ASCII characters")
    call = current_call()
    store = cast("IdempotencyStore", current_app.extensions["idempotency"][_operation().service])

    def render(result: Any) -> Answer:
        body = msgspec.json.encode(schema.dump(result)).decode()
        own = _status_of(result, status)
        return Answer(own, body, resource_headers(result, own))

    held = store.reserve(call, key, _fingerprint(told_by), render)
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


def _fingerprint(headers: Sequence[str]) -> str:
    """Method, path, query, headers and body; of an upload its Content-Digest stands for the body.

    Those of the headers that say how the body is to be read, and the operation's own.
    """
    query = sorted(request.args.items(multi=True))
    if request.mimetype in JSON_TYPES or "body" in g or has_no_body(request):
        body = json_body(request)
    else:
        digest = request.headers.get("Content-Digest")
        if digest is None:
            raise Invalid.at(
                "Content-Digest", "required", "An upload with Idempotency-Key needs Content-Digest"
            )
        body = digest.encode()
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    read_as = (request.mimetype, charset, content_coding(request))
    own = (request.headers.get(name, "") for name in headers)
    parts = (request.method, request.path, repr(query), *read_as, *own)
    return fingerprint(*(part.encode() for part in parts), body)


def _operation() -> Operation:
    return cast("Operation", g.operation)


def query_faults(operation: Operation, sent: MultiDict[str, str]) -> list[FieldError]:
    """One error for each query parameter that isn't the operation's, comes twice or has a NUL."""
    unknown = [
        FieldError(
            f"?{name}",
            "unknown_parameter",
            "No such query parameter here",
            sorted(operation.query),
        )
        for name in sent
        if name not in operation.query
    ]
    twice = [
        FieldError(f"?{name}", "repeated", "Send it once")
        for name, values in sent.lists()
        if name in operation.query and len(values) > 1
    ]
    nul = [
        FieldError(f"?{name}", "invalid_text", "NUL can't be kept")
        for name, value in sent.items()
        if name in operation.query and "\0" in value
    ]
    return unknown + twice + nul


class Api(flask_smorest.Api):
    """flask-smorest's Api with our problems, our converters and a mended spec."""

    ERROR_SCHEMA = Problem

    def __init__(self, app: Flask) -> None:
        self.operations: dict[tuple[str, str], Operation] = {}
        self.undocumented: list[Callable[[], None]] = []
        self._documenting = threading.Lock()
        app.url_map.converters |= CONVERTERS
        plugin = MarshmallowPlugin()
        plugin.Converter = SpecConverter
        super().__init__(app, spec_kwargs={"marshmallow_plugin": plugin})
        for converter, schema in PATH_SCHEMAS.items():
            self.register_converter(converter, lambda _, schema=schema: dict(schema))

    def register_blueprint(self, blp: Blueprint, **options: Any) -> None:
        """Register a service's routes and remember what each operation needs."""
        super().register_blueprint(blp, **options)
        self.operations |= blp.operations

    def document(self) -> dict[str, Any]:
        """The OpenAPI document, put together when first asked for: most processes never are."""
        with self._documenting:
            for register_views in self.undocumented:
                register_views()
            self.undocumented.clear()
            return dict(self.spec.to_dict())

    def _register_pagination_header(self) -> None:
        """Lists have their own shape; flask-smorest's header is never sent."""

    def _register_error_handlers(self) -> None:
        """Ours are registered by ``problems``."""

    def _register_responses(self) -> None:
        """The shared responses of failures, as problem+json, under the names of our errors."""
        for name, header in HEADERS.items():
            self.spec.components.header(name, header)
        kinds = {error.__name__: error.title for error in errors.tree()}
        for status, name in {**PROBLEMS, 500: "DEFAULT_ERROR"}.items():
            title = kinds.get(name, "Any other failure")
            content = {"schema": Problem, "example": problem_example(status, name, title)}
            response = {
                "description": title,
                "content": {CONTENT_TYPE: content},
                "headers": dict(problem_headers(status)),
            }
            self.spec.components.response(name, response)

    def check(self, app: Flask, public_endpoints: frozenset[str]) -> None:
        """Raise TypeError when a rule of the app is neither ours nor marked public."""
        known = {endpoint for endpoint, _ in self.operations}
        for rule in app.url_map.iter_rules():
            if rule.endpoint not in known | public_endpoints:
                raise TypeError(f"{rule.rule} has neither a scope nor an explicit public mark")


def api_of(app: Flask) -> Api:
    """The Api that an app was given."""
    return cast("Api", app.extensions["flask-smorest"]["apis"][""]["ext_obj"])
