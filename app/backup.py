"""``modelyard backup``: databases, artifacts and secret as one file, while the server goes on.

In order: the databases are copied as of one moment; each artifact that they name is put into the
file, checked. Artifacts never change, but some may have been deleted meanwhile: then the databases
are copied anew, and what only the new copy names is added, until nothing is missing. What is
missing although two copies name it is missing from the installation; the backup says so. Last come
the databases, the secret and the manifest. The file gets its name when it is whole.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from app.config import Settings
from app.datasets.leftovers import stored_in as stored_in_datasets
from app.factory import own_version
from app.kernel import faults
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import ArtifactCorrupt, Stored
from app.kernel.backup_file import BackupError, BackupWriter, artifact_member
from app.kernel.durable import sync_folder
from app.kernel.migrations import is_current, revision_of
from app.kernel.snapshots import copy_databases, count_rows
from app.kernel.sql import Database, utc_now
from app.models.collection import stored_in as stored_in_models
from app.predictions.contents import stored_in as stored_in_predictions
from app.streams.views.leftovers import stored_in as stored_in_streams
from app.wiring import Wiring

STORED_IN: Mapping[str, Callable[[Database], Iterator[Stored]]] = {
    "datasets": stored_in_datasets,
    "models": stored_in_models,
    "predictions": stored_in_predictions,
    "streams": stored_in_streams,
}
_WORK = ".modelyard-backup"
_POSTGRES = (
    "The database of {services} is a Postgres, which is not copied here. Stop the server, then run"
    " pg_dump --format=custom --file=modelyard.dump DATABASE, and after it"
    " modelyard backup --without-postgres FILE"
)


@dataclass
class Made:
    """What a backup holds."""

    databases: int = 0
    artifacts: dict[str, Stored] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all artifacts."""
        return sum(stored.bytes for stored in self.artifacts.values())


def back_up(settings: Settings, file: Path, *, without_postgres: bool = False) -> Made:
    """Write a backup; a file that has the name already is replaced when the new one is whole.

    Raises BackupError, SettingsError, ServiceError and OSError; then nothing is left of it. What a
    killed one leaves, the next one to the same folder clears away.
    """
    with closing(Wiring(settings)) as wiring:
        local, remote = _databases(wiring)
        if remote and not without_postgres:
            raise BackupError(_POSTGRES.format(services=", ".join(remote)))
        _refuse_empty(wiring)
        with _work(file) as folder, _whole(file, folder) as opened:
            writer = BackupWriter(opened, {"version": own_version(), "made_at": _now()})
            return _Backup(wiring, local, remote, writer, folder).write()


def _databases(wiring: Wiring) -> tuple[dict[Path, list[str]], list[str]]:
    """The SQLite files, each with its services, and the services whose databases are elsewhere."""
    local: dict[Path, list[str]] = {}
    remote = []
    for service in wiring.settings.services:
        database = wiring.database(service)
        if database.dialect == "sqlite":
            local.setdefault(Path(str(database.url.database)).resolve(), []).append(service)
        else:
            remote.append(service)
    return local, remote


def _refuse_empty(wiring: Wiring) -> None:
    """Raise BackupError unless everything is there: looking must not make it."""
    settings = wiring.settings
    files = [Path(str(db.url.database)) for db in wiring.databases() if db.dialect == "sqlite"]
    secret = [] if settings.secret else [settings.instance / "secret"]
    if not all(file.exists() for file in [*files, *secret]):
        raise BackupError(f"There is nothing to back up yet in {settings.home}")
    for service in settings.services:
        database = wiring.database(service)
        if not all(is_current(database, history) for history in ("kernel", service)):
            raise BackupError(f"The database of {service} is behind: run `modelyard migrate` first")


