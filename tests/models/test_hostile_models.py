"""What an attacker does with models: foreign formats, smuggled fields, files put in their place."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest

from tests.models.modelyard import API, Modelyard, pointers

VERSIONS = f"{API}/models/penguins/versions"
JOBLIB = f"{VERSIONS}/1/artifacts/joblib"
CONTENT = b"joblib of a model"
# The least that an ONNX reader takes for a model whose weights lie in another file.
EXTERNAL = b"\x08\x07:2*0B\x01wj\x1e\n\x08location\x12\x12../../etc/passwd"


@pytest.mark.parametrize(
    "content_type",
    ["application/onnx", "application/x-onnx", "application/x-protobuf", "application/zip"],
)
def test_an_onnx_file_is_not_taken_by_its_type(shared_yard: Modelyard, content_type: str) -> None:
    """ONNX is written here and never read from a client: its weights may name other files."""
    answer = shared_yard.client().post(VERSIONS, data=EXTERNAL, content_type=content_type)
    assert answer.status_code == 415


@pytest.mark.parametrize("name", ["model.onnx", "model.pkl", "model.h5", "model.pt", "model.skops"])
def test_a_file_is_taken_for_what_it_is_and_not_for_its_name(
    shared_yard: Modelyard, name: str
) -> None:
    before = shared_yard.stored_keys()
    for body in (EXTERNAL, pickle.dumps({"a": 1}), b"\x89HDF\r\n\x1a\n"):
        form = {"file": (io.BytesIO(body), name)}
        answer = shared_yard.client().post(VERSIONS, data=form, content_type="multipart/form-data")
        assert (answer.status_code, pointers(answer)) == (422, ["/file"])
    assert shared_yard.stored_keys() == before


@pytest.mark.parametrize("where", ["query", "header", "form"])
def test_no_place_to_fetch_a_model_from_is_taken(shared_yard: Modelyard, where: str) -> None:
    """The sink that others had to mend ten times is not there."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", "{}")
    form = {"file": (io.BytesIO(buffer.getvalue()), "m.skops")}
    options: dict[str, object] = {}
    if where == "query":
        options["query_string"] = {"source": "file:///etc/passwd"}
    elif where == "header":
        options["headers"] = {"Content-Location": "file:///etc/passwd", "Content-Encoding": "x"}
    else:
        form |= {"artifact_uri": "s3://bucket/../../etc/passwd"}  # type: ignore[dict-item]
    answer = shared_yard.client().post(
        VERSIONS, data=form, content_type="multipart/form-data", **options
    )
    assert answer.status_code in (415, 422)


@pytest.mark.parametrize("smuggled", ["source", "key", "digest", "state", "serving", "engine"])
def test_what_the_server_decides_cannot_be_changed(shared_yard: Modelyard, smuggled: str) -> None:
    client = shared_yard.client()
    for path, body in (
        (f"{VERSIONS}/1", {smuggled: "x"}),
        (f"{API}/models/penguins", {smuggled: "x"}),
    ):
        answer = client.patch(path, json=body)
        assert (answer.status_code, pointers(answer)) == (422, [f"/{smuggled}"])
    alias = client.put(f"{API}/models/penguins/aliases/a", json={"version": 1, smuggled: "x"})
    assert (alias.status_code, pointers(alias)) == (422, [f"/{smuggled}"])


@pytest.mark.parametrize("put", ["symbolic link", "hard link", "other model's file", "folder"])
def test_another_file_in_the_place_of_an_artifact_is_never_served(
    yard: Modelyard, tmp_path: Path, put: str
) -> None:
    yard.register(content=CONTENT)
    yard.register(content=b"another model's".ljust(len(CONTENT)))
    first, second = sorted((tmp_path / "models_store").rglob("*.joblib"), key=_content)
    place, other = (first, second) if first.read_bytes() == CONTENT else (second, first)
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * len(CONTENT))
    place.unlink()
    if put == "symbolic link":
        place.symlink_to(secret)
    elif put == "hard link":
        os.link(secret, place)
    elif put == "folder":
        place.mkdir()
    else:
        place.write_bytes(other.read_bytes())
    answer = yard.client().get(JOBLIB)
    assert answer.status_code == 503
    assert b"sss" not in answer.data
    assert str(tmp_path) not in answer.text


def _content(path: Path) -> bytes:
    return path.read_bytes()
