"""``modelyard restore``: a backup put into an empty home, whole or not at all.

In order: every byte of the file is checked; the home is locked and must be empty; a journal says
what is about to be put where; the artifacts go to the store, the databases and the secret beside
their places, then to them; the journal goes. As long as it is there no server starts, and the next
``restore`` first takes away what an interrupted one has put.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.config import Settings
from app.kernel.artifacts.store import ArtifactStore, open_store
from app.kernel.artifacts.stored import Digest, Stored, write_all
from app.kernel.backup_file import (
    BackupError,
    artifact_member,
    members_of,
    read_members,
    verified,
)
from app.kernel.durable import sync_folder
from app.kernel.migrations import is_known
from app.kernel.signing import KeyRing
from app.supervisor import RESTORING, one_per_home
from app.wiring import Wiring

_JOURNAL = "journal.json"
_HARMLESS = {"lock", "sockets", RESTORING}
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Restored:
    """What has been put in place, and what was missing already when the backup was made."""

    counts: Mapping[str, int]
    missing: Mapping[str, str]


def restore(settings: Settings, file: Path) -> Restored:
    """Put a backup into an empty home.

    Raises BackupError for what is no whole backup, or does not fit the settings or this version;
    SettingsError while a server runs there; ServiceError and OSError. Then the home is as before.
    """
    manifest = verified(file)
    _refuse_newer(file, manifest)
    with closing(Wiring(settings)) as wiring:
        targets = _targets(wiring, manifest)
        with one_per_home(settings):
            _undo(settings)
            _refuse_taken(wiring, targets)
            _Restoration(settings, wiring.store, file, manifest, targets).run()
    missing = {told["key"]: told["reason"] for told in manifest["missing"]}
    return Restored(manifest["counts"], missing)


def _refuse_newer(file: Path, manifest: Mapping[str, Any]) -> None:
    revisions = [found for told in manifest["databases"] for found in told["revisions"].items()]
    if not all(is_known(history, revision) for history, revision in revisions):
        version = manifest["version"]
        raise BackupError(f"{file} was made by a newer version of Modelyard, {version}: use that")


def _targets(wiring: Wiring, manifest: Mapping[str, Any]) -> dict[str, Path]:
    """Where each database of a backup goes; raises BackupError where the settings differ."""
    targets: dict[str, Path] = {}
    for told in manifest["databases"]:
        databases = {service: wiring.database(service) for service in told["services"]}
        urls = {database.url for database in databases.values()}
        if len(urls) > 1 or any(each.dialect != "sqlite" for each in databases.values()):
            raise BackupError(
                f"The backup has one SQLite file of {', '.join(databases)}: set it so"
            )
        targets[told["member"]] = Path(str(urls.pop().database)).resolve()
    for service in manifest["elsewhere"]:
        if wiring.database(service).dialect == "sqlite":
            raise BackupError(
                f"The backup is without the database of {service}: restore the dump of its Postgres"
                " with pg_restore first, and set MODELYARD_DATABASE_URL to it"
            )
    if len(set(targets.values())) < len(targets):
        raise BackupError(
            "The backup has several SQLite files: give each service its own, as there"
        )
    return targets


def _refuse_taken(wiring: Wiring, targets: Mapping[str, Path]) -> None:
    """Raise BackupError unless the home, the store and the databases' places are empty."""
    settings = wiring.settings
    found = [path for path in settings.instance.iterdir() if path.name not in _HARMLESS]
    for target in targets.values():
        beside = [target.with_name(target.name + suffix) for suffix in _SIDE_FILES]
        found += [path for path in beside if path.exists()]
    if found:
        raise BackupError(f"The home is not empty: there is {found[0]}")
    thing = next(iter(wiring.store.list()), None)
    if thing is not None:
        raise BackupError(f"The artifact store is not empty: there is {thing.key}")


