"""What every artifact store promises, on a local folder and on S3."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kernel.artifacts.store import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactStore,
    digest_of,
    open_store,
)
from app.kernel.errors import Conflict, RangeNotSatisfiable, ServiceError
from app.kernel.sql import new_id

PART = 8 << 20
NOT_KEYS = ["", ".", "..", "/a", "a/", "a//b", "a/../b", "a/./b", ".temporary/x", "a\\b", "a b"]
NOT_KEYS += ["a\n", "a\0", "é", "%2e%2e/x", "a/..%2f", "~/x", "-a", "x" * 200, "/".join("a" * 40)]


@pytest.fixture(params=["folder", "bucket"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ArtifactStore:
    if request.param == "folder":
        return open_store(f"file://{tmp_path / 'store'}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return open_store(f"s3://models/{new_id()}")


def names(store: ArtifactStore, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


@pytest.mark.parametrize("content", [b"", b"abc", os.urandom(3 << 20)])
def test_what_was_put_is_read_back(store: ArtifactStore, content: bytes) -> None:
    stored = store.put("a/b", content)
    assert stored == (type(stored))("a/b", digest_of(content), len(content))
    assert store.open("a/b", stored.digest, size=stored.bytes) == content
    assert [(found.key, found.bytes) for found in store.list()] == [("a/b", len(content))]


def test_a_big_thing_is_atomic_too(store: ArtifactStore) -> None:
    content = os.urandom(PART + 5)
    stored = store.put("big", iter([content[:100], content[100:]]))
    assert store.open("big", stored.digest) == content
    with pytest.raises(Conflict):
        store.put("big", iter([content, b"more"]))
    assert store.put("big", content) == stored
    assert names(store) == ["big"]
    assert store.sweep_temporary(0) == 0


def test_it_is_put_from_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"abc")
    assert store.put("a", tmp_path / "model").digest == digest_of(b"abc")


def test_a_link_is_not_put(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="regular file"):
        store.put("a", tmp_path / "model")
    with pytest.raises(ValueError, match="regular file"):
        store.put("a", Path("/dev/null"))
    assert names(store) == []


def test_the_same_bytes_again_are_accepted_others_are_a_conflict(store: ArtifactStore) -> None:
    first = store.put("a", b"abc")
    assert store.put("a", b"abc") == first
    with pytest.raises(Conflict):
        store.put("a", b"abd")
    assert store.open("a", first.digest) == b"abc"


def test_of_many_writers_of_one_key_one_wins(store: ArtifactStore) -> None:
    def attempt(number: int) -> str | None:
        try:
            return store.put("a", b"%d" % number).digest
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as threads:
        winners = [digest for digest in threads.map(attempt, range(8)) if digest]
    assert len(winners) == 1
    assert store.open("a", winners[0])


@pytest.mark.parametrize("sent", [3, PART + 1])
def test_a_source_that_breaks_off_leaves_nothing(store: ArtifactStore, sent: int) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * sent
        raise ServiceError("the client went away")

    with pytest.raises(ServiceError, match="went away"):
        store.put("a", broken())
    assert names(store) == []
    assert store.sweep_temporary(0) == 0
    assert store.put("a", b"whole").bytes == 5


def test_bytes_of_another_digest_or_size_are_never_returned(store: ArtifactStore) -> None:
    store.put("a", b"abc")
    for digest, size in [(digest_of(b"abd"), None), (digest_of(b"abc"), 4), (digest_of(b""), 0)]:
        with pytest.raises(ArtifactCorrupt, match="corrupt") as raised:
            store.open("a", digest, size=size)
        assert (raised.value.status, raised.value.retryable) == (503, False)
    with pytest.raises(ValueError, match="sha-256"):
        store.open("a", "md5:abc")


def test_fetched_bytes_appear_only_when_checked(store: ArtifactStore, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    stored = store.put("a", content)
    destination = tmp_path / "fetched" / "data"
    destination.parent.mkdir()
    with pytest.raises(ArtifactCorrupt):
        store.fetch("a", digest_of(b"other"), destination)
    assert list(destination.parent.iterdir()) == []
    store.fetch("a", stored.digest, destination, size=stored.bytes)
    assert destination.read_bytes() == content
    assert destination.stat().st_mode & 0o777 == 0o600


def test_what_is_missing_is_told(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(b"")
    for read in (
        lambda: store.open("a/b", digest),
        lambda: store.fetch("a/b", digest, tmp_path / "x"),
        lambda: store.stream("a/b"),
    ):
        with pytest.raises(ArtifactMissing, match="missing"):
            read()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(st.binary(max_size=300), max_size=4),
    start=st.integers(0, 400),
    end=st.none() | st.integers(0, 500),
)
def test_any_range_is_the_slice(
    store: ArtifactStore, pieces: list[bytes], start: int, end: int | None
) -> None:
    content = b"".join(pieces)
    key = store.put(f"ranges/{new_id()}", iter(pieces)).key
    if 0 < start >= len(content):
        with pytest.raises(RangeNotSatisfiable):
            store.stream(key, start, end)
    else:
        assert b"".join(store.stream(key, start, end)) == content[start:end]


def test_a_deleted_key_is_gone_and_others_are_not(store: ArtifactStore) -> None:
    for key in ("a/b/c", "a/b/d", "ab"):
        store.put(key, b"x")
    for _ in range(2):
        store.delete("a/b/c")
    store.delete("a")
    assert names(store) == ["a/b/d", "ab"]
    store.put("a/b/c", b"other")


def test_a_prefix_is_whole_segments(store: ArtifactStore) -> None:
    for key in ("a/b/c", "a/bc/d", "ab/c"):
        store.put(key, b"x")
    assert names(store, "a/b") == ["a/b/c"]
    assert names(store, "a") == ["a/b/c", "a/bc/d"]
    assert names(store, "none") == []


@pytest.mark.parametrize("key", NOT_KEYS)
def test_what_is_not_a_key_is_refused_everywhere(
    store: ArtifactStore, tmp_path: Path, key: str
) -> None:
    digest = digest_of(b"x")
    for use in (
        lambda: store.put(key, b"x"),
        lambda: store.open(key, digest),
        lambda: store.fetch(key, digest, tmp_path / "x"),
        lambda: store.stream(key),
        lambda: store.delete(key),
        lambda: list(store.list(key or ".")),
    ):
        with pytest.raises(ValueError, match="not a storage key"):
            use()


def test_it_says_whether_it_can_be_written(store: ArtifactStore) -> None:
    store.check()
    free = store.free_bytes()
    assert free is None or free > 0
    assert names(store) == []


def test_a_local_path_if_any_holds_the_checked_bytes(store: ArtifactStore) -> None:
    stored = store.put("a/b", b"abc")
    path = store.local_path("a/b", stored.digest)
    assert path is None or path.read_bytes() == b"abc"
