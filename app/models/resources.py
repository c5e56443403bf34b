"""``/models``, their versions, artifacts and aliases; what only peers ask is at the end."""

from typing import Any, cast

from flask import Response, current_app, request
from flask.views import MethodView
from marshmallow import ValidationError

from app.kernel.auth import secured
from app.kernel.errors import Invalid, ServiceError
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.bodies import JSON_TYPES, decode_json, field_errors
from app.kernel.http.downloads import BINARY, OCTETS, OF_BYTES, sent
from app.kernel.http.receiving import FORM, Intake, ReceivedFile, received_file
from app.kernel.http.spec import (
    CONTENT_DIGEST,
    IF_MATCH,
    PART_OF_FILE,
    RANGE,
    WHOLE_FILE,
    Action,
)
from app.kernel.long_work.views import WaitQuery, known_etag, waiting_places
from app.kernel.references import ReferenceList, ReferenceQuery
from app.models import peer_schemas, schemas
from app.models.aliases import ALIASES, HISTORY
from app.models.imports import SkopsUpload
from app.models.service import MODELS
from app.models.service import Models as ModelsService
from app.models.versions import VERSIONS

blp = Blueprint("models", __name__, description="Models, their versions, artifacts and aliases.")

SKOPS = "application/x-skops"
_FORM_TEXTS = frozenset({"description", "signature", "tags"})
_MODEL = {"name": "penguins", "description": "Species by measurements", "tags": {"team": "birds"}}
_RETENTION = {"retention": {"max_age_days": 90, "max_rows": 100_000}}
_ALIAS = {"version": 3, "reason": "Better on the new season"}
_FILE = {"schema": BINARY, "example": "(the bytes of penguins.skops)"}
_UPLOAD = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": BINARY,
                    "description": {
                        "type": "string",
                        "maxLength": 1000,
                        "examples": ["Imported"],
                    },
                    "signature": {
                        "type": "string",
                        "description": "JSON: `{inputs: [..]}`; null: as the file tells.",
                        "examples": ["null"],
                    },
                    "tags": {
                        "type": "string",
                        "description": "JSON: an object of texts",
                        "examples": ["{}"],
                    },
                },
                "additionalProperties": False,
            },
            "example": {"file": "(the bytes of penguins.skops)", "description": "Imported"},
        },
        OCTETS: _FILE,
    },
}
_ONLY_NEW = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "`*`: only if there is no such alias yet; else 412.",
}


def _models() -> ModelsService:
    return cast("ModelsService", current_app.extensions["models"])


