"""Projects, keys, audit rows and events over the wire."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from app.access.service import ROLES, SCOPES
from app.kernel.http.fields import Input, Name, Output, QueryInteger, Resource, UtcTime


class ProjectIn(Input):
    """A new project."""

    name = Name(required=True)
    description = fields.String(load_default="", validate=Length(max=1000))


class ProjectOut(Resource):
    """A tenant: datasets, models, runs and predictions of one never meet those of another."""

    EXAMPLE: ClassVar = {
        "name": "team-a",
        "description": "Churn models",
        "created_at": "2026-01-01T00:00:00Z",
    }

    name = fields.String(required=True)
    description = fields.String(required=True)
    created_at = UtcTime(required=True)


class ProjectList(Output):
    """A page of projects."""

    items = fields.List(fields.Nested(ProjectOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class KeyIn(Input):
    """A new key: scopes, a role, or both."""

    BEYOND_FIELDS: ClassVar = {
        "if": {"required": ["role"], "properties": {"role": {"type": "string"}}},
        "else": {"required": ["scopes"], "properties": {"scopes": {"minItems": 1}}},
    }

    name = fields.String(required=True, validate=Length(min=1, max=100))
    scopes = fields.List(
        fields.String(validate=OneOf(SCOPES)), load_default=list, validate=Length(max=50)
    )
    role = fields.String(load_default=None, validate=OneOf(tuple(ROLES)))
    project = Name(load_default=None)
    expires_at = UtcTime(load_default=None)

    @validates_schema
    def something(self, data: dict[str, Any], **_: Any) -> None:
        """A key that may do nothing is a mistake."""
        if not data["scopes"] and data["role"] is None:
            raise ValidationError("Give scopes or a role.", "scopes")


class KeyOut(Resource):
    """A key without its secret."""

    EXAMPLE: ClassVar = {
        "key_id": "Zk3vQ9aB",
        "name": "notebook",
        "project": "default",
        "scopes": ["models:read"],
        "created_by": "Ab12Cd34",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": None,
        "revoked_at": None,
    }

    key_id = fields.String(required=True, metadata={"description": "The part that may be shown."})
    name = fields.String(required=True)
    project = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    created_by = fields.String(required=True)
    created_at = UtcTime(required=True)
    expires_at = UtcTime(required=True, allow_none=True)
    revoked_at = UtcTime(required=True, allow_none=True)


class KeyMade(KeyOut):
    """A key just made: the only answer that ever holds its secret."""

    EXAMPLE: ClassVar = {**KeyOut.EXAMPLE, "secret": "myk_Zk3vQ9aB_.."}

    secret = fields.String(
        required=True, allow_none=True, metadata={"description": "Null in a repeated answer."}
    )


class KeyList(Output):
    """A page of keys."""

    items = fields.List(fields.Nested(KeyOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class AuditQuery(Input):
    """Where in the audit trail to read."""

    page_size = QueryInteger(load_default=50, validate=Range(1, 500))
    page_token = fields.String(load_default=None, validate=Length(max=36))


class KeyRecordOut(Output):
    """What tells a key's bearer from others, and what the bearer may do."""

    EXAMPLE: ClassVar = {
        "project": "default",
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "scopes": ["models:read"],
        "expires_at": None,
        "revoked_at": None,
    }

    project = fields.String(required=True)
    digest = fields.String(required=True, attribute="hexdigest")
    scopes = fields.List(fields.String(), required=True)
    expires_at = UtcTime(required=True, allow_none=True)
    revoked_at = UtcTime(required=True, allow_none=True)


class AuditOut(Output):
    """Who did what, from where, and what came of it."""

    EXAMPLE: ClassVar = {
        "id": "01a203dd-2710-7023-bd67-9d8929f69490",
        "time": "2026-01-01T00:00:00Z",
        "key_id": "Zk3vQ9aB",
        "peer": None,
        "address": "127.0.0.1",
        "request_id": "5a3b",
        "action": "key.created",
        "subject": "keys/Ab12Cd34",
        "outcome": "done",
        "count": 1,
        "detail": {"name": "notebook"},
    }

    id = fields.String(required=True)
    time = UtcTime(required=True)
    key_id = fields.String(required=True)
    peer = fields.String(required=True, allow_none=True)
    address = fields.String(required=True)
    request_id = fields.String(required=True)
    action = fields.String(required=True)
    subject = fields.String(required=True)
    outcome = fields.String(required=True, validate=OneOf(("done", "denied")))
    count = fields.Integer(required=True)
    detail = fields.Dict(required=True, allow_none=True)


class AuditList(Output):
    """A page of the audit trail, newest first."""

    items = fields.List(fields.Nested(AuditOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class EventQuery(Input):
    """From where, and how long, to read events."""

    after = fields.String(load_default=None, validate=Length(max=200))
    limit = QueryInteger(load_default=100, validate=Range(1, 1000))
    wait = QueryInteger(load_default=0, validate=Range(0, 30))
    source = fields.String(load_default=None, validate=Length(max=32))


class EventOut(Output):
    """A CloudEvent 1.0."""

    EXAMPLE: ClassVar = {
        "specversion": "1.0",
        "id": "01a203dd-26fa-784e-ba95-0b8f24d0d229",
        "source": "/models",
        "type": "modelyard.alias.moved",
        "subject": "models/penguins/aliases/champion",
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"model": "penguins", "alias": "champion", "version": 2, "previous": 1},
        "project": "default",
        "requestid": "5a3b",
    }

    specversion = fields.String(required=True)
    id = fields.String(required=True)
    source = fields.String(required=True)
    type = fields.String(required=True)
    subject = fields.String(required=True)
    time = fields.String(required=True)
    datacontenttype = fields.String(required=True)
    data = fields.Dict(required=True)
    project = fields.String(required=True)
    requestid = fields.String(required=True)


class EventList(Output):
    """Events in the order of their commits, and the position to go on from."""

    items = fields.List(fields.Nested(EventOut), required=True)
    next_position = fields.String(required=True)
