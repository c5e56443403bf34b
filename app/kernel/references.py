"""What refers to what: the question that a service asks its peers before it deletes something."""

from typing import ClassVar

from marshmallow import fields
from marshmallow.validate import Range

from app.kernel.http.fields import Input, Name, Output, QueryInteger


class ReferenceQuery(Input):
    """The thing asked about: of which kind, and of one version or of any."""

    dataset = Name(load_default=None)
    model = Name(load_default=None)
    version = QueryInteger(load_default=None, validate=Range(1, 999_999_999))


class Reference(Output):
    """Something that needs the thing asked about."""

    EXAMPLE: ClassVar = {
        "subject": "training-runs/01a203dd-2710-7023-bd67-9d8929f69490",
        "state": "running",
        "reason": "the run has not ended",
    }

    subject = fields.String(required=True)
    state = fields.String(required=True)
    reason = fields.String(required=True)


class Referrer(Output):
    """Something that needs a thing to stay, and whose it is."""

    service = fields.String(required=True)
    subject = fields.String(required=True)
    state = fields.String(required=True)
    reason = fields.String(required=True)


class ReferenceList(Output):
    """What refers to the thing asked about."""

    items = fields.List(fields.Nested(Reference), required=True)
