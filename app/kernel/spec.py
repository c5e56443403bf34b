"""What the OpenAPI document says of every operation without anybody writing it at each one.

The operationId comes from the view's name, security and the refusals that any caller may meet from
its mark and its path, If-Match from its method. flask-smorest gathers what is written at a view in
``docs``; ``document`` completes it.
"""

from typing import Any

from apispec.ext.marshmallow import OpenAPIConverter
from flask.views import MethodView
from marshmallow.validate import Range

from app.kernel.auth import Access

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
PROBLEMS = {
    400: "Malformed",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "NotFound",
    406: "NotAcceptable",
    409: "Conflict",
    411: "LengthRequired",
    412: "PreconditionFailed",
    413: "TooLarge",
    415: "UnsupportedMediaType",
    416: "RangeNotSatisfiable",
    422: "Invalid",
    429: "TooManyRequests",
    503: "Unavailable",
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
    if method in ("PUT", "PATCH", "DELETE"):
        by_hand.append(_IF_MATCH_PARAMETER)
    if by_hand:
        # Beside those of the arguments: in the manual part the list would replace them.
        docs.setdefault("arguments", {}).setdefault("parameters", []).extend(by_hand)
    responses = docs.setdefault("response", {}).setdefault("responses", {})
    # By our names: those of Python's HTTPStatus change between its versions.
    docs.get("arguments", {}).pop("responses", None)
    for status in sorted(_refusals(docs, method, access, rule)):
        responses.setdefault(status, [PROBLEMS[status]])
    return str(manual["operationId"])


def _refusals(docs: dict[str, Any], method: str, access: Access, rule: str) -> list[int]:
    """The failures that an operation may answer with."""
    found = [400]
    if access.scopes:
        found += [401, 403, 422, 503]
    if "<" in rule:
        found += [404]
    if method != "GET":
        found += [409]
    if method in ("PUT", "PATCH", "DELETE"):
        found += [412]
    if _has_body(docs):
        found += [413, 415, 507]
    return found


def _has_body(docs: dict[str, Any]) -> bool:
    arguments = docs.get("arguments", {}).get("parameters", ())
    return "requestBody" in docs["manual_doc"] or any(a["in"] == "json" for a in arguments)


def document_idempotency(docs: dict[str, Any]) -> None:
    """Tell of the Idempotency-Key of a POST that creates."""
    manual = docs.setdefault("manual_doc", {})
    manual.setdefault("parameters", []).append(_IDEMPOTENCY_PARAMETER)


def query_names(docs: dict[str, Any]) -> frozenset[str]:
    """The names of an operation's query parameters."""
    names: set[str] = set()
    for parameter in docs.get("arguments", {}).get("parameters", ()):
        if parameter["in"] != "query":
            continue
        if "name" in parameter:
            names.add(parameter["name"])
            continue
        schema = parameter["schema"]
        instance = schema() if isinstance(schema, type) else schema
        names |= {field.data_key or name for name, field in instance.fields.items()}
    return frozenset(names)


class SpecConverter(OpenAPIConverter):
    """apispec's, mended where it says what isn't so."""

    def field2range(self, field: Any, **kwargs: Any) -> dict[str, Any]:
        """The bounds of a field's ``Range``: an exclusive one is written as an inclusive one."""
        told: dict[str, Any] = super().field2range(field, **kwargs)
        for validator in field.validators:
            if isinstance(validator, Range):
                if not validator.min_inclusive and "minimum" in told:
                    told["exclusiveMinimum"] = told.pop("minimum")
                if not validator.max_inclusive and "maximum" in told:
                    told["exclusiveMaximum"] = told.pop("maximum")
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
