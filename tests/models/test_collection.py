"""The collector reconciles store and tables, both ways, and touches nothing else."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from app.kernel.errors import Unavailable
from app.kernel.findings import Finding
from tests.models.modelyard import API, Modelyard

VERSIONS = f"{API}/models/penguins/versions"


def _path(yard: Modelyard, key: str) -> Path:
    return Path(yard.settings.store().removeprefix("file://")) / key


def _age(yard: Modelyard, key: str, seconds: float = 4000) -> None:
    then = time.time() - seconds
    os.utime(_path(yard, key), (then, then))


def _codes(findings: list[Finding]) -> dict[str, int]:
    return dict(Counter(finding.code for finding in findings))


def test_where_all_is_well_nothing_is_found(any_yard: Modelyard) -> None:
    any_yard.register()
    _age(any_yard, any_yard.stored_keys()[0])
    assert any_yard.models.collector.run(deep=True) == []
    assert len(any_yard.stored_keys()) == 1


def test_old_bytes_of_no_version_are_cleared_away_and_young_ones_stay(any_yard: Modelyard) -> None:
    store = any_yard.wiring.store
    for key in ("default/models/old", "team-b/models/old", "default/models/young"):
        store.put(key, b"abc")
    store.put("default/datasets/old", b"abc")
    for key in ("default/models/old", "team-b/models/old", "default/datasets/old"):
        _age(any_yard, key)
    collector = any_yard.models.collector
    assert _codes(collector.plan()) == {"orphan": 2}
    assert len(any_yard.stored_keys()) == 4
    found = collector.run()
    assert [(f.subject, f.mended) for f in found] == [
        ("default/models/old", True),
        ("team-b/models/old", True),
    ]
    assert sorted(any_yard.stored_keys()) == ["default/datasets/old", "default/models/young"]
    assert collector.run() == []


def test_bytes_that_are_being_cleared_away_cannot_be_registered(any_yard: Modelyard) -> None:
    body = any_yard.registration()
    key = body["artifacts"][0]["key"]
    _age(any_yard, key)
    store, delete = any_yard.wiring.store, any_yard.wiring.store.delete
    answers = []

    def delete_late(stored: str) -> None:
        peer = any_yard.peer("models:register")
        answers.append(peer.post(VERSIONS, json=body).status_code)
        delete(stored)

    store.delete = delete_late  # type: ignore[method-assign]
    any_yard.models.collector.run()
    assert answers == [409]
    assert any_yard.stored_keys() == []


def test_bytes_that_could_not_be_deleted_go_the_next_time(any_yard: Modelyard) -> None:
    any_yard.register()
    store = any_yard.wiring.store
    delete = store.delete

    def away(_key: str) -> None:
        raise Unavailable("The store is away")

    store.delete = away  # type: ignore[method-assign]
    assert any_yard.client().delete(f"{VERSIONS}/1").status_code == 204
    store.delete = delete  # type: ignore[method-assign]
    assert len(any_yard.stored_keys()) == 1
    assert _codes(any_yard.models.collector.run()) == {"leftover": 1}
    assert any_yard.stored_keys() == []


@pytest.mark.parametrize(("harm", "deep"), [("missing", False), ("size", False), ("flip", True)])
def test_a_version_without_its_bytes_is_marked_corrupt_and_back_when_they_are(
    any_yard: Modelyard, harm: str, deep: bool
) -> None:
    any_yard.register(content=b"content")
    any_yard.register()
    key = any_yard.models.state(any_yard.call(), "penguins").versions[0].artifacts[0].key
    file = _path(any_yard, key)
    file.unlink()
    if harm != "missing":
        file.write_bytes(b"other" if harm == "size" else b"Content")
    collector = any_yard.models.collector
    assert [(f.code, f.subject, f.mended) for f in collector.plan(deep=deep)] == [
        ("corrupt", "models/penguins/versions/1", False)
    ]
    collector.run(deep=deep)
    states = [v["state"] for v in any_yard.client().get(VERSIONS).json["items"]]
    assert states == ["ready", "corrupt"]
    file.write_bytes(b"content")
    assert _codes(collector.run()) == {"restored": 1}
    assert any_yard.client().get(f"{VERSIONS}/1").json["state"] == "ready"


def test_a_flipped_byte_is_found_only_by_reading(yard: Modelyard) -> None:
    yard.register(content=b"content")
    _path(yard, yard.stored_keys()[0]).write_bytes(b"Content")
    assert yard.models.collector.plan() == []
    assert _codes(yard.models.collector.plan(deep=True)) == {"corrupt": 1}


def test_signatures_are_made_anew_so_that_a_secret_can_be_retired(tmp_path: Path) -> None:
    old, new = "o" * 40, "n" * 40
    yards = [Modelyard(tmp_path, secret=secret) for secret in (old, f"{new},{old}", new)]
    before, during, after = yards
    before.register()
    assert _codes(after.models.collector.run()) == {"secret_retired": 1}
    assert _codes(during.models.collector.plan()) == {"old_signature": 1}
    assert _codes(during.models.collector.run()) == {"old_signature": 1}
    assert after.models.collector.run(deep=True) == []
    for yard in yards:
        yard.close()


def test_a_forged_row_is_found(yard: Modelyard) -> None:
    yard.register()
    with yard.wiring.database("models").write() as session:
        yard.version_row(session, 1).artifacts[0].format = "compiled"
    assert _codes(yard.models.collector.run()) == {"corrupt": 1}
