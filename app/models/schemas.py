"""Models, versions, aliases and artifacts over the wire."""

from typing import Any, ClassVar

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import (
    Boolean,
    Float,
    Input,
    Integer,
    Name,
    Output,
    Resource,
    Tags,
    UtcTime,
    described,
)
from app.kernel.long_work.views import RefusedPlace, WorkError
from app.kernel.references import Referrer
from app.lineage import Origin
from app.models import examples
from app.models.aliases import MOVES
from app.models.tables import FORMATS, STATES

TASKS = ("classification", "regression", "clustering", "outlier_detection", "decomposition")
TYPES = ("integer", "number", "boolean", "string", "datetime")
ENGINES = ("compiled", "sklearn")
MOST_COLUMNS = 10_000
_METRICS = {"additionalProperties": {"type": ["number", "null"]}}


def _description(**options: Any) -> fields.String:
    return fields.String(validate=Length(max=1000), **options)


class RetentionIn(Input):
    """How long stored predictions and, by their age, batch predictions are kept."""

    max_age_days = Integer(validate=Range(1, 36_500))
    max_rows = Integer(validate=Range(1, 10**12))


class ModelIn(Input):
    """A new model."""

    name = Name(required=True)
    description = _description(load_default="")
    tags = Tags(load_default=dict)
    retention = fields.Nested(RetentionIn, load_default=None, allow_none=True)


class ModelPatch(Input):
    """What of a model is to change; what is not named stays."""

    description = _description()
    tags = Tags(metadata=described("All tags that it is to have."))
    retention = fields.Nested(
        RetentionIn, allow_none=True, metadata=described("All of it; null: keep predictions.")
    )


class Retention(Output):
    """How long stored predictions and, by their age, batch predictions are kept."""

    max_age_days = fields.Integer()
    max_rows = fields.Integer()