@blp.route("/api/v1/models")
class Models(MethodView):
    """The models of the project."""

    @secured("models:read")
    @blp.arguments(MODELS.schema(), location="query")
    @blp.response(200, schemas.ModelList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List models"""
        return _models().page(current_call(), arguments)

    @secured("models:write")
    @blp.arguments(schemas.ModelIn, example=_MODEL)
    @blp.creates(201, schemas.ModelOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a model without versions

        A training run that names a model makes it, too.
        """
        return _models().create(current_call(), **body)


@blp.route("/api/v1/models/<name:model>")
class Model(MethodView):
    """One model."""

    @secured("models:read")
    @blp.response(200, schemas.ModelOut)
    def get(self, model: str) -> Any:
        """Get a model"""
        return _models().get(current_call(), model)

    @secured("models:write")
    @blp.arguments(schemas.ModelPatch, example=_RETENTION)
    @blp.response(200, schemas.ModelOut)
    def patch(self, body: dict[str, Any], model: str) -> Any:
        """Change a model's description, tags or retention"""
        return _models().update(current_call(), model, body)

    @secured("models:write")
    @blp.arguments(schemas.RemovalQuery, location="query")
    @blp.response(204)
    @blp.alt_response(200, schema=schemas.ModelRemovalPlan, success=True)
    def delete(self, query: dict[str, Any], model: str) -> Any:
        """Delete a model with all its versions

        409 with `referrers` while an alias of it exists, a training run that has not ended names
        it, a batch prediction that has not ended uses it, or a processor or Lambda view names it.
        """
        return _removed(query, model, None)


@blp.route("/api/v1/models/<name:model>/versions")
class ModelVersions(MethodView):
    """The versions of a model."""

    @secured("models:read")
    @blp.arguments(VERSIONS.schema(), location="query")
    @blp.response(200, schemas.ModelVersionList)
    def get(self, arguments: dict[str, Any], model: str) -> Any:
        """List a model's versions, without their signatures; newest first"""
        return _models().versions.page(current_call(), model, arguments)

    @secured("artifacts:import", "models:register")
    @blp.creates(201, schemas.ModelVersionOut)
    @blp.alt_response(202, schema=schemas.ModelVersionOut, success=True)
    @blp.alt_response(411, "LengthRequired")
    @blp.alt_response(429, "TooManyRequests")
    @blp.doc(requestBody=_UPLOAD, parameters=[CONTENT_DIGEST])
    def post(self, model: str) -> Any:
        """Register a version from a skops file

        The file is checked and converted in a sandbox: 202, and the version is `importing` until
        it is `ready` or `failed`. Pickles, and so joblib files, are never taken. JSON is for
        training, another service of ours.
        """
        call = current_call()
        if request.mimetype in JSON_TYPES:
            call.require("models:register")
            body = blp.ARGUMENTS_PARSER.parse(
                peer_schemas.RegistrationIn(), request, location="json"
            )
            return _models().versions.register(call, model, peer_schemas.registration(body))
        call.require("artifacts:import")
        _models().imports.admit(call, model)
        intake = cast("Intake", current_app.extensions["models_intake"])
        with received_file(intake, (OCTETS, SKOPS), _FORM_TEXTS) as file:
            return _models().imports.accept(call, model, _upload(file))


@blp.route("/api/v1/models/<name:model>/versions/<n:version>")
class ModelVersion(MethodView):
    """One version of a model."""

    @secured("models:read")
    @blp.arguments(WaitQuery, location="query")
    @blp.response(200, schemas.ModelVersionOut)
    def get(self, query: dict[str, Any], model: str, version: int) -> Any:
        """Get a version

        With `wait`, one that is `importing` is answered as soon as that has changed.
        """
        call, seconds = current_call(), query["wait"]
        if not seconds:
            return _models().versions.get(call, model, version)
        with waiting_places().hold():
            return _models().versions.wait(
                call, model, version, seconds=seconds, known=known_etag()
            )

    @secured("models:write")
    @blp.arguments(schemas.ModelVersionPatch, example={"tags": {"season": "2009"}})
    @blp.response(200, schemas.ModelVersionOut)
    def patch(self, body: dict[str, Any], model: str, version: int) -> Any:
        """Change a version's description or tags"""
        return _models().versions.update(current_call(), model, version, body)

    @secured("models:write")
    @blp.arguments(schemas.RemovalQuery, location="query")
    @blp.response(204)
    @blp.alt_response(200, schema=schemas.ModelRemovalPlan, success=True)
    def delete(self, query: dict[str, Any], model: str, version: int) -> Any:
        """Delete a version; its number is never used again

        409 with `referrers` while an alias points at it, or a batch prediction that has not ended,
        a processor or a Lambda view uses it.
        """
        return _removed(query, model, version)


@blp.route("/api/v1/models/<name:model>/versions/<n:version>/verify")
class VerifyModelVersion(Action):
    """Looks at the stored bytes."""

    @secured("models:write", "models:locate")
    @blp.response(200, schemas.ModelVersionOut)
    def post(self, model: str, version: int) -> Any:
        """Read a version's artifacts and compare them with what was signed

        A `ready` version whose bytes are wrong becomes `corrupt`; a `corrupt` one whose bytes
        were put back becomes `ready`.
        """
        with waiting_places().hold():
            return _models().artifacts.verify(current_call(), model, version)


@blp.route("/api/v1/models/<name:model>/versions/<n:version>/artifacts/<name:format>")
class ModelArtifact(MethodView):
    """The bytes of a version."""

    @secured("artifacts:read")
    @blp.doc(parameters=[RANGE])
    @blp.response(200, **OF_BYTES, headers=WHOLE_FILE)
    @blp.alt_response(206, **OF_BYTES, headers=PART_OF_FILE, success=True)
    @blp.alt_response(416, "RangeNotSatisfiable")
    def get(self, model: str, version: int, format: str) -> Response:  # noqa: A002 (the path's word)
        """Download an artifact: joblib, compiled or onnx; Range is honoured

        Load a joblib file only where this server's signature is trusted: it is a pickle.
        """
        return sent(_models().artifacts.download(current_call(), model, version, format))


@blp.route("/api/v1/models/<name:model>/aliases")
class ModelAliases(MethodView):
    """The aliases of a model."""

    @secured("models:read")
    @blp.arguments(ALIASES.schema(), location="query")
    @blp.response(200, schemas.ModelAliasList)
    def get(self, arguments: dict[str, Any], model: str) -> Any:
        """List a model's aliases"""
        return _models().aliases.page(current_call(), model, arguments)


@blp.route("/api/v1/models/<name:model>/aliases/<name:alias>")
class ModelAlias(MethodView):
    """One alias."""

    @secured("models:read")
    @blp.doc(operationId="getModelAlias")
    @blp.response(200, schemas.ModelAliasOut)
    def get(self, model: str, alias: str) -> Any:
        """Get an alias"""
        return _models().aliases.get(current_call(), model, alias)

    @secured("models:write")
    @blp.arguments(schemas.AliasIn, example=_ALIAS)
    @blp.response(200, schemas.ModelAliasOut)
    @blp.alt_response(201, schema=schemas.ModelAliasOut, success=True)
    @blp.doc(parameters=[_ONLY_NEW])
    def put(self, body: dict[str, Any], model: str, alias: str) -> Any:
        """Point an alias at a ready version

        Numbers and `latest` are no aliases. `champion` is what the bare model name stands for.
        """
        only_new = request.if_none_match.star_tag
        return _models().aliases.put(current_call(), model, alias, only_new=only_new, **body)

    @secured("models:write")
    @blp.response(204)
    def delete(self, model: str, alias: str) -> None:
        """Delete an alias; its history stays"""
        _models().aliases.delete(current_call(), model, alias)


@blp.route("/api/v1/models/<name:model>/aliases/<name:alias>/history")
class AliasMoves(MethodView):
    """Where an alias has pointed."""

    @secured("models:read")
    @blp.arguments(HISTORY.schema(), location="query")
    @blp.response(200, schemas.AliasMoveList)
    def get(self, arguments: dict[str, Any], model: str, alias: str) -> Any:
        """List who moved an alias, when, from where, whereto and why; newest first"""
        return _models().aliases.history(current_call(), model, alias, arguments)


@blp.route("/api/v1/models/<name:model>/aliases/<name:alias>/rollback")
class RollbackModelAlias(Action):
    """Takes the last move back."""

    @secured("models:write")
    @blp.arguments(schemas.RollbackIn, required=False, example={"reason": "Worse on Mondays"})
    @blp.creates(200, schemas.ModelAliasOut)
    @blp.alt_response(412, "PreconditionFailed")
    @blp.doc(parameters=[IF_MATCH])
    def post(self, body: dict[str, Any], model: str, alias: str) -> Any:
        """Point an alias back at the version that it had before

        Once more: at the one before that. Versions that are gone or not ready are passed over;
        409 when there is none left.
        """
        return _models().aliases.rollback(current_call(), model, alias, **body)


@blp.route("/api/v1/models/<name:model>/versions/<n:version>/location")
class ModelVersionLocation(MethodView):
    """Where a version's artifacts lie."""

    @secured("models:locate")
    @blp.doc(tags=["peers"])
    @blp.response(200, peer_schemas.ModelVersionLocation)
    def get(self, model: str, version: int) -> Any:
        """Tell a peer all that is needed to load a version"""
        return _models().versions.get(current_call(), model, version)


@blp.route("/api/v1/models/<name:model>/state")
class ModelState(MethodView):
    """Where a model's names lead."""

    @secured("models:locate")
    @blp.doc(tags=["peers"])
    @blp.response(200, peer_schemas.ModelState)
    def get(self, model: str) -> Any:
        """Tell a peer a model's aliases and the states of its versions"""
        return _models().state(current_call(), model)


@blp.route("/api/v1/references/models")
class ModelReferences(MethodView):
    """What here refers to things of other services."""

    @secured("references:read")
    @blp.doc(tags=["peers"])
    @blp.arguments(ReferenceQuery, location="query")
    @blp.response(200, ReferenceList)
    def get(self, query: dict[str, Any]) -> Any:
        """Tell a peer which versions were trained on a dataset, or on a version of it"""
        if query["dataset"] is None:
            raise Invalid.at("?dataset", "required", "Models refer to datasets")
        found = _models().versions.references(current_call(), query["dataset"], query["version"])
        return {"items": found}


def _removed(query: dict[str, Any], model: str, version: int | None) -> Any:
    if query["dry_run"]:
        plan = _models().plan_removal(current_call(), model, version)
        return schemas.ModelRemovalPlan().dump(plan), 200
    _models().remove(current_call(), model, version)
    return None


def _upload(file: ReceivedFile) -> SkopsUpload:
    """What was sent; raises Invalid for texts of the form that can't be read."""
    said: dict[str, Any] = dict(file.texts)
    for name in said.keys() & {"signature", "tags"}:
        try:
            said[name] = decode_json(said[name].encode())
        except ServiceError as error:
            raise Invalid.at(f"/{name}", "invalid", error.detail) from error
    try:
        loaded = schemas.ImportIn().load(said)
    except ValidationError as error:
        found = list(field_errors(error.normalized_messages()))
        raise Invalid("The form is not valid", errors=found[:100]) from error
    signature = loaded["signature"]
    return SkopsUpload(
        path=file.path,
        description=loaded["description"],
        tags=loaded["tags"],
        inputs=None if signature is None else tuple(signature["inputs"]),
    )
