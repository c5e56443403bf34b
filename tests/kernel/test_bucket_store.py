"""How a bucket store bears a store that fails: a little S3 that drops, refuses and lies."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from app.kernel.artifacts import bucket as bucket_store
from app.kernel.artifacts.bucket import BucketStore
from app.kernel.artifacts.store import ArtifactCorrupt, digest_of, open_store
from app.kernel.errors import StorageFull, TooLarge, Unavailable


class LittleS3(ThreadingHTTPServer):
    """Objects in a dict; ``faults`` are what happens to the next requests, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[str] = []


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LittleS3

    def _answer(self, status: int, body: bytes = b"", size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(self.command)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        objects, held = self.server.objects, self.path in self.server.objects
        if fault.isdigit():
            self._answer(int(fault), b"<Error><Code>Fault</Code></Error>")
        elif "/lost/" in self.path or self.path.startswith("/lost?"):
            self._answer(
                404, b"<Error><Code>NoSuchBucket</Code></Error>" * (self.command != "HEAD")
            )
        elif fault == "full":
            self._answer(400, b"<Error><Code>XMinioStorageFull</Code></Error>")
        elif self.command == "PUT" and held and self.headers["If-None-Match"] == "*":
            self._answer(412)
        elif self.command == "PUT":
            objects[self.path] = body[:-1] if fault == "lose a byte" else body
            if fault == "drop the answer":
                self.close_connection = True
                self.connection.close()
            else:
                self._answer(200)
        elif not held:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.command == "HEAD":
            self._answer(200, size=len(objects[self.path]))
        else:
            content = objects[self.path]
            self._answer(200, content[: len(content) // 2] if fault == "cut" else content)

    do_PUT = do_GET = do_HEAD = _serve  # noqa: N815 - the server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's name
        """Say nothing."""


@pytest.fixture
def little_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[LittleS3]:
    server = LittleS3()
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(little_s3: LittleS3) -> BucketStore:
    return BucketStore("models", "prefix", retry_seconds=3)


def test_passing_failures_are_retried(store: BucketStore, little_s3: LittleS3) -> None:
    little_s3.faults += ["500", "503"]
    stored = store.put("a", b"abc")
    little_s3.faults += ["503"]
    assert store.open("a", stored.digest) == b"abc"
    assert little_s3.requests == ["PUT"] * 3 + ["GET"] * 3


def test_a_put_whose_answer_was_lost_is_not_a_conflict(
    store: BucketStore, little_s3: LittleS3
) -> None:
    little_s3.faults += ["drop the answer"]
    try:
        stored = store.put("a", b"abc")
    except Unavailable:
        stored = store.put("a", b"abc")
    assert store.open("a", stored.digest) == b"abc"


def test_a_store_that_lost_bytes_is_not_believed(store: BucketStore, little_s3: LittleS3) -> None:
    little_s3.faults += ["lose a byte"]
    with pytest.raises(Unavailable, match="did not keep all bytes"):
        store.put("a", b"abc")


def test_a_cut_answer_is_corrupt(store: BucketStore, little_s3: LittleS3) -> None:
    stored = store.put("a", b"abcdef")
    little_s3.faults += ["cut"]
    with pytest.raises(ArtifactCorrupt):
        store.open("a", stored.digest)


@pytest.mark.parametrize("status", ["401", "403", "400"])
def test_a_refusal_is_ours_and_says_nothing_of_the_store(
    store: BucketStore, little_s3: LittleS3, status: str
) -> None:
    little_s3.faults += [status]
    with pytest.raises(Unavailable, match="does not answer") as raised:
        store.put("a", b"abc")
    assert "127.0.0.1" not in raised.value.detail


def test_a_full_store_is_told(store: BucketStore, little_s3: LittleS3) -> None:
    little_s3.faults += ["full"]
    with pytest.raises(StorageFull):
        store.put("a", b"abc")


def test_a_store_that_is_down_is_unavailable(
    store: BucketStore, little_s3: LittleS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    down = BucketStore("models", "", retry_seconds=0.2)
    for use in (
        lambda: down.put("a", b"abc"),
        lambda: down.open("a", digest_of(b"abc")),
        lambda: down.stream("a"),
        lambda: down.delete("a"),
        lambda: list(down.list()),
        down.check,
    ):
        with pytest.raises(Unavailable):
            use()


@pytest.mark.usefixtures("little_s3")
def test_a_missing_bucket_is_not_a_missing_artifact() -> None:
    lost = BucketStore("lost", "prefix", retry_seconds=0.2)
    for use in (
        lambda: lost.put("a", b"abc"),
        lambda: lost.open("a", digest_of(b"abc")),
        lambda: lost.open("a", digest_of(b"abc"), size=3),
        lambda: lost.stream("a"),
    ):
        with pytest.raises(Unavailable, match="bucket does not exist"):
            use()


def test_a_remote_endpoint_must_have_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1")
    with pytest.raises(Unavailable):
        open_store("s3://models/x").check()


def test_more_than_can_be_copied_is_too_large(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_store, "MAX_BYTES", 10)
    with pytest.raises(TooLarge):
        store.put("a", iter([b"x" * 6, b"y" * 6]))