class ModelOut(Resource):
    """A name under which versions are numbered."""

    EXAMPLE: ClassVar = examples.MODEL

    name = fields.String(required=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    retention = fields.Nested(Retention, required=True, allow_none=True)
    newest_version = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described("The newest version that is ready; null: there is none."),
    )
    default_version = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described(
            "What the bare name stands for: the alias `champion`, else the newest version."
        ),
    )
    aliases = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata=described("Where each alias points."),
    )
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class ModelList(Output):
    """A page of models."""

    items = fields.List(fields.Nested(ModelOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class SignatureColumnIn(Input):
    """A column that the model takes."""

    name = fields.String(required=True, validate=Length(min=1, max=1000))
    type = fields.String(required=True, validate=OneOf(TYPES))
    nullable = Boolean(required=True)


class ImportSignatureIn(Input):
    """The columns of an imported model in their order; what it gives is found out."""

    inputs = fields.List(
        fields.Nested(SignatureColumnIn), required=True, validate=Length(1, MOST_COLUMNS)
    )


class ImportIn(Input):
    """What a form may say besides its file; `signature` and `tags` are JSON."""

    description = _description(load_default="")
    tags = Tags(load_default=dict)
    signature = fields.Nested(ImportSignatureIn, load_default=None)


class SignatureColumn(Output):
    """A column that the model takes."""

    name = fields.String(required=True)
    type = fields.String(required=True, validate=OneOf(TYPES))
    nullable = fields.Boolean(required=True)


class SignatureOutput(Output):
    """What the model gives for a row."""

    task = fields.String(required=True, validate=OneOf(TASKS))
    # apispec adds "null" by itself where None is allowed.
    classes = fields.List(
        fields.Raw(allow_none=True, metadata={"type": ["string", "number", "boolean"]})
    )
    probabilities = fields.Boolean()
    clusters = fields.Integer(allow_none=True)
    components = fields.Integer()


class Signature(Output):
    """What the model takes and gives."""

    inputs = fields.List(fields.Nested(SignatureColumn), required=True)
    output = fields.Nested(SignatureOutput, required=True)


class Lineage(Output):
    """Where a version comes from: a training run, or a client's file (`source_digest`)."""

    training_run = fields.String(required=True, allow_none=True)
    dataset = fields.String(required=True, allow_none=True, dump_default=None)
    dataset_version = fields.Integer(required=True, allow_none=True, dump_default=None)
    dataset_digest = fields.String(required=True, allow_none=True, dump_default=None)
    dataset_origin = fields.Nested(
        Origin,
        required=True,
        allow_none=True,
        dump_default=None,
        metadata=described("Where the dataset was made of a topic's records."),
    )
    target = fields.String(required=True, allow_none=True, dump_default=None)
    estimator = fields.Raw(
        required=True,
        allow_none=True,
        dump_default=None,
        metadata={
            "type": ["string", "object"],
            **described("As the run requested it, and all that it came to."),
        },
    )
    random_state = fields.Integer(required=True, allow_none=True, dump_default=None)
    validation = fields.Dict(required=True, allow_none=True, dump_default=None)
    library_versions = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, dump_default=dict
    )
    source_digest = fields.String(required=True, allow_none=True, dump_default=None)


class ModelArtifact(Output):
    """Bytes that can be downloaded."""

    format = fields.String(required=True, validate=OneOf(FORMATS))
    digest = fields.String(required=True)
    bytes = fields.Integer(required=True)


class Verified(Output):
    """How the compiled form was compared with scikit-learn."""

    rows = fields.Integer(required=True, allow_none=True, dump_default=None)
    max_abs_diff = Float(required=True, allow_none=True, dump_default=None)
    label_flips = fields.Integer(required=True, allow_none=True, dump_default=None)


class Serving(Output):
    """Which engine serves the version, and why."""

    engine = fields.String(required=True, validate=OneOf(ENGINES))
    reason = fields.String(required=True, allow_none=True, dump_default=None)
    verified = fields.Nested(Verified, required=True, allow_none=True, dump_default=None)


class ModelFault(RefusedPlace):
    """One reason why a file was refused, and where."""


class ModelVersionError(WorkError):
    """Why a version can't be used."""

    errors = fields.List(fields.Nested(ModelFault), required=True, dump_default=list)


class ModelWarning(Output):
    """Something about a version that its owner may want to know."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class ModelVersionSummary(Output):
    """A version without its signature."""

    EXAMPLE: ClassVar = examples.SUMMARY

    model = fields.String(required=True)
    version = fields.Integer(required=True, attribute="number")
    state = fields.String(
        required=True,
        validate=OneOf(STATES),
        metadata=described("`corrupt`: its stored bytes are not those that were signed."),
    )
    task = fields.String(required=True, allow_none=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    metrics = fields.Dict(
        keys=fields.String(),
        required=True,
        attribute="document.metrics",
        dump_default=dict,
        metadata=_METRICS,
    )
    lineage = fields.Nested(Lineage, required=True)
    artifacts = fields.List(fields.Nested(ModelArtifact), required=True)
    serving = fields.Nested(
        Serving, required=True, allow_none=True, attribute="document.serving", dump_default=None
    )
    error = fields.Nested(ModelVersionError, required=True, allow_none=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class ModelVersionOut(ModelVersionSummary, Resource):
    """One fitted model."""

    EXAMPLE: ClassVar = examples.VERSION

    baseline = fields.Dict(
        keys=fields.String(),
        required=True,
        allow_none=True,
        attribute="document.baseline",
        dump_default=None,
        metadata={**_METRICS, **described("The same metrics of the class prior or the mean.")},
    )
    warnings = fields.List(
        fields.Nested(ModelWarning),
        required=True,
        attribute="document.warnings",
        dump_default=list,
    )
    signature = fields.Nested(
        Signature,
        required=True,
        allow_none=True,
        attribute="document.signature",
        dump_default=None,
        metadata=described("Null until the version has been imported."),
    )


class ModelVersionList(Output):
    """A page of versions, without their signatures."""

    items = fields.List(fields.Nested(ModelVersionSummary), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class ModelVersionPatch(Input):
    """What of a version is to change; what is not named stays."""

    description = _description()
    tags = Tags(metadata=described("All tags that it is to have."))


class AliasIn(Input):
    """Where an alias is to point, and why."""

    version = Integer(required=True, validate=Range(1, 999_999_999))
    reason = _description(load_default="")


class RollbackIn(Input):
    """Why an alias goes back; the body may be left out."""

    body_optional: ClassVar[bool] = True

    reason = _description(load_default="")


class ModelAliasOut(Resource):
    """A name for one version at a time."""

    EXAMPLE: ClassVar = examples.ALIAS

    model = fields.String(required=True)
    alias = fields.String(required=True)
    version = fields.Integer(required=True)
    reason = fields.String(required=True)
    moved_by = fields.String(required=True, metadata=described("The key's id."))
    moved_at = UtcTime(required=True)
    created_at = UtcTime(required=True)


class ModelAliasList(Output):
    """A page of aliases."""

    items = fields.List(fields.Nested(ModelAliasOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class AliasMove(Output):
    """One move of an alias."""

    EXAMPLE: ClassVar = examples.MOVE

    number = fields.Integer(required=True)
    kind = fields.String(required=True, validate=OneOf(MOVES))
    from_version = fields.Integer(required=True, allow_none=True)
    to_version = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True)
    moved_by = fields.String(required=True, metadata=described("The key's id."))
    moved_at = UtcTime(required=True)


class AliasMoveList(Output):
    """A page of an alias's history."""

    items = fields.List(fields.Nested(AliasMove), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class RemovalQuery(Input):
    """Whether to delete, or only to tell."""

    dry_run = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata=described("`true`: answer 200 with what would go, and delete nothing."),
    )


class ModelReferrer(Referrer):
    """What still refers to a model or a version."""


class ModelRemovalPlan(Output):
    """What a deletion would take away, and what stands in its way."""

    EXAMPLE: ClassVar = examples.PLAN

    model = fields.String(required=True)
    versions = fields.List(fields.Integer(), required=True)
    artifacts = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    allowed = fields.Boolean(required=True)
    referrers = fields.List(fields.Nested(ModelReferrer), required=True)
