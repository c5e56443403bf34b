"""What a folder store promises beyond the contract: faults, links, modes, bit rot."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.kernel.artifacts.folder import FolderStore
from app.kernel.artifacts.store import ArtifactCorrupt, ArtifactMissing, digest_of, open_store
from app.kernel.errors import Conflict, StorageFull, Unavailable

CONTENT = b"abc" * 1000
CALLS = ("open", "mkdir", "write", "fsync", "link", "rename", "unlink", "rmdir")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files(store: FolderStore) -> list[str]:
    return [found.key for found in store.list()]


@pytest.fixture
def fail_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], dict[str, int]]:
    """Make the n-th system call from now on fail with an error number; counts the calls."""
    real = {name: getattr(os, name) for name in CALLS}

    def arm(nth: int, number: int) -> dict[str, int]:
        seen = {"calls": 0}

        def failing(name: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                seen["calls"] += 1
                if seen["calls"] == nth:
                    raise OSError(number, os.strerror(number))
                return real[name](*args, **kwargs)

            return call

        for name in CALLS:
            monkeypatch.setattr(os, name, failing(name))
        return seen

    return arm


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_whichever_system_call_fails_nothing_partial_is_visible(
    store: FolderStore, fail_call: Callable[[int, int], dict[str, int]], number: int
) -> None:
    expected = StorageFull if number in {errno.ENOSPC, errno.EDQUOT} else Unavailable
    for nth in range(1, 100):
        seen = fail_call(nth, number)
        with suppress(expected):
            store.put(f"run/{nth}/model", CONTENT)
        calls = seen["calls"]
        fail_call(0, number)
        for found in store.list("run"):
            assert store.open(found.key, digest_of(CONTENT)) == CONTENT
        store.put(f"run/{nth}/model", CONTENT)
        if calls < nth:
            break
    assert 10 < nth < 50


def test_a_writer_killed_at_any_system_call_leaves_all_or_nothing(store: FolderStore) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from app.kernel.artifacts.folder import FolderStore
store, real = FolderStore(Path(sys.argv[1])), {{name: getattr(os, name) for name in {CALLS!r}}}
for nth in range(1, 100):
    if (child := os.fork()) == 0:
        calls = iter(range(nth))
        def armed(name):
            def call(*args, **kwargs):
                next(calls, None) is None and os.kill(os.getpid(), signal.SIGKILL)
                return real[name](*args, **kwargs)
            return call
        for name in real: setattr(os, name, armed(name))
        store.put(f"run/{{nth}}", {CONTENT!r})
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0: break
print(nth)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, store.list.__self__._root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 10 < int(ran.stdout) < 50
    assert files(store)
    for key in files(store):
        assert store.open(key, digest_of(CONTENT)) == CONTENT
    assert store.sweep_temporary(3600) == 0
    assert store.sweep_temporary(0) > 0
    assert store.sweep_temporary(0) == 0


FULL_DISK = """
import os, sys
from pathlib import Path
from app.kernel.errors import StorageFull
from app.kernel.artifacts.folder import FolderStore
store = FolderStore(Path(sys.argv[1]) / "store")
store.put("small", b"x" * 100_000)
for source in (b"y" * 9_000_000, iter([b"y" * 100_000] * 90)):
    try:
        store.put("folder/big", source)
    except StorageFull:
        print("full")
