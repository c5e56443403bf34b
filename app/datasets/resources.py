"""``/datasets`` and what lies below."""

from contextlib import nullcontext
from typing import Any, cast

from flask import Response, current_app, jsonify, request
from flask.views import MethodView

from app.datasets import documents, peer_schemas, schemas
from app.datasets.archives import Origin
from app.datasets.content import content_answer
from app.datasets.conversion import Target
from app.datasets.lookup import NewDataset
from app.datasets.receiving import (
    Received,
    answered_on_refusal,
    checked,
    is_form,
    let_digest_stand_for_body,
    prefers_async,
    received,
    text_value,
)
from app.datasets.service import DATASETS, DatasetsService
from app.datasets.versions import VERSIONS
from app.kernel.auth import secured
from app.kernel.errors import Invalid, UnsupportedMediaType
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.bodies import JSON_TYPES
from app.kernel.http.receiving import keeper
from app.kernel.long_work.views import (
    EVENTS_DOC,
    EventQuery,
    WaitQuery,
    WorkEventList,
    events_answer,
    known_etag,
    waiting_places,
)

blp = Blueprint(
    "datasets", __name__, description="Tables: named, versioned, immutable, with a profile."
)

_FORM_TEXTS = frozenset({"name", "description", "tags"})
_PATCH = {"description": "Palmer Archipelago, 2007 to 2009", "tags": {"source": "lter"}}
_HOLD = {"version": None, "holder": "training-runs/0190f6c0", "seconds": 60}


def _datasets() -> DatasetsService:
    return cast("DatasetsService", current_app.extensions["datasets"])


