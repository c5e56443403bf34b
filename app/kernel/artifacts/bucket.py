"""Artifacts in a bucket of an S3-like store (the extra ``s3``: obstore).

Endpoint, region and credentials come from the usual ``AWS_*`` environment. What is small is put in
one request that fails if the key is taken (``If-None-Match: *``). What is larger is uploaded in
parts under ``.temporary/`` and then copied by the store to its key, on the same condition; S3
copies at most 5 GB so. Uploads that a crash broke off stay invisible; the bucket needs a lifecycle
rule that removes incomplete multipart uploads.
"""

import ipaddress
import os
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from app.kernel.artifacts.stored import (
    CHUNK,
    TEMPORARY,
    ArtifactCorrupt,
    ArtifactMissing,
    Digest,
    Listed,
    Source,
    Stored,
    chunks_of,
    end_of_range,
    segments_of,
    segments_of_prefix,
    write_checked,
)
from app.kernel.errors import Conflict, StorageFull, TooLarge, Unavailable

PART = 8 << 20
MAX_BYTES = 5_000_000_000
_PAUSES = (0.0, 0.1, 0.4, 1.5)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_FULL = ("StorageFull", "QuotaExceeded", "507 Insufficient Storage")


class BucketStore:
    """An ArtifactStore in an S3 bucket, below a prefix."""

    def __init__(self, bucket: str, prefix: str, *, retry_seconds: float = 20.0) -> None:
        patient = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "2h"}
        self._store = _opened(bucket, prefix, patient, retries=5, retry_seconds=retry_seconds)
        # Who asks whether the bucket is there wants to know it now.
        hasty = {"connect_timeout": "2s", "read_timeout": "3s", "timeout": "5s"}
        self._looking = _opened(bucket, prefix, hasty, retries=1, retry_seconds=3.0)

    def put(self, key: str, source: Source) -> Stored:
        """Store under a new key; the same bytes again are accepted, others are a Conflict."""
        segments_of(key)
        seen = Digest()
        chunks = _limited(seen.through(chunks_of(source)), seen)
        first = _first_part(chunks)
        try:
            with _store_errors(key):
                if len(first) < PART:
                    obstore.put(self._store, key, first, mode="create")
                else:
                    self._put_in_parts(key, chain([first], chunks))
        except AlreadyExistsError:
            if self._digest_of(key) != str(seen):
                raise Conflict("Other bytes are already stored under this key") from None
        stored = Stored(key, str(seen), seen.bytes)
        self._confirm(stored)
        return stored

    def open(self, key: str, digest: str, *, size: int | None = None) -> bytes:
        """The bytes under a key, read once and checked before they are handed over."""
        if size is not None and (found := self._size_of(key)) != size:
            raise ArtifactCorrupt(f"it has {found} bytes instead of {size}", key=key)
        seen = Digest()
        content = b"".join(seen.through(self._read(key)))
        seen.check(key, digest, size)
        return content

    def fetch(self, key: str, digest: str, destination: Path, *, size: int | None = None) -> None:
        """Copy to a file that appears only once its bytes are checked."""
        write_checked(self._read(key), key, digest, size, destination)

    def local_path(self, key: str, digest: str, *, size: int | None = None) -> Path | None:
        """None: nothing of a bucket is a local file; fetch it."""
        return None

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``."""
        stop = end_of_range(self._size_of(key), start, end)
        return self._read(key, start, stop) if start < stop else iter(())

    def delete(self, key: str) -> None:
        """Remove a key; no error if it isn't there."""
        segments_of(key)
        with _store_errors(key), suppress(ArtifactMissing):
            obstore.delete(self._store, key)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Everything below a prefix (whole segments), in the order of keys."""
        segments_of_prefix(prefix)
        for found in self._objects(prefix):
            with suppress(ValueError):
                segments_of(found["path"])
                yield Listed(found["path"], found["size"], found["last_modified"])

    def free_bytes(self) -> int | None:
        """None: a bucket does not say how much it still takes."""
        return None

    def check(self) -> None:
        """Raise StorageFull or Unavailable unless an object can be written now."""
        with _store_errors(f"{TEMPORARY}/check"):
            obstore.put(self._looking, f"{TEMPORARY}/check", b"x", use_multipart=False)

    def sweep_temporary(self, older_than: float) -> int:
        """Remove what dead writers staged ``older_than`` seconds ago; how many objects."""
        limit, swept = time.time() - older_than, 0
        for found in tuple(self._objects(TEMPORARY)):
            if found["last_modified"].timestamp() <= limit:
                with _store_errors(found["path"]):
                    obstore.delete(self._store, found["path"])
                swept += 1
        return swept

    def _confirm(self, stored: Stored) -> None:
        """Raise Unavailable unless the bucket shows what it has taken.

        Of what was sent as one request the bytes are read back, of what is larger only the size: it
        is digested when it is first used. Some stores show a new key late.
        """
        for pause in _PAUSES:
            time.sleep(pause)
            with suppress(ArtifactMissing):
                if stored.bytes >= PART and self._size_of(stored.key) == stored.bytes:
                    return
                if stored.bytes < PART and self._digest_of(stored.key) == stored.digest:
                    return
        raise Unavailable("The artifact store did not keep all bytes")

    def _put_in_parts(self, key: str, chunks: Iterable[bytes]) -> None:
        staged = f"{TEMPORARY}/{uuid.uuid4().hex}"
        try:
            obstore.put(
                self._store, staged, chunks, use_multipart=True, chunk_size=PART, max_concurrency=4
            )
            obstore.copy(self._store, staged, key, overwrite=False)
        finally:
            with suppress(BaseError, OSError):
                obstore.delete(self._store, staged)

    def _read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        segments_of(key)
        options = {} if stop is None else {"range": (start, stop)}
        with _store_errors(key):
            for piece in obstore.get(self._store, key, options=options).stream(CHUNK):
                yield bytes(piece)

    def _size_of(self, key: str) -> int:
        segments_of(key)
        try:
            with _store_errors(key):
                return int(obstore.head(self._store, key)["size"])
        except ArtifactMissing:
            # The answer to a HEAD has no body that would tell a missing bucket from a missing key.
            next(self._objects(TEMPORARY), None)
            raise

    def _digest_of(self, key: str) -> str:
        seen = Digest()
        for _ in seen.through(self._read(key)):
            pass
        return str(seen)

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        with _store_errors(prefix):
            for page in obstore.list(self._store, prefix or None):
                yield from page


def _opened(
    bucket: str, prefix: str, options: Mapping[str, str], *, retries: int, retry_seconds: float
) -> S3Store:
    """A client; pauses between its tries grow and are random."""
    told: dict[str, Any] = dict(options)
    if _endpoint_is_loopback():
        told["allow_http"] = True
    return S3Store(
        bucket,
        prefix=prefix or None,
        copy_if_not_exists="multipart",
        client_options=told,
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=retry_seconds)},
    )


def _endpoint_is_loopback() -> bool:
    """Whether the environment names an endpoint on this machine: that one may be without TLS."""
    url = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _limited(chunks: Iterable[bytes], seen: Digest) -> Iterator[bytes]:
    for chunk in chunks:
        if seen.bytes > MAX_BYTES:
            raise TooLarge(f"A bucket keeps at most {MAX_BYTES} bytes under one key")
        yield chunk


def _first_part(chunks: Iterator[bytes]) -> bytes:
    """As many chunks as make one part; fewer bytes than that only if there are no more."""
    part = bytearray()
    for chunk in chunks:
        part += chunk
        if len(part) >= PART:
            break
    return bytes(part)


@contextmanager
def _store_errors(key: str) -> Generator[None]:
    """Turn obstore's errors into ours; AlreadyExistsError is left to the caller."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (FileNotFoundError, BaseError) as error:
        told = str(error)
        if "NoSuchBucket" in told:
            raise Unavailable("The artifact store's bucket does not exist") from error
        if isinstance(error, FileNotFoundError):
            raise ArtifactMissing(key) from error
        if any(sign in told for sign in _FULL):
            raise StorageFull("No space left to keep it") from error
        raise Unavailable(f"The artifact store does not answer: {type(error).__name__}") from error