class _Backup:
    """One backup being made."""

    def __init__(
        self,
        wiring: Wiring,
        local: Mapping[Path, Sequence[str]],
        remote: Sequence[str],
        writer: BackupWriter,
        folder: Path,
    ) -> None:
        self._wiring = wiring
        self._store: ArtifactStore = wiring.store
        self._local = local
        self._remote = remote
        self._writer = writer
        self._folder = folder
        self._copies: dict[Path, Path] = {}
        self._made = Made(databases=len(local))

    def write(self) -> Made:
        """Write all; what has been written."""
        missing: dict[str, str] = {}
        while True:
            named = self._copy_databases()
            before, missing = missing, self._add_artifacts(named)
            if missing.keys() <= before.keys():
                break
        kept = {key: self._made.artifacts[key] for key in named if key in self._made.artifacts}
        self._made = Made(len(self._local), kept, missing)
        databases = [self._add_database(file, number) for number, file in enumerate(self._local)]
        self._writer.close(self._manifest(databases, named))
        return self._made

    def _copy_databases(self) -> dict[str, Stored]:
        """Take a new copy of the databases; what it names in the store."""
        for copy in self._copies.values():
            copy.unlink()
        self._copies = copy_databases(list(self._local), self._folder)
        faults.hit("backup.copied")
        named: dict[str, Stored] = {}
        for service, stored_in in STORED_IN.items():
            with self._looked_at(service) as database:
                if database is not None:
                    named |= {stored.key: stored for stored in stored_in(database)}
        return named

    @contextmanager
    def _looked_at(self, service: str) -> Iterator[Database | None]:
        """The copy of a service's database, or the live one where it is not copied."""
        if service in self._remote:
            yield self._wiring.database(service)
            return
        for file, services in self._local.items():
            if service in services:
                with closing(Database(f"sqlite:///{self._copies[file]}")) as database:
                    yield database
                return
        yield None

    def _add_artifacts(self, named: Mapping[str, Stored]) -> dict[str, str]:
        """Add what is not in the file yet; the keys of what can't be had, each with the reason."""
        missing = {}
        for stored in named.values():
            if stored.key in self._made.artifacts:
                continue
            try:
                self._made.artifacts[stored.key] = self._add_artifact(stored)
                faults.hit("backup.artifact")
            except ArtifactCorrupt as error:
                missing[stored.key] = error.detail
        return missing

    def _add_artifact(self, stored: Stored) -> Stored:
        path = self._store.local_path(stored.key, stored.digest, size=stored.bytes)
        fetched = self._folder / "artifact"
        if path is None:
            self._store.fetch(stored.key, stored.digest, fetched, size=stored.bytes)
        try:
            written = self._writer.add_file(artifact_member(stored.key), path or fetched)
        except FileNotFoundError as error:
            raise ArtifactCorrupt("it was deleted", key=stored.key) from error
        finally:
            fetched.unlink(missing_ok=True)
        if (written.digest, written.bytes) != (stored.digest, stored.bytes):
            raise BackupError(f"{stored.key} was changed while it was copied")
        return stored

    def _add_database(self, file: Path, number: int) -> dict[str, Any]:
        copy, services = self._copies[file], self._local[file]
        with closing(Database(f"sqlite:///{copy}")) as database:
            revisions = {name: revision_of(database, name) for name in ("kernel", *services)}
        written = self._writer.add_file(f"databases/{number}.db", copy)
        return {
            "member": written.key,
            "digest": written.digest,
            "bytes": written.bytes,
            "services": list(services),
            "revisions": revisions,
            "rows": count_rows(copy),
        }

    def _manifest(
        self, databases: list[dict[str, Any]], named: Mapping[str, Stored]
    ) -> dict[str, Any]:
        settings = self._wiring.settings
        secret = settings.secret or (settings.instance / "secret").read_text()
        written = self._writer.add_bytes("secret", secret.strip().encode())
        return {
            "version": own_version(),
            "made_at": _now(),
            "databases": databases,
            "elsewhere": list(self._remote),
            "secret": {"member": written.key, "digest": written.digest, "bytes": written.bytes},
            "artifacts": [asdict(stored) for stored in self._made.artifacts.values()],
            "missing": [
                asdict(named[key]) | {"reason": reason}
                for key, reason in self._made.missing.items()
            ],
            "counts": {
                "databases": len(databases),
                "artifacts": len(self._made.artifacts),
                "bytes": self._made.bytes,
                "missing": len(self._made.missing),
            },
        }


@contextmanager
def _work(file: Path) -> Iterator[Path]:
    """A folder beside the file, for the copies and the draft.

    What backups that were killed have left there, whatever their files were called, is cleared
    away: nobody holds its lock any more.
    """
    for left in file.parent.glob(f".*{_WORK}"):
        with _locked(left) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)
    folder = file.with_name(f".{file.name}{_WORK}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with _locked(folder) as held:
        if not held:
            raise BackupError(f"Another backup to {file} is being made")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a work folder's lock while the block runs; False where it is somebody else's."""
    handle = None
    try:
        if folder.lstat().st_uid == os.geteuid():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            handle = os.open(folder / "lock", flags, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = handle is not None
    except OSError:
        held = False
    try:
        yield held
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def _whole(file: Path, folder: Path) -> Iterator[BinaryIO]:
    """A new file that takes the name when the block returns, and that only its owner can read."""
    draft = folder / "draft"
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w+b") as opened:
        yield opened
        opened.flush()
        os.fsync(opened.fileno())
    faults.hit("backup.drafted")
    draft.replace(file)
    faults.hit("backup.named")
    sync_folder(file.parent)


def _now() -> str:
    return utc_now().isoformat(timespec="seconds").replace("+00:00", "Z")