class _Restoration:
    """One backup being put in place."""

    def __init__(
        self,
        settings: Settings,
        store: ArtifactStore,
        file: Path,
        manifest: Mapping[str, Any],
        targets: Mapping[str, Path],
    ) -> None:
        self._settings = settings
        self._store = store
        self._file = file
        self._members = {member.key: member for member in members_of(manifest)}
        self._keys = {artifact_member(told["key"]): told["key"] for told in manifest["artifacts"]}
        self._targets = targets
        self._secret = manifest["secret"]["member"]
        self._left = set(self._members)

    def run(self) -> None:
        """Put everything in place, or leave everything as it was."""
        settings = self._settings
        secret = settings.instance / "secret"
        places = {member: _draft(target) for member, target in self._targets.items()}
        places[self._secret] = _draft(secret)
        _announce(settings, [secret, *self._targets.values()])
        try:
            self._put_all(places)
            self._place(places[self._secret], secret)
            for member, target in self._targets.items():
                places[member].replace(target)
                sync_folder(target.parent)
        except BaseException:
            _undo(settings)
            raise
        _finish(settings)

    def _put_all(self, places: Mapping[str, Path]) -> None:
        read_members(self._file, lambda name, chunks: self._put(places, name, chunks))
        if self._left:
            raise BackupError(f"{self._file} was changed while it was read")

    def _put(self, places: Mapping[str, Path], name: str, chunks: Iterator[bytes]) -> None:
        if name not in self._members:
            return
        if name in places:
            seen = _write(places[name], chunks)
        else:
            seen = self._store.put(self._keys[name], chunks)
        if replace(seen, key=name) != self._members[name]:
            raise BackupError(f"{self._file} was changed while it was read")
        self._left.discard(name)

    def _place(self, draft: Path, secret: Path) -> None:
        """Put the secret in place, unless the settings have it."""
        if not self._settings.secret:
            draft.replace(secret)
            sync_folder(secret.parent)
            return
        ring = KeyRing.from_text(self._settings.secret)
        theirs = KeyRing.from_text(draft.read_text())
        if not ring.knows(theirs.sign("restore", b"")):
            raise BackupError("MODELYARD_SECRET is not the backup's: unset it, or add the backup's")
        draft.unlink()


def _write(path: Path, chunks: Iterator[bytes]) -> Stored:
    seen = Digest()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        for chunk in seen.through(chunks):
            write_all(handle, chunk)
        os.fsync(handle)
    finally:
        os.close(handle)
    return Stored(path.name, str(seen), seen.bytes)


def _draft(target: Path) -> Path:
    return target.with_name(target.name + ".restoring")


def _announce(settings: Settings, files: list[Path]) -> None:
    """Write the journal: what is there later under these names is ours to take away."""
    told = {"store": settings.store(), "files": [str(file) for file in files]}
    folder = settings.instance / RESTORING
    folder.mkdir(mode=0o700)
    draft = folder / f"{_JOURNAL}.draft"
    _write(draft, iter([json.dumps(told).encode()]))
    draft.replace(folder / _JOURNAL)
    for each in (folder, settings.instance):
        sync_folder(each)


def _undo(settings: Settings) -> None:
    """Take away what an unfinished restore has put, by its journal."""
    journal = settings.instance / RESTORING / _JOURNAL
    if journal.exists():
        told = json.loads(journal.read_text())
        store = open_store(told["store"])
        for thing in list(store.list()):
            store.delete(thing.key)
        for file in map(Path, told["files"]):
            for path in (file, _draft(file)):
                path.unlink(missing_ok=True)
    _finish(settings)


def _finish(settings: Settings) -> None:
    """Take the journal away: from here on the home is an ordinary one."""
    folder = settings.instance / RESTORING
    with suppress(FileNotFoundError):
        (folder / _JOURNAL).unlink()
        sync_folder(folder)
    shutil.rmtree(folder, ignore_errors=True)
    sync_folder(settings.instance)
