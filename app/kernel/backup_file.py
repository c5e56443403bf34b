"""A backup as one tar file: how it is written, and how it comes to be believed.

In order: ``about.json`` says what the file is; then come the artifacts, the databases and the
secret; ``manifest.json`` names each of them with its digest, and ``manifest.sha-256`` is the
manifest's own. So a file that ends too early lacks its end, and one that was changed shows it.
What the manifest does not name is no part of the backup: an artifact that was deleted while it was
made.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from app.kernel.artifacts.stored import CHUNK, Digest, Stored

ABOUT, MANIFEST, SEAL = "about.json", "manifest.json", "manifest.sha-256"
FORMAT = 1
_PRODUCT = "modelyard backup"
_MOST_ABOUT, _MOST_MANIFEST = 1 << 16, 1 << 31


class BackupError(Exception):
    """A backup that can't be made or can't be restored; the message says why, in one line."""


class BackupWriter:
    """Writes the members of one backup."""

    def __init__(self, file: BinaryIO, about: Mapping[str, Any]) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 (closed by close)
            fileobj=file, mode="w", format=tarfile.PAX_FORMAT
        )
        self.add_bytes(ABOUT, _json({**about, "product": _PRODUCT, "format": FORMAT}))

    def add_file(self, name: str, path: Path) -> Stored:
        """Add a file; what has been written of it."""
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            return self._add(name, size, file)

    def add_bytes(self, name: str, content: bytes) -> Stored:
        """Add what is in memory."""
        return self._add(name, len(content), io.BytesIO(content))

    def _add(self, name: str, size: int, source: BinaryIO) -> Stored:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        seen = _Seen(source)
        self._tar.addfile(member, seen)
        return Stored(name, str(seen.digest), size)

    def close(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest: now the backup is whole."""
        content = _json(manifest)
        self.add_bytes(MANIFEST, content)
        self.add_bytes(SEAL, hashlib.sha256(content).hexdigest().encode())
        self._tar.close()


class _Seen(io.RawIOBase):
    """A file that digests what is read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = Digest()

    def read(self, size: int = -1, /) -> bytes:
        """As the file's own."""
        return b"".join(self.digest.through([self._source.read(size)]))


def verified(path: Path) -> dict[str, Any]:
    """The manifest of a backup, every byte of which has been read and checked.

    Raises BackupError for a file that is damaged, cut off or no backup; OSError.
    """
    found: dict[str, Stored] = {}
    kept: dict[str, bytes] = {}

    def look(name: str, chunks: Iterator[bytes]) -> None:
        if name in found:
            raise BackupError(f"{path} is damaged: it has {name[:80]} twice")
        seen = Digest()
        pieces = seen.through(chunks)
        if name in (MANIFEST, SEAL):
            kept[name] = b"".join(pieces)
        else:
            for _ in pieces:
                pass
        found[name] = Stored(name, str(seen), seen.bytes)

    read_members(path, look)
    manifest = _manifest(path, kept)
    for named in members_of(manifest):
        if named.key not in found:
            raise BackupError(f"{path} is damaged: {named.key} is missing")
        if found[named.key] != named:
            raise BackupError(f"{path} is damaged: {named.key} is not what was written")
    return manifest


def members_of(manifest: Mapping[str, Any]) -> list[Stored]:
    """All that belongs to a backup, by the names of its members."""
    artifacts = [
        Stored(artifact_member(told["key"]), *_sum(told)) for told in manifest["artifacts"]
    ]
    databases = [Stored(told["member"], *_sum(told)) for told in manifest["databases"]]
    return [*artifacts, *databases, Stored(manifest["secret"]["member"], *_sum(manifest["secret"]))]


def artifact_member(key: str) -> str:
    """The name of an artifact in the file."""
    return f"artifacts/{key}"


def _sum(told: Mapping[str, Any]) -> tuple[str, int]:
    return str(told["digest"]), int(told["bytes"])


def read_members(path: Path, use: Callable[[str, Iterator[bytes]], None]) -> None:
    """Hand over each member's name and bytes, in their order.

    Raises BackupError for a file that is no tar, or is one of another origin; OSError.
    """
    with path.open("rb") as file, _tar_errors(path):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK) as tar:
            for number, member in enumerate(tar):
                _refuse_strange(path, member, size)
                opened = tar.extractfile(member)
                if opened is None:
                    raise BackupError(f"{path} is damaged: {member.name[:80]} is no file")
                if number == 0:
                    _refuse_foreign(path, member, opened)
                else:
                    use(member.name, iter(lambda: opened.read(CHUNK), b""))  # noqa: B023 (used at once)


def _refuse_strange(path: Path, member: tarfile.TarInfo, size: int) -> None:
    """Raise BackupError for what we never write: links, holes, names that lead elsewhere."""
    tarfile.data_filter(member, "/nowhere")
    limit = _MOST_MANIFEST if member.name == MANIFEST else size
    if not member.isreg() or member.issparse() or not 0 <= member.size <= min(size, limit):
        raise BackupError(f"{path} is damaged: {member.name[:80]} is no file of ours")


def _refuse_foreign(path: Path, member: tarfile.TarInfo, opened: IO[bytes]) -> None:
    """Raise BackupError unless the file begins as backups do, and can be read by this version."""
    about: Any = None
    if member.name == ABOUT and member.size <= _MOST_ABOUT:
        about = _parsed(opened.read())
    if not isinstance(about, dict) or about.get("product") != _PRODUCT:
        raise BackupError(f"{path} is no backup of Modelyard")
    if about.get("format") != FORMAT:
        raise BackupError(
            f"{path} was made by another version of Modelyard, {about.get('version')}"
        )


def _manifest(path: Path, kept: Mapping[str, bytes]) -> dict[str, Any]:
    if MANIFEST not in kept or SEAL not in kept:
        raise BackupError(f"{path} is cut off: its end is missing")
    manifest = _parsed(kept[MANIFEST])
    sealed = hashlib.sha256(kept[MANIFEST]).hexdigest().encode() == kept[SEAL]
    if not sealed or not isinstance(manifest, dict):
        raise BackupError(f"{path} is damaged: its manifest is not what was written")
    return manifest


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _json(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, indent=1, sort_keys=True).encode()


@contextmanager
def _tar_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.FilterError as error:
        raise BackupError(f"{path} is damaged: a name in it leads elsewhere") from error
    except tarfile.ReadError as error:
        cut = "unexpected end" in str(error)
        reason = "is cut off or damaged" if cut else "is no backup of Modelyard, or is damaged"
        raise BackupError(f"{path} {reason}") from error
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise BackupError(f"{path} is damaged: {error}") from error
