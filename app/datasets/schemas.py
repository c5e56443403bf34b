"""Datasets, versions and rows over the wire."""

from typing import ClassVar

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from app.datasets import examples
from app.datasets.ingest_request import DELIMITERS, FORMATS, TYPES
from app.kernel.http.fields import (
    Input,
    Name,
    Output,
    QueryInteger,
    Resource,
    Tags,
    UtcTime,
    described,
)
from app.kernel.http.spec import CONTENT_DIGEST, IDEMPOTENCY_KEY
from app.kernel.long_work.views import Progress, RefusedPlace, WorkError
from app.kernel.references import Referrer
from app.lineage import Origin

# apispec adds "null" by itself where None is allowed.
_VALUE = {"type": ["string", "number", "boolean"]}
_ROW = {"additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
STATES = ("queued", "running", "succeeded", "failed")
MOST_ROWS = 10_000
READING_HEADERS = ("X-Columns",)


class DatasetIn(Input):
    """A new dataset."""

    name = Name(required=True)
    description = fields.String(load_default="", validate=Length(max=1000))
    tags = Tags(load_default=dict)


class DatasetPatch(Input):
    """What of a dataset is to change; what is not named stays."""

    description = fields.String(validate=Length(max=1000))
    tags = Tags(metadata=described("All tags that it is to have."))


class DatasetOut(Resource):
    """A name under which versions of a table are kept."""

    EXAMPLE: ClassVar = examples.DATASET

    name = fields.String(required=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    newest_version = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described("The newest version that is ready; null: there is none."),
    )
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class DatasetList(Output):
    """A page of datasets."""

    items = fields.List(fields.Nested(DatasetOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class ColumnIn(Input):
    """How one column is to be read."""

    type = fields.String(validate=OneOf(TYPES))
    null_values = fields.List(
        fields.String(validate=Length(max=1000)),
        validate=Length(max=100),
        metadata=described("Texts that mean: missing."),
    )
    format = fields.String(
        validate=Length(min=1, max=100),
        metadata=described("How times are written, as strptime spells it: `%d.%m.%Y`."),
    )


class ColumnsIn(Input):
    """How some columns are to be read, by name."""

    columns = fields.Dict(
        keys=fields.String(validate=Length(max=1000)),
        values=fields.Nested(ColumnIn),
        required=True,
    )


class UploadQuery(Input):
    """How a file is to be read; what is not said is found out."""

    format = fields.String(
        validate=OneOf(FORMATS),
        metadata=described("Where the content type doesn't tell."),
    )
    delimiter = fields.String(validate=OneOf(DELIMITERS))
    decimal = fields.String(load_default=".", validate=OneOf((".", ",")))
    encoding = fields.String(
        validate=Length(min=1, max=40),
        metadata=described("`utf-8` unless said otherwise."),
    )
    on_error = fields.String(
        load_default="fail",
        validate=OneOf(("fail", "quarantine")),
        metadata=described("`quarantine` leaves bad rows out and offers them at `rejects`."),
    )


class UploadHeaders(Input):
    """The headers of an upload."""

    prefer = fields.String(
        data_key="Prefer", metadata=described("`respond-async`: 202 at once, ready later.")
    )
    content_digest = fields.String(
        data_key="Content-Digest",
        metadata={
            "description": CONTENT_DIGEST["description"],
            "pattern": CONTENT_DIGEST["schema"]["pattern"],
        },
    )
    content_encoding = fields.String(
        data_key="Content-Encoding",
        metadata={
            "description": "`gzip`, where the body is neither a form nor a dataset's JSON.",
            "pattern": "^(gzip|identity)?$",
        },
    )
    columns = fields.String(
        data_key="X-Columns",
        # Longer ones go into a form. All headers together may have 400 kB: beyond that the server
        # refuses them itself, without a word of why.
        validate=Length(max=200_000),
        metadata=described(
            'How columns are to be read, as JSON: `{"zip": {"type": "string"}}`; '
            "each may have `type`, `null_values` and `format`."
        ),
    )
    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        metadata={
            "description": "A retry with the same key and the same Content-Digest gets the first "
            "answer again.",
            **IDEMPOTENCY_KEY["schema"],
        },
    )


class Count(Output):
    """A value and how often it is there."""

    value = fields.Raw(required=True, metadata=_VALUE)
    count = fields.Integer(required=True)


class Histogram(Output):
    """Counts of values between edges; a bin holds its lower edge, the last one both."""

    edges = fields.List(fields.Raw(metadata=_VALUE), required=True)
    counts = fields.List(fields.Integer(), required=True)


class Column(Output):
    """One column and what its values are like. What a type doesn't have is null."""

    name = fields.String(required=True)
    type = fields.String(required=True, validate=OneOf(TYPES))
    nullable = fields.Boolean(
        required=True, metadata=described("Whether a value is missing somewhere.")
    )
    missing = fields.Integer(required=True)
    distinct = fields.Integer(required=True)
    min = fields.Raw(required=True, allow_none=True, metadata=_VALUE)
    max = fields.Raw(required=True, allow_none=True, metadata=_VALUE)
    mean = fields.Float(required=True, allow_none=True)
    std = fields.Float(required=True, allow_none=True)
    quantiles = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"additionalProperties": _VALUE, **described("By share: `0.5` is the median.")},
    )
    top_values = fields.List(fields.Nested(Count), required=True)
    histogram = fields.Nested(Histogram, required=True, allow_none=True)
    sampled = fields.Boolean(
        required=True, metadata=described("Whether the quantiles are those of a sample.")
    )


