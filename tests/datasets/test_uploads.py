"""Bodies on their way to the disk."""

import hashlib
import os
from types import SimpleNamespace

import pytest

from app.kernel.errors import Invalid, LengthRequired, Malformed, StorageFull, TooLarge
from app.kernel.http import uploads
from app.kernel.http.uploads import Body, Promise, Spool, plain_filename, throttled


def body(content, promise, most=1000, **options):
    rest = [content]

    def read(size):
        piece, rest[0] = rest[0][:size], rest[0][size:]
        return piece

    return Body(read, promise, most=most, **options)


def take(taken):
    content = b"".join(taken)
    taken.verify()
    return content


def test_a_body_of_the_promised_length_is_taken():
    assert take(body(b"abc", Promise(3, None))) == b"abc"


def test_a_body_of_unknown_length_is_taken_by_its_digest():
    assert take(body(b"abc", Promise(None, hashlib.sha256(b"abc").digest()))) == b"abc"


def test_a_body_that_promises_nothing_is_refused_unread():
    with pytest.raises(LengthRequired):
        body(b"abc", Promise(None, None))


def test_half_a_body_is_malformed():
    with pytest.raises(Malformed):
        take(body(b"ab", Promise(3, None)))


def test_a_body_of_another_digest_is_refused_and_told_its_own():
    with pytest.raises(Invalid) as refused:
        take(body(b"abd", Promise(3, hashlib.sha256(b"abc").digest())))
    assert refused.value.errors[0].pointer == "Content-Digest"
    assert "sha-256=:" in refused.value.detail


def test_half_a_chunked_body_is_refused_by_its_digest():
    with pytest.raises(Invalid):
        take(body(b"ab", Promise(None, hashlib.sha256(b"abc").digest())))


@pytest.mark.parametrize("length", [1001, None])
def test_a_body_over_the_limit_is_too_large(length):
    with pytest.raises(TooLarge):
        take(body(b"x" * 1001, Promise(length, b"")))


def test_a_broken_connection_is_malformed():
    def read(size):
        raise ConnectionResetError

    with pytest.raises(Malformed):
        take(Body(read, Promise(3, None), most=10))


def test_each_piece_gives_a_beat():
    beats = []
    take(body(b"x" * 600_000, Promise(600_000, None), most=10**6, beat=lambda: beats.append(1)))
    assert len(beats) == 3


def test_an_action_is_throttled(monkeypatch):
    done, now = [], iter([0.0, 0.9, 1.0, 1.0, 1.9, 2.1, 2.1])
    monkeypatch.setattr(uploads, "time", SimpleNamespace(monotonic=lambda: next(now)))
    act = throttled(1.0, done.append)
    for call in range(4):
        act(call)
    assert done == [1, 3]


def test_a_spool_is_private_and_knows_its_digest(tmp_path):
    spool = Spool(tmp_path / "x")
    spool.write(b"abc")
    spool.close()
    assert spool.digest == "sha-256:" + hashlib.sha256(b"abc").hexdigest()
    assert spool.path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_storage_full(tmp_path):
    spool = Spool(tmp_path / "x")
    os.close(spool._handle)
    spool._handle = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StorageFull):
        spool.write(b"abc")
    spool.close()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../../app/__init__.py", "__init__.py"),
        ("/etc/cron.d/x", "x"),
        ("C:\\data\\table.csv", "table.csv"),
        ("a\x00b\r\nc\u202e.csv", "abc.csv"),
        ("x" * 999, "x" * 255),
        ("..", ".."),
        ("", None),
        (None, None),
    ],
)
def test_a_filename_is_only_a_name_to_show(sent, shown):
    assert plain_filename(sent) == shown