assert [found.key for found in store.list()] == ["small"], list(store.list())
assert not os.listdir(Path(sys.argv[1]) / "store" / ".temporary")
store.delete("small")
store.put("folder/big", b"y" * 100_000)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A tmpfs of 4 MB in a mount namespace of its own; without the right, a limit of file size."""
    program, limit = [sys.executable, "-c", FULL_DISK, str(tmp_path)], 4 << 20
    mount = f"mount -t tmpfs -o size=4m none {tmp_path}"
    isolated = ["unshare", "-m", "sh", "-c", mount]
    if shutil.which("unshare") and subprocess.run(isolated, check=False).returncode == 0:
        program = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *program]
        limit = resource.RLIM_INFINITY
    ran = subprocess.run(
        program,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "full\nfull\n"), ran.stderr


def test_only_the_owner_can_read(store: FolderStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.put("a/b/c", b"x")
    finally:
        os.umask(before)
    path = tmp_path / "store"
    assert (path / "a/b/c").stat().st_mode & 0o777 == 0o600
    for folder in (path, path / ".temporary", path / "a", path / "a/b"):
        assert folder.stat().st_mode & 0o777 == 0o700


def _truncated(path: Path) -> None:
    os.truncate(path, 100)


def _flipped(path: Path) -> None:
    path.write_bytes(CONTENT[:7] + b"X" + CONTENT[8:])


@pytest.mark.parametrize("damage", [_truncated, _flipped, lambda path: os.truncate(path, 0)])
def test_damaged_bytes_are_refused_everywhere(
    store: FolderStore, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    stored = store.put("a", CONTENT)
    assert store.local_path("a", stored.digest)
    damage(tmp_path / "store" / "a")
    for read in (
        lambda: store.open("a", stored.digest),
        lambda: store.fetch("a", stored.digest, tmp_path / "x"),
        lambda: store.local_path("a", stored.digest),
    ):
        with pytest.raises(ArtifactCorrupt):
            read()
    with pytest.raises(Conflict):
        store.put("a", CONTENT)


def test_a_local_path_is_digested_only_when_the_file_has_changed(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, reads = store.put("a", CONTENT), []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: reads.append(1) or real(*args))
    for _ in range(3):
        assert store.local_path("a", stored.digest) == tmp_path / "store" / "a"
    assert len(reads) == 1
    os.utime(tmp_path / "store" / "a")
    store.local_path("a", stored.digest)
    assert len(reads) == 2


def test_a_file_cut_while_it_is_streamed_is_an_error(store: FolderStore, tmp_path: Path) -> None:
    store.put("a", b"x" * (3 << 20))
    pieces = store.stream("a")
    next(pieces)
    os.truncate(tmp_path / "store" / "a", 100)
    with pytest.raises(ArtifactCorrupt, match="ends too early"):
        list(pieces)


def open_files(folder: Path) -> list[str]:
    """The files below a folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return sorted(name for name in found if name.startswith(str(folder)))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files by /proc")
def test_no_file_stays_open(store: FolderStore, tmp_path: Path) -> None:
    stored = store.put("a", CONTENT)
    before = open_files(tmp_path)
    for _ in range(20):
        store.stream("a").close()
        next(store.stream("a"))
        list(store.stream("a"))
        with pytest.raises(ArtifactCorrupt):
            store.open("a", digest_of(b""))
        with pytest.raises(ArtifactMissing):
            store.open("a/b", stored.digest)
        with pytest.raises(ArtifactMissing):
            store.stream("b")
        with pytest.raises(Conflict):
            store.put("a", b"other")
        with pytest.raises(Conflict):
            store.put("a/below", b"other")
    assert open_files(tmp_path) == before


def test_links_are_not_followed_out_of_the_store(store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / "store" / "folder").symlink_to(outside)
    (tmp_path / "store" / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file"):
        with pytest.raises(ArtifactCorrupt):
            store.open(key, digest_of(b"secret"))
        with pytest.raises(ArtifactCorrupt):
            store.stream(key)
        with pytest.raises(Conflict):
            store.put(key, b"other")
        store.delete(key)
    assert files(store) == []
    assert (outside / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()])
def test_what_is_no_file_is_not_read(
    store: FolderStore, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "store" / "odd")
    with pytest.raises(ArtifactCorrupt, match="regular file"):
        store.open("odd", digest_of(b""))
    with pytest.raises(Conflict):
        store.put("odd", b"")


def test_emptied_folders_go_and_come_while_others_write(store: FolderStore, tmp_path: Path) -> None:
    def churn(number: int) -> None:
        for turn in range(30):
            key = f"a/b/c/{number}-{turn}"
            store.put(key, b"x")
            store.delete(key)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(churn, range(4)))
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".temporary"]


def test_a_store_that_cannot_be_written_says_so(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "gone")
    for use in (
        store.check,
        store.free_bytes,
        lambda: store.put("a", b"x"),
        lambda: store.open("a", digest_of(b"x")),
        lambda: store.delete("a"),
        lambda: list(store.list()),
        lambda: store.sweep_temporary(0),
    ):
        with pytest.raises(Unavailable, match="does not answer"):
            use()


def test_a_live_writer_is_not_swept(store: FolderStore) -> None:
    def slow() -> Iterator[bytes]:
        yield b"x"
        assert store.sweep_temporary(60) == 0
        yield b"y"

    assert store.put("a", slow()).bytes == 2


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    FolderStore(tmp_path / "link").put("a", b"x")
    assert (tmp_path / "real" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["/dir", "file://host/dir", "http://x", "s3://", "s3:///x", ""])
def test_only_the_two_kinds_of_url_open_a_store(url: str) -> None:
    with pytest.raises(ValueError, match="say file:///dir or s3://bucket/prefix"):
        open_store(url)
