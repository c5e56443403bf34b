"""What the OpenAPI document says of every operation without anybody writing it at each one.

The operationId comes from the view's name, security and the refusals that any caller may meet from
its mark and its path, If-Match from its method, If-None-Match and the headers of an answer from
what is answered. flask-smorest gathers what is written at a view in ``docs``; ``document``
completes it.
"""

from collections.abc import Iterator
from typing import Any

from apispec.ext.marshmallow import OpenAPIConverter
from flask.views import MethodView
from marshmallow.validate import Range

from app.kernel.auth import Access
from app.kernel.http.fields import Input, Integer, QueryInteger, Resource

IDEMPOTENCY_KEY: dict[str, Any] = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "A retry with the same key and the same body gets the first answer again.",
}
_TAGS = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'
IF_MATCH: dict[str, Any] = {
    "in": "header",
    "name": "If-Match",
    "required": False,
    "schema": {"type": "string", "pattern": _TAGS},
    "example": "*",
    "description": "Only if the resource still has this ETag; else 412.",
}
IF_NONE_MATCH: dict[str, Any] = {
    "in": "header",
    "name": "If-None-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "Only if the resource has another ETag by now; else 304.",
}
CONTENT_DIGEST: dict[str, Any] = {
    "in": "header",
    "name": "Content-Digest",
    "required": False,
    "schema": {"type": "string", "pattern": r"^sha-256=:[A-Za-z0-9+/]{43}=:$"},
    "description": "`sha-256=:<base64>:` of the body; must be there if it is chunked.",
}
RANGE: dict[str, Any] = {
    "in": "header",
    "name": "Range",
    "required": False,
    "schema": {"type": "string"},
    "description": "`bytes=0-1023`: only that part of the file.",
}
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.001, 3600
REQUEST_TIMEOUT: dict[str, Any] = {
    "in": "header",
    "name": "X-Request-Timeout",
    "required": False,
    "schema": {"type": "number", "minimum": SHORTEST_TIMEOUT, "maximum": LONGEST_TIMEOUT},
    "description": "Seconds for which the caller waits; past them the answer is 504.",
}
_TEXT = {"type": "string", "minLength": 1}
_SECONDS = {"type": "integer", "minimum": 1}


def _header(description: str, schema: dict[str, Any], *, always: bool = True) -> dict[str, Any]:
    return {"description": description, "schema": schema, "required": always}


HEADERS = {
    "X-Request-Id": _header("The request's own, where it sent a sound one; in our logs.", _TEXT),
    "Vary": _header("Every answer varies by `Authorization`.", _TEXT),
    "ETag": _header("Changes with the resource; for If-Match and If-None-Match.", _TEXT),
    "Location": _header("Path of what was made, or of what makes it.", _TEXT),
    "Idempotent-Replayed": _header(
        "`true`: the stored answer of an earlier request with this Idempotency-Key.",
        {"type": "string", "const": "true"},
        always=False,
    ),
    "Retry-After": _header("Seconds after which to try again.", _SECONDS),
    "Retry-After-Conflict": _header(
        "Seconds after which to try again: the request with this Idempotency-Key is not over.",
        _SECONDS,
        always=False,
    ),
    "RateLimit-Policy": _header(
        "Where keys have a quota: `q` requests at once, all of them back after `w` seconds.",
        {**_TEXT, "examples": ['"key";q=100;w=10']},
        always=False,
    ),
    "RateLimit": _header(
        "Where keys have a quota: `r` requests are left; after `t` seconds all are back.",
        {**_TEXT, "examples": ['"key";r=99;t=1']},
        always=False,
    ),
    "WWW-Authenticate": _header("`Bearer`.", _TEXT),
    "Allow": _header("With 405: the methods that there are.", _TEXT, always=False),
    "Accept-Ranges": _header("`bytes`.", _TEXT),
    "Content-Range": _header("Which bytes of how many.", _TEXT),
    "Content-Disposition": _header("A name for the file.", _TEXT),
    "Content-Digest": _header("SHA-256 of the body (RFC 9530).", _TEXT),
    "X-Model-Version": _header(
        "Number of the version that answered, where the body has no place for it.",
        {"type": "integer", "minimum": 1},
        always=False,
    ),
    "X-Model-Engine": _header(
        "What answered, where the body has no place for it.",
        {"type": "string", "enum": ["compiled", "sklearn"]},
        always=False,
    ),
    "Repr-Digest": _header("SHA-256 of the whole file (RFC 9530).", _TEXT),
}
ALWAYS = {"X-Request-Id": "X-Request-Id", "Vary": "Vary"}
QUOTA = {name: name for name in ("RateLimit-Policy", "RateLimit")}
_FILE = ("ETag", "Accept-Ranges", "Content-Disposition", "Repr-Digest")
WHOLE_FILE = {name: name for name in (*_FILE, "Content-Digest")}
PART_OF_FILE = {name: name for name in (*_FILE, "Content-Range")}
PROBLEMS = {
    400: "Malformed",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "NotFound",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Gone",
    411: "LengthRequired",
    412: "PreconditionFailed",
    413: "TooLarge",
    415: "UnsupportedMediaType",
    416: "RangeNotSatisfiable",
    422: "Invalid",
    429: "TooManyRequests",
    503: "Unavailable",
    504: "DeadlineExceeded",
    507: "StorageFull",
}
_VERBS = {"GET": "get", "PUT": "put", "PATCH": "update", "DELETE": "delete", "POST": "create"}