@blp.route("/api/v1/datasets")
class Datasets(MethodView):
    """All datasets of the project."""

    @secured("datasets:read")
    @blp.arguments(DATASETS.schema(), location="query")
    @blp.response(200, schemas.DatasetList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List datasets"""
        return _datasets().list(current_call(), arguments)

    @secured("datasets:write")
    @blp.doc(requestBody=documents.DATASET_BODY)
    @blp.arguments(schemas.UploadQuery, location="query")
    @blp.arguments(schemas.UploadHeaders, location="headers")
    @blp.response(201, schemas.DatasetMade)
    @blp.alt_response(202, schema=schemas.DatasetMade, success=True)
    @blp.alt_response(411, "LengthRequired")
    @blp.alt_response(429, "TooManyRequests")
    def post(self, query: dict[str, Any], _headers: dict[str, Any]) -> Any:
        """Create a dataset

        From JSON it has no version yet. From a form, its file becomes version 1; if the file is
        refused, no dataset is made. With `Prefer: respond-async` the version is made later: 202.
        """
        return _create_dataset(query)


@blp.creates(201, schemas.DatasetMade, headers=schemas.READING_HEADERS)
def _create_dataset(query: dict[str, Any]) -> Any:
    if is_form():
        return _make_version(query, None)
    if request.mimetype not in JSON_TYPES:
        accepted = [JSON_TYPES[0], "multipart/form-data"]
        raise UnsupportedMediaType("Send JSON, or a form", extra={"accepted": accepted})
    unsaid = schemas.UploadQuery().load({})
    for name, value in query.items():
        # Generated clients send every default.
        if value != unsaid.get(name):
            raise Invalid.at(f"?{name}", "not_offered", "Without a file there is nothing to read")
    body = blp.ARGUMENTS_PARSER.parse(schemas.DatasetIn(), request, location="json")
    return _datasets().create(current_call(), NewDataset(**body))


def _make_version(query: dict[str, Any], dataset: str | None) -> Any:
    """Receive a file and make a version of it, now or later; without a name in a new dataset."""
    datasets, call = _datasets(), current_call()
    texts = _FORM_TEXTS if dataset is None else frozenset[str]()
    with answered_on_refusal(datasets.intake):
        if dataset is not None:
            datasets.conversions.check(call, dataset)
        with received(datasets.intake, query, texts) as sent:
            target: Target = dataset if dataset is not None else _new_dataset(sent)
            if prefers_async():
                return datasets.backlog.enqueue(call, target, sent.upload)
            keep = keeper()
            return datasets.conversions.add(call, target, sent.upload, lambda _: keep())


def _new_dataset(sent: Received) -> NewDataset:
    values: dict[str, Any] = {
        name: text for name, text in sent.texts.items() if name in ("name", "description")
    }
    if "tags" in sent.texts:
        values["tags"] = text_value(sent.texts["tags"].encode(), "/tags")
    return NewDataset(**checked(schemas.DatasetIn(), values))


@blp.route("/api/v1/datasets/<name:dataset>")
class Dataset(MethodView):
    """One dataset."""

    @secured("datasets:read")
    @blp.response(200, schemas.DatasetOut)
    def get(self, dataset: str) -> Any:
        """Get a dataset"""
        return _datasets().get(current_call(), dataset)

    @secured("datasets:write")
    @blp.arguments(schemas.DatasetPatch, example=_PATCH)
    @blp.response(200, schemas.DatasetOut)
    def patch(self, body: dict[str, Any], dataset: str) -> Any:
        """Change a dataset's description or tags"""
        return _datasets().update(current_call(), dataset, body)

    @secured("datasets:write")
    @blp.doc(parameters=documents.REMOVAL_PARAMETERS)
    @blp.response(204)
    @blp.alt_response(200, schema=schemas.RemovalPlan, success=True)
    def delete(self, dataset: str) -> Any:
        """Delete a dataset with all its versions

        409 with `referrers` while anything needs one of them. `dry_run` tells what would be done.
        """
        return _remove(dataset, None)


@blp.route("/api/v1/datasets/<name:dataset>/versions")
class DatasetVersions(MethodView):
    """The versions of a dataset."""

    @secured("datasets:read")
    @blp.arguments(VERSIONS.schema(), location="query")
    @blp.response(200, schemas.VersionList)
    def get(self, arguments: dict[str, Any], dataset: str) -> Any:
        """List a dataset's versions, without their profiles"""
        return _datasets().versions.list(current_call(), dataset, arguments)

    @secured("datasets:write")
    @blp.doc(requestBody=documents.UPLOAD_BODY)
    @blp.arguments(schemas.UploadQuery, location="query")
    @blp.arguments(schemas.UploadHeaders, location="headers")
    @blp.response(201, schemas.VersionOut)
    @blp.alt_response(202, schema=schemas.VersionOut, success=True)
    @blp.alt_response(411, "LengthRequired")
    @blp.alt_response(429, "TooManyRequests")
    def post(self, query: dict[str, Any], _headers: dict[str, Any], dataset: str) -> Any:
        """Upload a table as the next version

        Column types are inferred unless `X-Columns` says otherwise. A bad row refuses the file
        (422 names row, column and reason) unless `on_error=quarantine`. With
        `Prefer: respond-async` the version is made later: 202.
        """
        let_digest_stand_for_body()
        return _create_version(query, dataset)


@blp.creates(201, schemas.VersionOut, headers=schemas.READING_HEADERS)
def _create_version(query: dict[str, Any], dataset: str) -> Any:
    return _make_version(query, dataset)


@blp.route("/api/v1/datasets/<name:dataset>/versions/<n:version>")
class DatasetVersion(MethodView):
    """One version."""

    @secured("datasets:read")
    @blp.arguments(WaitQuery, location="query")
    @blp.response(200, schemas.VersionOut)
    def get(self, arguments: dict[str, Any], dataset: str, version: int) -> Any:
        """Get a version with its profile"""
        versions, call = _datasets().versions, current_call()
        if not arguments["wait"]:
            return versions.get(call, dataset, version)
        with nullcontext() if call.peer else waiting_places().hold():
            return versions.wait(
                call, dataset, version, known=known_etag(), seconds=arguments["wait"]
            )

    @secured("datasets:write")
    @blp.doc(parameters=documents.REMOVAL_PARAMETERS)
    @blp.response(204)
    @blp.alt_response(200, schema=schemas.RemovalPlan, success=True)
    def delete(self, dataset: str, version: int) -> Any:
        """Delete a version; its number is never used again

        One that is still being made is given up. 409 with `referrers` while anything needs it.
        `dry_run` tells what would be done.
        """
        return _remove(dataset, version)


def _remove(dataset: str, version: int | None) -> Any:
    removal, call = _datasets().removal, current_call()
    query = blp.ARGUMENTS_PARSER.parse(schemas.RemovalQuery(), request, location="query")
    if query["dry_run"]:
        return jsonify(schemas.RemovalPlan().dump(removal.plan(call, dataset, version)))
    removal.remove(call, dataset, version)
    return None


@blp.route("/api/v1/datasets/<name:dataset>/versions/<n:version>/events")
class DatasetVersionEvents(MethodView):
    """What happened to a version."""

    @secured("datasets:read")
    @blp.doc(**EVENTS_DOC)
    @blp.arguments(EventQuery, location="query")
    @blp.response(200, WorkEventList)
    def get(self, arguments: dict[str, Any], dataset: str, version: int) -> Any:
        """List a version's events, or follow them and its progress as a stream"""
        # A stream outlives the request's context: what it needs is looked up here.
        call, versions = current_call(), _datasets().versions
        return events_answer(
            lambda after: versions.events(call, dataset, version, after),
            lambda: versions.get(call, dataset, version),
            arguments["after"],
        )


@blp.route("/api/v1/datasets/<name:dataset>/versions/<n:version>/rows")
class DatasetRows(MethodView):
    """The rows of a version."""

    @secured("datasets:read")
    @blp.arguments(schemas.RowsQuery, location="query")
    @blp.response(200, schemas.RowList)
    def get(self, arguments: dict[str, Any], dataset: str, version: int) -> Any:
        """List rows in their order

        An answer may hold fewer rows than `limit` where they are large; go on at `next_offset`.
        """
        columns = _names(arguments.pop("columns", None))
        return _datasets().versions.rows(
            current_call(), dataset, version, columns=columns, **arguments
        )


def _names(text: str | None) -> list[str] | None:
    """The columns of a query: names joined by commas, or a JSON list of them."""
    if text is None:
        return None
    if not text.startswith("["):
        return text.split(",")
    names = text_value(text.encode(), "?columns")
    if not all(isinstance(name, str) for name in names):
        raise Invalid.at("?columns", "invalid", "A list of column names")
    return list(names)


@blp.route("/api/v1/datasets/<name:dataset>/versions/<n:version>/content")
class DatasetContent(MethodView):
    """A version as a file."""

    @secured("datasets:read")
    @blp.doc(responses=documents.CONTENT_RESPONSES)
    @blp.arguments(schemas.ContentQuery, location="query")
    @blp.arguments(schemas.ContentHeaders, location="headers")
    def get(
        self, query: dict[str, Any], _headers: dict[str, Any], dataset: str, version: int
    ) -> Response:
        """Download a version as CSV, NDJSON or Parquet

        By `Accept`; CSV unless it says otherwise.

        In CSV values stand as they are, and an upload of the answer has the same digest. To open
        it in a spreadsheet, where texts that begin with `=`, `+`, `-` or `@` are formulas, say
        `spreadsheet=true`: those get an apostrophe in front.
        """
        datasets = _datasets()
        found, stored = datasets.versions.table(current_call(), dataset, version)
        return content_answer(datasets.versions, found, stored, datasets.downloads, **query)


@blp.route("/api/v1/datasets/<name:dataset>/versions/<n:version>/rejects")
class DatasetRejects(MethodView):
    """The rows that were left out of a version."""

    @secured("datasets:read")
    @blp.arguments(schemas.PlaceQuery, location="query")
    @blp.response(200, schemas.RejectList)
    def get(self, arguments: dict[str, Any], dataset: str, version: int) -> Any:
        """List the rows that were left out, each with its reason

        There are such where the upload said `on_error=quarantine`.
        """
        return _datasets().versions.rejects(current_call(), dataset, version, **arguments)


@blp.route("/api/v1/datasets/<name:dataset>/holds", tags=["peers"])
class DatasetHold(MethodView):
    """A hold on a version."""

    @secured("datasets:hold")
    @blp.arguments(peer_schemas.HoldIn, example=_HOLD)
    @blp.response(201, peer_schemas.HoldOut)
    def post(self, body: dict[str, Any], dataset: str) -> Any:
        """Keep a version from deletion for a while (other services only)

        The same holder again holds anew.
        """
        return _datasets().removal.hold(
            current_call(),
            dataset,
            body["version"],
            holder=body["holder"],
            seconds=body["seconds"],
        )


@blp.route("/api/v1/datasets/<name:dataset>/archives", tags=["peers"])
class DatasetArchive(MethodView):
    """Records of a topic as a version."""

    @secured("datasets:archive")
    @blp.doc(requestBody=documents.ARCHIVE_BODY)
    @blp.arguments(peer_schemas.ArchiveQuery, location="query")
    @blp.response(201, schemas.VersionOut)
    @blp.alt_response(200, schema=schemas.VersionOut, success=True)
    def post(self, query: dict[str, Any], dataset: str) -> Any:
        """Make records of a topic the next version (other services only)

        200 with the version that has them already, where what is sent begins within it: `origin`
        tells how far that one goes.
        """
        datasets, call = _datasets(), current_call()
        reading = schemas.UploadQuery().load({})
        with answered_on_refusal(datasets.intake):
            datasets.conversions.check(call, dataset)
            with received(datasets.intake, reading, frozenset()) as sent:
                return datasets.archives.add(
                    call, dataset, Origin(**query), sent.upload, lambda _: None
                )
