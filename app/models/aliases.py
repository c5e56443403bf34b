"""Aliases: a name for one version of a model at a time, with a history that is only added to."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Change, Changes, Created
from app.kernel.errors import Conflict, Invalid, NotFound, PreconditionFailed
from app.kernel.http.pagination import Listing, Page
from app.kernel.signing import KeyRing
from app.kernel.sql import utc_now
from app.models.lookup import find_model, is_being_removed, refuse_removal, touch
from app.models.tables import READY, Alias, AliasMove, Model, Version

SET, ROLLED_BACK, DELETED = "set", "rolled_back", "deleted"
MOVES = (SET, ROLLED_BACK, DELETED)
RESERVED = ("latest",)

ALIASES = Listing(
    "Aliases",
    {"alias": Alias.alias, "version": Alias.version, "moved_at": Alias.moved_at},
    order=("alias", "moved_at"),
    identity=Alias.id,
    default_order="alias",
)
HISTORY = Listing(
    "AliasMoves",
    {"number": AliasMove.number, "moved_at": AliasMove.moved_at},
    order=("number",),
    identity=AliasMove.id,
    default_order="-number",
)


class Aliases:
    """What can be done with aliases."""

    def __init__(self, changes: Changes, ring: KeyRing) -> None:
        self._changes = changes
        self._database = changes.database
        self._ring = ring

    def page(self, call: Call, model: str, arguments: Mapping[str, Any]) -> Page[Alias]:
        """The aliases of a model; raises NotFound."""
        with self._database.read() as session:
            parent = find_model(session, call, model)
            query = select(Alias).where(Alias.model_id == parent.id)
            return ALIASES.page(session, query, arguments, self._ring, f"{call.project}/{model}")

    def get(self, call: Call, model: str, alias: str) -> Alias:
        """One alias; raises NotFound."""
        with self._database.read() as session:
            return _existing(session, find_model(session, call, model), alias)

    def history(
        self, call: Call, model: str, alias: str, arguments: Mapping[str, Any]
    ) -> Page[AliasMove]:
        """The moves of an alias, also after it was deleted; NotFound if it never was."""
        with self._database.read() as session:
            parent = find_model(session, call, model)
            if _last_move(session, parent, alias) is None:
                raise NotFound(f"The model {model} has never had an alias {alias}")
            return HISTORY.page(
                session,
                select(AliasMove).where(_moves_of(parent, alias)),
                arguments,
                self._ring,
                f"{call.project}/{model}/{alias}",
            )

    def put(
        self,
        call: Call,
        model: str,
        alias: str,
        version: int,
        reason: str = "",
        *,
        only_new: bool = False,
    ) -> Alias | Created:
        """Point an alias at a ready version; nothing happens if it points there already.

        Raises Invalid for a name that is no alias or a version that isn't there, Conflict for one
        that isn't ready, PreconditionFailed with ``only_new`` when the alias exists.
        """
        _refuse_name(alias)
        with self._changes.begin(call) as change:
            parent = find_model(change.session, call, model, lock=True)
            row = _find(change.session, parent, alias, lock=True)
            _check_conditions(change, row, only_new=only_new)
            refuse_removal(parent)
            _require_ready(change.session, parent, version)
            if row is not None and row.version == version:
                return row
            last = _last_move(change.session, parent, alias)
            before = None if last is None or last.kind == DELETED else last.number
            moved = _move(change, parent, row, alias, version, SET, before, reason)
        return Created(moved) if row is None else moved

    def rollback(self, call: Call, model: str, alias: str, reason: str = "") -> Alias:
        """Point an alias back at the version it had before, as long as that is ready.

        Versions that were deleted or are not ready are passed over. Raises Conflict when there is
        none to go back to.
        """
        with self._changes.begin(call) as change:
            parent = find_model(change.session, call, model, lock=True)
            row = _existing(change.session, parent, alias, lock=True)
            change.guard(row)
            refuse_removal(parent)
            target = _move_to_return_to(change.session, parent, row)
            moved = _move(
                *(change, parent, row, alias, target.to_version or 0),
                *(ROLLED_BACK, target.before, reason),
            )
            change.answer(moved)
        return moved

    def delete(self, call: Call, model: str, alias: str) -> None:
        """Take an alias away; its history stays. Raises NotFound."""
        with self._changes.begin(call) as change:
            parent = find_model(change.session, call, model, lock=True)
            row = _existing(change.session, parent, alias, lock=True)
            change.guard(row)
            refuse_removal(parent)
            _note(change, parent, row, alias, None, DELETED, None, "")
            change.session.delete(row)
            touch(parent)
            data = {"model": model, "alias": alias, "previous": row.version}
            change.record("alias.deleted", row.subject, data)


def _refuse_name(alias: str) -> None:
    if alias.isdigit():
        raise Invalid.at("alias", "reserved", "An alias is no number: numbers are versions")
    if alias in RESERVED:
        raise Invalid.at(
            "alias",
            "reserved",
            f"{alias} is reserved: a bare model name follows the newest version",
        )


def _check_conditions(change: Change, row: Alias | None, *, only_new: bool) -> None:
    if row is not None and only_new:
        raise PreconditionFailed("The alias exists already")
    if row is None and change.call.if_match is not None:
        raise PreconditionFailed("There is no such alias that could match")
    if row is not None:
        change.guard(row)


def _find(session: Session, model: Model, alias: str, *, lock: bool = False) -> Alias | None:
    query = select(Alias).where(Alias.model_id == model.id, Alias.alias == alias)
    return session.scalar(query.with_for_update() if lock else query)


def _existing(session: Session, model: Model, alias: str, *, lock: bool = False) -> Alias:
    row = _find(session, model, alias, lock=lock)
    if row is None:
        raise NotFound(f"The model {model.name} has no alias {alias}")
    return row


def _require_ready(session: Session, model: Model, number: int) -> None:
    query = select(Version).where(Version.model_id == model.id, Version.number == number)
    version = session.scalar(query.with_for_update())
    if version is None:
        raise Invalid.at(
            "/version", "unknown_version", f"There is no version {number} of {model.name}"
        )
    refuse_removal(version)
    if version.state != READY:
        raise Conflict(f"{version.subject} is {version.state}, not {READY}")


def _moves_of(model: Model, alias: str) -> Any:
    return (AliasMove.model_id == model.id) & (AliasMove.alias == alias)


def _last_move(session: Session, model: Model, alias: str) -> AliasMove | None:
    query = select(AliasMove).where(_moves_of(model, alias))
    return session.scalar(query.order_by(AliasMove.number.desc()).limit(1))


def _move_to_return_to(session: Session, model: Model, row: Alias) -> AliasMove:
    moves = {
        move.number: move
        for move in session.scalars(select(AliasMove).where(_moves_of(model, row.alias)))
    }
    wanted = {move.to_version for move in moves.values()}
    versions = session.scalars(
        select(Version).where(
            Version.model_id == model.id, Version.state == READY, Version.number.in_(wanted)
        )
    )
    ready = {version.number for version in versions if not is_being_removed(version)}
    move = moves.get(moves[max(moves)].before or 0)
    while move is not None:
        if move.to_version in ready and move.to_version != row.version:
            return move
        move = moves.get(move.before or 0)
    raise Conflict(f"{row.subject} has no earlier version to go back to")


def _move(
    change: Change,
    parent: Model,
    row: Alias | None,
    alias: str,
    version: int,
    kind: str,
    before: int | None,
    reason: str,
) -> Alias:
    previous = None if row is None else row.version
    _note(change, parent, row, alias, version, kind, before, reason)
    if row is None:
        row = Alias(project=parent.project, model_id=parent.id, model=parent.name, alias=alias)
        change.session.add(row)
    row.version, row.reason = version, reason
    row.moved_by, row.moved_at = change.call.key_id, utc_now()
    touch(parent)
    data = {"model": parent.name, "alias": alias, "version": version, "previous": previous}
    change.record("alias.moved", row.subject, {**data, "reason": reason})
    return row


def _note(
    change: Change,
    parent: Model,
    row: Alias | None,
    alias: str,
    version: int | None,
    kind: str,
    before: int | None,
    reason: str,
) -> None:
    """Add a move to the history."""
    highest = select(func.max(AliasMove.number)).where(_moves_of(parent, alias))
    change.session.add(
        AliasMove(
            project=parent.project,
            model_id=parent.id,
            alias=alias,
            number=(change.session.scalar(highest) or 0) + 1,
            kind=kind,
            from_version=None if row is None else row.version,
            to_version=version,
            before=before,
            reason=reason,
            moved_by=change.call.key_id,
        )
    )