class Action(MethodView):
    """A view of one POST that does something; its operationId is the class's name."""


def operation_id(view: type[MethodView], method: str) -> str:
    """``listDatasets``, ``createDataset``, ``getDataset`` .. from the class's name."""
    name = view.__name__
    if issubclass(view, Action):
        return name[0].lower() + name[1:]
    plural = name.endswith("s") and hasattr(view, "get")
    if plural and method == "GET":
        return f"list{name}"
    if plural and method == "POST":
        return "create" + (f"{name[:-3]}y" if name.endswith("ies") else name[:-1])
    return _VERBS[method] + name


def document(
    docs: dict[str, Any], view: type[MethodView], method: str, access: Access, *, rule: str
) -> str:
    """Complete what is documented of an operation; its operationId."""
    manual = docs.setdefault("manual_doc", {})
    manual.setdefault("operationId", operation_id(view, method))
    manual["security"] = [{"key": []}] if access.scopes else []
    if access.scopes:
        manual["x-scope"] = access.scopes[0]
    by_hand = manual.pop("parameters", [])
    if _changes_one(method, rule):
        by_hand.append(IF_MATCH)
    if method == "GET" and any(_tagged(told) for _, told in _answers(docs)):
        by_hand.append(IF_NONE_MATCH)
    if access.scopes:
        by_hand.append(REQUEST_TIMEOUT)
    if by_hand:
        # Beside those of the arguments: in the manual part the list would replace them.
        docs.setdefault("arguments", {}).setdefault("parameters", []).extend(by_hand)
    responses = docs.setdefault("response", {}).setdefault("responses", {})
    # By our names: those of Python's HTTPStatus change between its versions.
    docs.get("arguments", {}).pop("responses", None)
    for status in sorted(_refusals(docs, method, access, rule)):
        responses.setdefault(status, [PROBLEMS[status]])
    _document_headers(docs, method)
    return str(manual["operationId"])


def problem_headers(status: int) -> dict[str, str]:
    """The headers of a failure: each by its name in ``HEADERS``."""
    more = {
        401: {"WWW-Authenticate": "WWW-Authenticate"},
        409: {"Retry-After": "Retry-After-Conflict"},
        416: {"Content-Range": "Content-Range"},
        429: {"Retry-After": "Retry-After"},
        500: {"Allow": "Allow"},
        503: {"Retry-After": "Retry-After"},
    }
    # Who isn't known has no quota.
    return ALWAYS | ({} if status == 401 else QUOTA) | more.get(status, {})


