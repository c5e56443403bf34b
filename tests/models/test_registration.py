"""Training registers versions: numbered without gaps, once for each run, signed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.kernel.artifacts.mac import ArtifactIdentity
from app.kernel.artifacts.stored import Stored
from tests.models.modelyard import API, SIGNATURE, Modelyard, pointers

VERSIONS = f"{API}/models/penguins/versions"


def test_a_registered_version_is_ready_and_makes_its_model(any_yard: Modelyard) -> None:
    made = any_yard.peer("models:register").post(VERSIONS, json=any_yard.registration())
    assert made.status_code == 201
    assert made.headers["Location"] == f"{VERSIONS}/1"
    shown = any_yard.client().get(f"{VERSIONS}/1")
    assert shown.json == made.json
    assert (shown.json["version"], shown.json["state"]) == (1, "ready")
    assert shown.json["signature"] == SIGNATURE
    assert shown.json["lineage"]["dataset_version"] == 1
    assert any_yard.client().get(f"{API}/models/penguins").json["newest_version"] == 1
    assert [kind for kind, _ in any_yard.events()] == ["model.created", "version.registered"]


def test_a_run_registers_one_version_however_often_it_tries(any_yard: Modelyard) -> None:
    peer, body = any_yard.peer("models:register"), any_yard.registration()
    first, second = (peer.post(VERSIONS, json=body) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json == second.json
    later = any_yard.registration(training_run=body["training_run"])
    assert peer.post(VERSIONS, json=later).json == first.json
    assert len(any_yard.client().get(VERSIONS).json["items"]) == 1


def test_a_run_cannot_register_two_models(any_yard: Modelyard) -> None:
    body = any_yard.registration()
    peer = any_yard.peer("models:register")
    assert peer.post(VERSIONS, json=body).status_code == 201
    answer = peer.post(f"{API}/models/others/versions", json=body)
    assert answer.status_code == 409
    assert any_yard.client().get(f"{API}/models/others").status_code == 404


def test_parallel_registrations_are_numbered_without_a_gap(any_yard: Modelyard) -> None:
    bodies = [any_yard.registration() for _ in range(50)]

    def register(body: dict[str, Any]) -> int:
        answer = any_yard.peer("models:register").post(VERSIONS, json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json["version"])

    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(register, bodies))
    assert sorted(numbers) == list(range(1, 51))
    assert any_yard.client().get(f"{API}/models/penguins").json["newest_version"] == 50
    assert Counter(kind for kind, _ in any_yard.events()) == {
        "model.created": 1,
        "version.registered": 50,
    }


def test_parallel_tries_of_one_run_make_one_version(any_yard: Modelyard) -> None:
    body = any_yard.registration()

    def register(_: int) -> tuple[int, int]:
        answer = any_yard.peer("models:register").post(VERSIONS, json=body)
        return answer.status_code, answer.json.get("version")

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(register, range(8)))
    assert answers == {(201, 1)}


def test_a_number_is_never_used_again(any_yard: Modelyard) -> None:
    for _ in range(2):
        any_yard.register()
    assert any_yard.client().delete(f"{VERSIONS}/2").status_code == 204
    assert any_yard.client().get(f"{API}/models/penguins").json["newest_version"] == 1
    assert any_yard.register()["version"] == 3


def test_the_location_tells_a_peer_all_that_it_needs_to_trust_the_bytes(yard: Modelyard) -> None:
    yard.register()
    told = yard.peer("models:locate").get(f"{VERSIONS}/1/location").json
    (artifact,) = told["artifacts"]
    identity = ArtifactIdentity(
        project=told["project"],
        owner=told["subject"],
        format=artifact["format"],
        stored=Stored(artifact["key"], artifact["digest"], artifact["bytes"]),
        library_versions=told["library_versions"],
    )
    identity.check(yard.wiring.ring, artifact["mac"])
    assert told["recipe"] == [{"name": "body_mass_g", "source": "body_mass_g", "kind": "number"}]
    assert told["library_versions"] == {"scikit-learn": "1.9.1"}


def test_the_state_tells_a_peer_where_the_names_lead(yard: Modelyard) -> None:
    for _ in range(2):
        yard.register()
    yard.put_alias("champion", 1)
    told = yard.peer("models:locate").get(f"{API}/models/penguins/state").json
    assert (told["default_alias_version"], told["newest_version"]) == (1, 2)
    assert told["aliases"] == {"champion": 1}
    assert [(v["version"], v["state"]) for v in told["versions"]] == [(1, "ready"), (2, "ready")]


def test_versions_tell_which_data_they_were_trained_on(yard: Modelyard) -> None:
    yard.register()
    peer = yard.peer("references:read")
    asked = f"{API}/references/models?dataset=penguins"
    (found,) = peer.get(asked).json["items"]
    assert (found["subject"], found["state"]) == ("models/penguins/versions/1", "ready")
    assert len(peer.get(f"{asked}&version=1").json["items"]) == 1
    assert peer.get(f"{asked}&version=2").json["items"] == []
    assert peer.get(f"{API}/references/models?dataset=others").json["items"] == []
    assert pointers(peer.get(f"{API}/references/models")) == ["?dataset"]


@pytest.mark.parametrize("path", ["versions/1/location", "state"])
def test_no_key_can_ask_what_only_peers_may(shared_yard: Modelyard, path: str) -> None:
    assert shared_yard.client().get(f"{API}/models/penguins/{path}").status_code == 403


def test_no_key_can_register_by_json(shared_yard: Modelyard) -> None:
    answer = shared_yard.client().post(VERSIONS, json=shared_yard.registration())
    assert (answer.status_code, answer.json["scope"]) == (403, "models:register")


def test_a_peer_that_registers_cannot_import(shared_yard: Modelyard) -> None:
    answer = shared_yard.peer("models:register").post(
        VERSIONS, data=b"PK\x03\x04", content_type="application/octet-stream"
    )
    assert (answer.status_code, answer.json["scope"]) == (403, "artifacts:import")


def test_a_scope_that_is_neither_gets_nowhere(shared_yard: Modelyard) -> None:
    reader = shared_yard.client(shared_yard.key(scopes=["models:read", "models:write"]))
    assert reader.post(VERSIONS, json={}).status_code == 403


def _artifact(**changes: Any) -> dict[str, Any]:
    digest = "sha-256:" + "0" * 64
    good = {"format": "joblib", "key": "default/models/x.joblib", "digest": digest, "bytes": 3}
    return {**good, **changes}


@pytest.mark.parametrize(
    ("artifacts", "place"),
    [
        ([_artifact()], "/artifacts/0"),
        ([_artifact(key="team-b/models/x.joblib")], "/artifacts/0/key"),
        ([_artifact(key="default/datasets/x")], "/artifacts/0/key"),
        ([_artifact(key="default/models/../../etc/passwd")], "/artifacts/0"),
        ([_artifact(key="/etc/passwd")], "/artifacts/0"),
        ([_artifact(digest="md5:0")], "/artifacts/0/digest"),
        ([_artifact(format="pickle")], "/artifacts/0/format"),
        ([_artifact(), _artifact()], "/artifacts"),
        ([_artifact(format="onnx")], "/artifacts"),
        ([], "/artifacts"),
    ],
)
def test_bytes_that_are_not_there_cannot_be_registered(
    shared_yard: Modelyard, artifacts: list[dict[str, Any]], place: str
) -> None:
    body = {**shared_yard.registration(), "artifacts": artifacts}
    answer = shared_yard.peer("models:register").post(VERSIONS, json=body)
    assert (answer.status_code, pointers(answer)) == (422, [place])


def test_bytes_of_another_size_or_digest_cannot_be_registered(shared_yard: Modelyard) -> None:
    peer, body = shared_yard.peer("models:register"), shared_yard.registration()
    (artifact,) = body["artifacts"]
    for lie in ({"bytes": artifact["bytes"] + 1}, {"digest": "sha-256:" + "0" * 64}):
        answer = peer.post(VERSIONS, json={**body, "artifacts": [{**artifact, **lie}]})
        assert (answer.status_code, pointers(answer)) == (422, ["/artifacts/0"])


def test_bytes_belong_to_one_version(any_yard: Modelyard) -> None:
    body = any_yard.registration()
    peer = any_yard.peer("models:register")
    assert peer.post(VERSIONS, json=body).status_code == 201
    stolen = {**any_yard.registration(), "artifacts": body["artifacts"]}
    assert peer.post(VERSIONS, json=stolen).status_code == 409


def test_versions_are_listed_newest_first_and_filtered(any_yard: Modelyard) -> None:
    for task in ("regression", "classification", "classification"):
        any_yard.register(task=task)
    client = any_yard.client()
    listed = client.get(VERSIONS).json["items"]
    assert [item["version"] for item in listed] == [3, 2, 1]
    assert "signature" not in listed[0]
    found = client.get(f"{VERSIONS}?task__eq=classification&version__lt=3").json["items"]
    assert [item["version"] for item in found] == [2]
    assert client.get(f"{API}/models/none/versions").status_code == 404


def test_a_version_is_described_later(any_yard: Modelyard) -> None:
    any_yard.register()
    client = any_yard.client()
    etag = client.get(f"{VERSIONS}/1").headers["ETag"]
    guarded = {"If-Match": etag}
    changed = client.patch(f"{VERSIONS}/1", json={"tags": {"season": "2009"}}, headers=guarded)
    assert changed.json["tags"] == {"season": "2009"}
    stale = client.patch(f"{VERSIONS}/1", json={"description": "x"}, headers=guarded)
    assert stale.status_code == 412
    for fixed in ({"state": "ready"}, {"metrics": {}}, {"artifacts": []}, {"version": 9}):
        assert client.patch(f"{VERSIONS}/1", json=fixed).status_code == 422


@pytest.mark.parametrize("number", ["0", "-1", "01", "1.0", "x", "99999999999999999999"])
def test_what_is_no_version_number_is_not_found(shared_yard: Modelyard, number: str) -> None:
    assert shared_yard.client().get(f"{VERSIONS}/{number}").status_code == 404