class TableWarning(Output):
    """Something about a table that its sender may want to know."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class RowError(RefusedPlace):
    """Why something was refused, and where."""


class VersionError(WorkError):
    """Why no version came of an upload."""

    errors = fields.List(fields.Nested(RowError), required=True)


class VersionSummary(Output):
    """A version without its profile."""

    EXAMPLE: ClassVar = examples.SUMMARY

    dataset = fields.String(required=True)
    version = fields.Integer(required=True)
    state = fields.String(
        required=True,
        validate=OneOf(STATES),
        metadata=described("`succeeded`: it is ready, and never changes again."),
    )
    format = fields.String(required=True, metadata=described("As it was sent."))
    filename = fields.String(
        required=True, allow_none=True, metadata=described("What the sender calls it.")
    )
    source_digest = fields.String(required=True, metadata=described("Of the file as sent."))
    source_bytes = fields.Integer(required=True)
    digest = fields.String(
        required=True, allow_none=True, metadata=described("Of the canonical content.")
    )
    origin = fields.Nested(
        Origin,
        required=True,
        allow_none=True,
        metadata=described("Of a version that a processor has made of a topic's records."),
    )
    rows = fields.Integer(required=True, allow_none=True)
    rejected = fields.Integer(
        required=True, allow_none=True, metadata=described("Rows that were left out.")
    )
    bytes = fields.Integer(
        required=True, allow_none=True, metadata=described("As it is kept: Parquet.")
    )
    progress = fields.Nested(Progress, required=True)
    attempt = fields.Integer(required=True)
    error = fields.Nested(VersionError, required=True, allow_none=True)
    created_at = UtcTime(required=True)
    started_at = UtcTime(required=True, allow_none=True)
    finished_at = UtcTime(required=True, allow_none=True)


class DatasetMade(DatasetOut):
    """A dataset just made and, where a file came with it, its first version."""

    EXAMPLE: ClassVar = examples.MADE

    version = fields.Nested(VersionSummary, required=True, allow_none=True)


class VersionOut(VersionSummary, Resource):
    """One table, once and for all."""

    EXAMPLE: ClassVar = examples.VERSION

    columns = fields.List(fields.Nested(Column), required=True, allow_none=True)
    warnings = fields.List(fields.Nested(TableWarning), required=True)


class VersionList(Output):
    """A page of versions, without their profiles."""

    items = fields.List(fields.Nested(VersionSummary), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class PlaceQuery(Input):
    """Which rows."""

    offset = QueryInteger(load_default=0, validate=Range(0, 2**62))
    limit = QueryInteger(load_default=100, validate=Range(1, MOST_ROWS))


class RowsQuery(PlaceQuery):
    """Which rows, and what of them."""

    columns = fields.String(
        # Percent-encoded, that many letters of any script fit into a URL that servers take.
        validate=Length(min=1, max=5000),
        metadata=described("Names joined by commas, in the order wanted; or a JSON list of names."),
    )


class RowList(Output):
    """Some rows in their order."""

    EXAMPLE: ClassVar = examples.ROWS

    dataset = fields.String(required=True)
    version = fields.Integer(required=True)
    rows = fields.Integer(required=True, metadata=described("How many there are in all."))
    offset = fields.Integer(required=True)
    columns = fields.List(fields.String(), required=True)
    items = fields.List(fields.Dict(metadata=_ROW), required=True)
    next_offset = fields.Integer(
        required=True, allow_none=True, metadata=described("Null: that was the end.")
    )


class Reject(Output):
    """A row that was left out."""

    row = fields.Integer(
        required=True, metadata=described("From 1, the header and blank lines aside.")
    )
    column = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)
    raw = fields.Raw(required=True, metadata=described("The row as it was sent."))


class RejectList(Output):
    """Some of the rows that were left out, in their order."""

    EXAMPLE: ClassVar = examples.REJECTS

    dataset = fields.String(required=True)
    version = fields.Integer(required=True)
    rows = fields.Integer(required=True, metadata=described("How many there are in all."))
    offset = fields.Integer(required=True)
    items = fields.List(fields.Nested(Reject), required=True)
    next_offset = fields.Integer(
        required=True, allow_none=True, metadata=described("Null: that was the end.")
    )


class ContentQuery(Input):
    """What the content is for."""

    spreadsheet = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata=described("CSV whose texts are no formulas."),
    )


class ContentHeaders(Input):
    """What of the content."""

    range = fields.String(
        data_key="Range", metadata=described("`bytes=0-1023`: only that part of the file.")
    )


class RemovalQuery(Input):
    """Whether only to tell what would be done."""

    dry_run = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})


class ReferenceOut(Referrer):
    """What needs a version to stay."""


class RemovalPlan(Output):
    """What a deletion would do."""

    EXAMPLE: ClassVar = examples.PLAN

    dataset = fields.String(required=True)
    versions = fields.List(fields.Integer(), required=True)
    bytes = fields.Integer(required=True)
    allowed = fields.Boolean(required=True)
    referrers = fields.List(fields.Nested(ReferenceOut), required=True)
