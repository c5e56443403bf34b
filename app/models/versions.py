"""Versions: registering what training made, reading, describing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactStore, check_bytes
from app.kernel.artifacts.stored import ArtifactCorrupt, Stored, checked_digest, segments_of
from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, Invalid
from app.kernel.http.pagination import Listing, Page
from app.kernel.signing import KeyRing
from app.models.artifacts import sign
from app.models.lookup import (
    find_model,
    find_version,
    insert_model,
    lock_version,
    refresh_newest,
    refuse_removal,
)
from app.models.ports import Reference
from app.models.tables import IMPORTING, READY, Artifact, Model, Version

VERSIONS = Listing(
    "Versions",
    {
        "version": Version.number,
        "state": Version.state,
        "task": Version.task,
        "training_run": Version.training_run,
        "dataset": Version.dataset,
        "dataset_version": Version.dataset_version,
        "created_at": Version.created_at,
    },
    order=("version", "created_at"),
    identity=Version.id,
    default_order="-version",
)
_LOOK_SECONDS = 0.1
_MOST_REFERENCES = 100


@dataclass(frozen=True)
class NewArtifact:
    """Bytes that lie in the store already and are to belong to a version."""

    format: str
    stored: Stored


@dataclass(frozen=True)
class Registration:
    """What training says of a model that it has fitted.

    ``document`` holds signature, metrics, baseline, lineage, serving and recipe; ``lineage`` in it
    names the dataset version and the library versions.
    """

    training_run: str
    task: str
    artifacts: tuple[NewArtifact, ...]
    document: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)

    def check(self, project: str) -> None:
        """Raise Invalid for artifacts that can't be this project's, or are there twice."""
        formats = [artifact.format for artifact in self.artifacts]
        if len(set(formats)) != len(formats):
            raise Invalid.at("/artifacts", "twice", "Each format may be there once")
        for index, artifact in enumerate(self.artifacts):
            try:
                segments = segments_of(artifact.stored.key)
                checked_digest(artifact.stored.digest)
            except ValueError as error:
                raise Invalid.at(f"/artifacts/{index}", "invalid", str(error)) from error
            if segments[:2] != (project, "models") or len(segments) < 3:
                raise Invalid.at(
                    f"/artifacts/{index}/key", "foreign_key", f"Must lie below {project}/models/"
                )


class Versions:
    """What can be done with versions."""

    def __init__(self, changes: Changes, ring: KeyRing, store: ArtifactStore) -> None:
        self._changes = changes
        self._database = changes.database
        self._ring = ring
        self._store = store

    def register(self, call: Call, model: str, new: Registration) -> Version:
        """Make the next version of a model, and the model where it is not there.

        A run has one version: whoever registers the same run again gets the first one. Raises
        Invalid for artifacts whose bytes are not there as told, Conflict while the model is being
        deleted, or when the run has a version of another model.
        """
        new.check(call.project)
        with self._database.read() as session:
            known = _version_of_run(session, call, new.training_run)
        if known is None:
            for index, artifact in enumerate(new.artifacts):
                self._check_bytes(artifact, f"/artifacts/{index}")
        try:
            return self._register(call, model, new)
        except IntegrityError:
            # Another one has just registered the same run, or made the model.
            return self._register(call, model, new)

    def _check_bytes(self, artifact: NewArtifact, pointer: str) -> None:
        try:
            check_bytes(self._store, artifact.stored)
        except ArtifactCorrupt as error:
            raise Invalid.at(pointer, error.code, error.detail) from error

    def _register(self, call: Call, model: str, new: Registration) -> Version:
        with self._changes.begin(call) as change:
            parent, is_new = lock_or_insert_model(change, model)
            row = _version_of_run(change.session, call, new.training_run)
            if row is None:
                row = self._insert(change, parent, new)
                # Events last: they wait for all other writers, who may wait for our rows.
                if is_new:
                    change.record("model.created", parent.subject, {"model": model})
                change.record("version.registered", row.subject, event_data(row))
            elif row.model != model:
                raise Conflict(f"The training run {new.training_run} made {row.subject}")
            change.answer(row)
        return row

    def _insert(self, change: Change, parent: Model, new: Registration) -> Version:
        lineage = new.document["lineage"]
        row = next_version(
            change,
            parent,
            state=READY,
            task=new.task,
            training_run=new.training_run,
            dataset=lineage.get("dataset"),
            dataset_version=lineage.get("dataset_version"),
            document=dict(new.document),
            tags=dict(new.tags),
        )
        attach(change.session, self._ring, row, new.artifacts)
        refresh_newest(change.session, parent)
        return row

    def page(self, call: Call, model: str, arguments: Mapping[str, Any]) -> Page[Version]:
        """The versions of a model; raises NotFound."""
        with self._database.read() as session:
            parent = find_model(session, call, model)
            query = select(Version).where(Version.model_id == parent.id)
            return VERSIONS.page(session, query, arguments, self._ring, f"{call.project}/{model}")

    def get(self, call: Call, model: str, number: int) -> Version:
        """One version; raises NotFound."""
        with self._database.read() as session:
            return find_version(session, call, model, number)

    def wait(
        self,
        call: Call,
        model: str,
        number: int,
        *,
        seconds: float,
        known: Callable[[str], bool] | None = None,
    ) -> Version:
        """One version once it is no longer being imported, or has an ETag that isn't ``known``.

        Without ``known`` that is any other ETag than at first. After so many seconds: as it is.
        """
        until = time.monotonic() + call.patience(seconds)
        row = self.get(call, model, number)
        known = known or row.etag.__eq__
        while row.state == IMPORTING and known(row.etag) and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            row = self.get(call, model, number)
        return row

    def update(self, call: Call, model: str, number: int, changes: Mapping[str, Any]) -> Version:
        """Change what is given of ``description`` and ``tags``; raises NotFound."""
        with self._changes.begin(call) as change:
            _, row = lock_version(change.session, call, model, number)
            change.guard(row)
            refuse_removal(row)
            for name, value in changes.items():
                setattr(row, name, value)
            change.record("version.updated", row.subject, event_data(row))
        return row

    def references(self, call: Call, dataset: str, version: int | None) -> list[Reference]:
        """The versions whose lineage names a dataset, or a version of it; a hundred at most."""
        query = select(Version).where(Version.project == call.project, Version.dataset == dataset)
        if version is not None:
            query = query.where(Version.dataset_version == version)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(Version.id).limit(_MOST_REFERENCES)).all()
        return [
            Reference("models", row.subject, row.state, "It was trained on this data")
            for row in rows
        ]


def lock_or_insert_model(change: Change, name: str) -> tuple[Model, bool]:
    """The model, locked, and whether it was made just now; raises Conflict while it is deleted."""
    query = select(Model).where(Model.project == change.call.project, Model.name == name)
    row = change.session.scalar(query.with_for_update())
    if row is not None:
        refuse_removal(row)
        return row, False
    return insert_model(change, name), True


def next_version(change: Change, parent: Model, **fields: Any) -> Version:
    """The next version of a model that is locked."""
    parent.last_number += 1
    row = Version(
        project=parent.project,
        model_id=parent.id,
        model=parent.name,
        number=parent.last_number,
        **fields,
    )
    change.session.add(row)
    change.session.flush()
    return row


def attach(
    session: Session, ring: KeyRing, version: Version, artifacts: tuple[NewArtifact, ...]
) -> None:
    """Give a version its artifacts, signed; raises IntegrityError for a key that is taken."""
    rows = [
        Artifact(
            project=version.project,
            version_id=version.id,
            format=artifact.format,
            key=artifact.stored.key,
            digest=artifact.stored.digest,
            bytes=artifact.stored.bytes,
        )
        for artifact in artifacts
    ]
    sign(ring, version, rows)
    session.add_all(rows)
    session.flush()
    session.refresh(version, ["all_artifacts"])


def event_data(version: Version) -> dict[str, Any]:
    """What an event tells of a version."""
    return {"model": version.model, "version": version.number, "id": version.id}


def _version_of_run(session: Session, call: Call, training_run: str) -> Version | None:
    query = select(Version).where(
        Version.project == call.project, Version.training_run == training_run
    )
    return session.scalar(query)
