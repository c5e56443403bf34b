"""What other services of ours send and get: registrations, locations, the states of models."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, INCLUDE, ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.kernel.artifacts.stored import Stored
from app.kernel.http.fields import Boolean, Integer, Name, Output, PeerInput, Tags
from app.models import examples
from app.models.schemas import (
    ENGINES,
    MOST_COLUMNS,
    TASKS,
    ModelArtifact,
    ModelVersionOut,
    Retention,
    SignatureColumnIn,
)
from app.models.tables import FORMATS, STATES
from app.models.versions import NewArtifact, Registration

_SERVED = ("joblib", "compiled")


class SignatureOutputIn(PeerInput):
    """What the model gives for a row."""

    task = fields.String(required=True, validate=OneOf(TASKS))
    classes = fields.List(fields.Raw(allow_none=True))
    probabilities = Boolean()
    clusters = Integer(allow_none=True)
    components = Integer()


class SignatureIn(PeerInput):
    """What the model takes and gives."""

    inputs = fields.List(
        fields.Nested(SignatureColumnIn, unknown=EXCLUDE),
        required=True,
        validate=Length(1, MOST_COLUMNS),
    )
    output = fields.Nested(SignatureOutputIn, required=True)


class LineageIn(PeerInput):
    """Where the version comes from; whatever else is told is kept."""

    class Meta:
        """Training may tell more than is asked about here."""

        unknown = INCLUDE

    dataset = Name(required=True)
    dataset_version = Integer(required=True, validate=Range(1))
    dataset_digest = fields.String(required=True, validate=Length(max=80))
    estimator = fields.Raw(required=True)
    random_state = Integer(required=True, allow_none=True)
    library_versions = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class ArtifactIn(PeerInput):
    """Bytes that lie in the store."""

    format = fields.String(required=True, validate=OneOf(FORMATS))
    key = fields.String(required=True, validate=Length(max=300))
    digest = fields.String(required=True, validate=Regexp(r"sha-256:[0-9a-f]{64}\Z"))
    bytes = Integer(required=True, validate=Range(0))


class ServingIn(PeerInput):
    """Which engine serves the version; whatever else is told is kept."""

    class Meta:
        """Training may tell more than is asked about here."""

        unknown = INCLUDE

    engine = fields.String(required=True, validate=OneOf(ENGINES))
    reason = fields.String(allow_none=True)
    verified = fields.Dict(allow_none=True)


class RegistrationIn(PeerInput):
    """A model that training has fitted."""

    training_run = fields.String(required=True, validate=Length(1, 36))
    task = fields.String(required=True, validate=OneOf(TASKS))
    signature = fields.Nested(SignatureIn, required=True)
    metrics = fields.Dict(keys=fields.String(), required=True)
    baseline = fields.Dict(keys=fields.String(), load_default=None, allow_none=True)
    lineage = fields.Nested(LineageIn, required=True)
    artifacts = fields.List(fields.Nested(ArtifactIn), required=True, validate=Length(1, 10))
    serving = fields.Nested(ServingIn, required=True)
    recipe = fields.List(fields.Dict(), required=True)
    tags = Tags(load_default=dict)

    @validates_schema
    def can_be_served(self, data: dict[str, Any], **_: Any) -> None:
        """An export alone is no model."""
        if not any(artifact["format"] in _SERVED for artifact in data["artifacts"]):
            raise ValidationError(f"One of {', '.join(_SERVED)} must be there.", "artifacts")


def registration(body: Mapping[str, Any]) -> Registration:
    """What was sent, in the service's words."""
    described = ("signature", "metrics", "baseline", "lineage", "serving", "recipe")
    artifacts = tuple(
        NewArtifact(sent["format"], Stored(sent["key"], sent["digest"], sent["bytes"]))
        for sent in body["artifacts"]
    )
    return Registration(
        training_run=body["training_run"],
        task=body["task"],
        artifacts=artifacts,
        document={name: body[name] for name in described},
        tags=body["tags"],
    )


class ModelVersionState(Output):
    """A version in short."""

    version = fields.Integer(required=True, attribute="number")
    id = fields.String(required=True)
    state = fields.String(required=True, validate=OneOf(STATES))


class ModelState(Output):
    """What those who serve a model must know of it."""

    EXAMPLE: ClassVar = examples.STATE

    model = fields.String(required=True, attribute="name")
    id = fields.String(required=True)
    newest_version = fields.Integer(required=True, allow_none=True)
    default_alias_version = fields.Integer(required=True, allow_none=True)
    aliases = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    retention = fields.Nested(Retention, required=True, allow_none=True)
    versions = fields.List(fields.Nested(ModelVersionState), required=True)


class LocatedArtifact(ModelArtifact):
    """Where bytes lie, and the MAC that vouches for them."""

    key = fields.String(required=True)
    mac = fields.String(required=True)


class ModelVersionLocation(ModelVersionOut):
    """All that is needed to load a version."""

    EXAMPLE: ClassVar = examples.LOCATION

    project = fields.String(required=True)
    id = fields.String(required=True)
    model_id = fields.String(required=True)
    subject = fields.String(
        required=True, metadata={"description": "The owner that the MACs name."}
    )
    artifacts = fields.List(fields.Nested(LocatedArtifact), required=True)
    recipe = fields.List(
        fields.Dict(), required=True, attribute="document.recipe", dump_default=list
    )
    library_versions = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