def _answers(docs: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The answers that are described in place, with their status."""
    for status, listed in docs.get("response", {}).get("responses", {}).items():
        yield from ((int(status), told) for told in listed if isinstance(told, dict))
    for status, told in docs.get("manual_doc", {}).get("responses", {}).items():
        if "$ref" not in told:
            yield int(status), told


def _tagged(told: dict[str, Any]) -> bool:
    return isinstance(told.get("schema"), Resource) or "ETag" in told.get("headers", {})


def _document_headers(docs: dict[str, Any], method: str) -> None:
    """Tell of the headers of each answer, and of 304 where a resource is asked for."""
    responses = docs["response"]["responses"]
    keyed = any("Idempotency-Key" in names for names in _header_names(docs))
    if method == "GET" and any(_tagged(told) for _, told in _answers(docs)):
        unchanged = {"description": "It is what the client has", "headers": {"ETag": "ETag"}}
        responses[304] = [{**unchanged, "content_type": None}]
    for status, told in _answers(docs):
        headers = dict(problem_headers(status) if docs["manual_doc"]["security"] else ALWAYS)
        if isinstance(told.get("schema"), Resource):
            headers["ETag"] = "ETag"
            if status in (201, 202):
                headers["Location"] = "Location"
        if keyed and status < 300:
            headers["Idempotent-Replayed"] = "Idempotent-Replayed"
        told["headers"] = headers | told.get("headers", {})


def _header_names(docs: dict[str, Any]) -> Iterator[set[str]]:
    for parameter in docs.get("arguments", {}).get("parameters", ()):
        if parameter["in"] == "header":
            yield {parameter["name"]}
        elif parameter["in"] == "headers":
            yield _names_of(parameter["schema"])


def _names_of(schema: Any) -> set[str]:
    """The names under which a schema's fields are sent."""
    instance = schema() if isinstance(schema, type) else schema
    return {field.data_key or name for name, field in instance.fields.items()}


def _refusals(docs: dict[str, Any], method: str, access: Access, rule: str) -> list[int]:
    """The failures that an operation may answer with."""
    found = [400]
    if access.scopes:
        found += [401, 403, 422, 429, 503, 504]
    if "<" in rule:
        found += [404]
    if method != "GET":
        found += [409, 507]
    if _changes_one(method, rule):
        found += [412]
    if _has_body(docs):
        found += [413, 415]
    return found


def _changes_one(method: str, rule: str) -> bool:
    """Whether an operation changes one thing, not what a filter finds."""
    return method in ("PUT", "PATCH", "DELETE") and rule.endswith(">")


def _has_body(docs: dict[str, Any]) -> bool:
    arguments = docs.get("arguments", {}).get("parameters", ())
    return "requestBody" in docs["manual_doc"] or any(a["in"] == "json" for a in arguments)


def document_idempotency(docs: dict[str, Any]) -> None:
    """Tell of the Idempotency-Key of a POST that creates."""
    manual = docs.setdefault("manual_doc", {})
    manual.setdefault("parameters", []).append(IDEMPOTENCY_KEY)


def query_names(docs: dict[str, Any]) -> frozenset[str]:
    """The names of an operation's query parameters."""
    names: set[str] = set()
    for parameter in docs.get("arguments", {}).get("parameters", ()):
        if parameter["in"] != "query":
            continue
        if "name" in parameter:
            names.add(parameter["name"])
            continue
        names |= _names_of(parameter["schema"])
    return frozenset(names)


def _null_apart(told: dict[str, Any]) -> dict[str, Any]:
    """A choice that may be null, as a choice or null: null isn't one more value of its type."""
    if None not in told.get("enum", ()):
        return told
    rest = {name: value for name, value in told.items() if name not in ("type", "enum")}
    kind = next(kind for kind in told["type"] if kind != "null")
    values = [value for value in told["enum"] if value is not None]
    return {**rest, "anyOf": [{"type": kind, "enum": values}, {"type": "null"}]}


class SpecConverter(OpenAPIConverter):
    """apispec's, mended where it says what isn't so, or less than is known."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """A schema's fields, and what it asks for beyond them."""
        told: dict[str, Any] = super().schema2jsonschema(schema)
        properties = told.get("properties", {})
        properties |= {name: _null_apart(property_) for name, property_ in properties.items()}
        return {**told, **schema.BEYOND_FIELDS} if isinstance(schema, Input) else told

    def field2range(self, field: Any, **kwargs: Any) -> dict[str, Any]:
        """The bounds of a field's ``Range``: an exclusive one is written as an inclusive one."""
        told: dict[str, Any] = super().field2range(field, **kwargs)
        for validator in field.validators:
            if isinstance(validator, Range):
                if not validator.min_inclusive and "minimum" in told:
                    told["exclusiveMinimum"] = told.pop("minimum")
                if not validator.max_inclusive and "maximum" in told:
                    told["exclusiveMaximum"] = told.pop("maximum")
        if isinstance(field, Integer | QueryInteger):
            told = {"minimum": -(2**63), "maximum": 2**63 - 1, **told}
        return told

    def field2length(self, field: Any, **kwargs: Any) -> dict[str, Any]:
        """The bounds of a field's length, and of the keys of one with free keys."""
        told: dict[str, Any] = super().field2length(field, **kwargs)
        key = getattr(field, "key_field", None)
        bounds = self.field2length(key) if key is not None else {}
        return {**told, "propertyNames": bounds} if bounds else told

    def _field2parameter(self, field: Any, *, name: str, location: str) -> dict[str, Any]:
        """A parameter: a query string can't say null, whatever the field's default is."""
        told: dict[str, Any] = super()._field2parameter(field, name=name, location=location)
        schema = told.get("schema", {})
        if isinstance(schema.get("type"), list):
            schema["type"] = next(kind for kind in schema["type"] if kind != "null")
        if "enum" in schema:
            schema["enum"] = [value for value in schema["enum"] if value is not None]
        if schema.get("default", "") is None:
            del schema["default"]
        return told
