"""Downloads: whole, in ranges, checked, under their own scope; what is corrupt is never served."""

import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from app.kernel.artifacts.stored import ArtifactCorrupt, Stored
from app.kernel.errors import ServiceError
from app.kernel.http.sendable import checked_pieces
from tests.models.modelyard import API, Modelyard

VERSION = f"{API}/models/penguins/versions/1"
JOBLIB = f"{VERSION}/artifacts/joblib"
CONTENT = bytes(range(256)) * 10


def _file(yard: Modelyard) -> Path:
    (key,) = yard.stored_keys()
    return Path(yard.settings.store().removeprefix("file://")) / key


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Modelyard:
    """A yard whose penguins/1 is ``CONTENT``."""
    yard = Modelyard(tmp_path_factory.mktemp("yard"))
    yard.register(content=CONTENT)
    return yard


def test_an_artifact_is_downloaded_with_its_digest(downloads: Modelyard) -> None:
    answer = downloads.client().get(JOBLIB)
    digest = f"sha-256=:{b64encode(hashlib.sha256(CONTENT).digest()).decode()}:"
    assert answer.data == CONTENT
    assert answer.headers["Content-Digest"] == answer.headers["Repr-Digest"] == digest
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="penguins-1.joblib"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = downloads.client().get(JOBLIB, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        *(("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=2550-", 2550, 2560)),
        *(("bytes=-5", 2555, 2560), ("bytes=-9999", 0, 2560), ("bytes=2559-9999", 2559, 2560)),
    ],
)
def test_a_range_is_sent_alone(downloads: Modelyard, asked: str, start: int, end: int) -> None:
    answer = downloads.client().get(JOBLIB, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (206, CONTENT[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2560"
    assert answer.headers["Content-Length"] == str(end - start)
    assert "Content-Digest" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=x", "items=0-1", "bytes=0-1,5-6", "bytes=9-2"])
def test_a_range_that_is_not_understood_is_ignored(downloads: Modelyard, asked: str) -> None:
    answer = downloads.client().get(JOBLIB, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_a_range_beyond_the_end_is_refused(downloads: Modelyard) -> None:
    answer = downloads.client().get(JOBLIB, headers={"Range": "bytes=2560-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */2560"
    assert answer.content_type == "application/problem+json"


def test_a_range_of_another_file_is_not_sent(downloads: Modelyard) -> None:
    client = downloads.client()
    etag = client.get(JOBLIB).headers["ETag"]
    for condition, status in ((etag, 206), ('"old"', 200), (f"W/{etag}", 200)):
        headers = {"Range": "bytes=0-1", "If-Range": condition}
        assert client.get(JOBLIB, headers=headers).status_code == status


def test_a_head_tells_the_size_and_sends_nothing(downloads: Modelyard) -> None:
    answer = downloads.client().head(JOBLIB)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(CONTENT))


def test_downloading_has_a_scope_of_its_own(downloads: Modelyard) -> None:
    everything_else = downloads.client(downloads.key(role="trainer"))
    assert everything_else.get(VERSION).status_code == 200
    assert everything_else.get(JOBLIB).status_code == 403
    assert downloads.client(downloads.key(scopes=["artifacts:read"])).get(JOBLIB).data == CONTENT


@pytest.mark.parametrize(
    "format_",
    ["onnx", "upload", "pickle", "..%2f..%2fetc%2fpasswd", "%252e%252e", ".", "joblib%00"],
)
def test_only_what_there_is_can_be_downloaded(downloads: Modelyard, format_: str) -> None:
    answer = downloads.client().get(f"{VERSION}/artifacts/{format_}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "empty", "remove"])
def test_a_version_whose_bytes_changed_is_corrupt_and_never_served(
    yard: Modelyard, harm: str
) -> None:
    yard.register(content=CONTENT)
    file = _file(yard)
    if harm == "remove":
        file.unlink()
    else:
        harmed = {"flip": b"x" + CONTENT[1:], "cut": CONTENT[:-1], "grow": CONTENT + b"x"}
        file.write_bytes(harmed.get(harm, b""))
    answer = yard.client().get(JOBLIB)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/corrupt")
    assert "/" not in answer.json["detail"]
    shown = yard.client().get(VERSION).json
    assert (shown["state"], shown["error"]["code"]) == ("corrupt", "corrupt")
    assert yard.events()[-1][0] == "version.corrupt"
    assert yard.client().get(f"{API}/models/penguins").json["newest_version"] is None
    assert yard.put_alias("champion", 1).status_code == 409


def test_verifying_finds_what_is_wrong_and_what_is_right_again(any_yard: Modelyard) -> None:
    any_yard.register(content=CONTENT)
    verify = f"{VERSION}/verify"
    file = _file(any_yard)
    assert any_yard.client().post(verify).json["state"] == "ready"
    file.write_bytes(b"something else")
    assert any_yard.peer("models:locate").post(verify).json["state"] == "corrupt"
    file.write_bytes(CONTENT)
    assert any_yard.client().post(verify).json["state"] == "ready"
    assert [kind for kind, _ in any_yard.events()][-2:] == ["version.corrupt", "version.restored"]
    reader = any_yard.client(any_yard.key(role="viewer"))
    assert reader.post(verify).status_code == 403


def test_a_row_that_was_tampered_with_is_not_believed(yard: Modelyard) -> None:
    yard.register(content=CONTENT)
    other = yard.wiring.store.put("default/models/other.joblib", b"other")
    with yard.wiring.database("models").write() as session:
        (artifact,) = yard.version_row(session, 1).artifacts
        artifact.key, artifact.digest, artifact.bytes = other.key, other.digest, other.bytes
    answer = yard.client().get(JOBLIB)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/corrupt")
    assert "signature" in answer.json["detail"]


def test_a_retired_secret_is_told_from_a_forgery(tmp_path: Path) -> None:
    old, new = "o" * 40, "n" * 40
    yards = [Modelyard(tmp_path, secret=secret) for secret in (old, f"{new},{old}", new)]
    before, during, after = yards
    during.admin_key = after.admin_key = before.admin_key
    before.register(content=CONTENT)
    assert during.client().get(JOBLIB).data == CONTENT
    answer = after.client().get(JOBLIB)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/secret-retired")
    assert after.client().get(VERSION).json["state"] == "ready"
    for yard in yards:
        yard.close()


def test_of_wrong_bytes_nobody_gets_what_looks_like_a_whole_file() -> None:
    told: list[ServiceError] = []
    stored = Stored("a/b/c", "sha-256:" + "0" * 64, 6)
    pieces = checked_pieces(iter([b"ab", b"cd", b"ef"]), stored, told.append)
    assert [next(pieces), next(pieces)] == [b"ab", b"cd"]
    with pytest.raises(ArtifactCorrupt):
        next(pieces)
    assert len(told) == 1
