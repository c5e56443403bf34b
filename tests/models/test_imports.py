"""A client's skops file becomes a version: taken in, converted by a worker, ready or failed."""

import hashlib
import io
import json
import pickle
import threading
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from app.kernel.errors import StorageFull, TooLarge
from app.kernel.jobs.claims import Job, LostWorker
from app.kernel.jobs.queue import JobQueue
from app.kernel.jobs.worker import Worker
from app.kernel.sandbox.outcome import Failure, Outcome
from app.kernel.sandbox.parent import Sandbox
from app.models.imports import JOB
from app.models.workers import PRELOAD, ImportHandler
from tests.models.modelyard import API, SIGNATURE, Modelyard, pointers

VERSIONS = f"{API}/models/penguins/versions"
OCTETS = "application/octet-stream"


def archive(**entries: bytes) -> bytes:
    """A ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


ARCHIVE = archive(schema__json=b"{}")


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def penguins(any_yard: Modelyard) -> Modelyard:
    """A yard with a model that has no versions."""
    any_yard.client().post(f"{API}/models", json={"name": "penguins"})
    return any_yard


@contextmanager
def working(yard: Modelyard, handle: Callable[[Job], None], failed: Any = None) -> Iterator[None]:
    """A worker that does the imports while the block runs."""
    queue = JobQueue(yard.wiring.database("models"))
    handlers = {JOB: handle}
    worker = Worker({"models": queue}, handlers, failed or (lambda *_: None), slots=1, poll=0.02)
    before = set(threading.enumerate())
    threading.Thread(target=worker.run).start()
    yield
    worker.drain()
    for thread in set(threading.enumerate()) - before:
        thread.join()


def test_a_file_is_taken_in_and_its_version_numbered(penguins: Modelyard) -> None:
    taken = penguins.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    assert taken.status_code == 202
    assert taken.headers["Location"] == f"{VERSIONS}/1"
    assert (taken.json["state"], taken.json["artifacts"]) == ("importing", [])
    digest = f"sha-256:{hashlib.sha256(ARCHIVE).hexdigest()}"
    assert taken.json["lineage"]["source_digest"] == digest
    shown = penguins.client().get(f"{VERSIONS}/1")
    assert (shown.status_code, shown.json) == (200, taken.json)
    assert penguins.client().get(f"{API}/models/penguins").json["newest_version"] is None
    assert penguins.put_alias("champion", 1).status_code == 409
    assert penguins.client().get(f"{VERSIONS}/1/artifacts/upload").status_code == 404


def test_a_form_says_what_the_file_is(penguins: Modelyard) -> None:
    form = {
        "file": (io.BytesIO(ARCHIVE), "../../../etc/passwd"),
        "description": "From my notebook",
        "tags": '{"by": "me"}',
        "signature": '{"inputs": [{"name": "a", "type": "number", "nullable": false}]}',
    }
    taken = penguins.client().post(VERSIONS, data=form, content_type="multipart/form-data")
    assert taken.status_code == 202, taken.text
    assert (taken.json["description"], taken.json["tags"]) == ("From my notebook", {"by": "me"})
    assert all(key.startswith("default/models/") for key in penguins.stored_keys())


@pytest.mark.parametrize(
    ("texts", "place"),
    [
        ({"tags": "{"}, "/tags"),
        ({"tags": "[1]"}, "/tags"),
        ({"signature": '{"inputs": [{"name": "a", "type": "x", "nullable": true}]}'}, "/signature"),
        ({"source": "/etc/passwd"}, "/source"),
        ({"state": "ready"}, "/state"),
    ],
)
def test_a_form_that_says_nonsense_is_refused(
    shared_yard: Modelyard, texts: dict[str, str], place: str
) -> None:
    form = {"file": (io.BytesIO(ARCHIVE), "m.skops"), **texts}
    answer = shared_yard.client().post(VERSIONS, data=form, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert pointers(answer)[0].startswith(place)


@pytest.mark.parametrize(
    "content_type",
    ["application/x-pickle", "application/vnd.bentoml+pickle", "text/plain", "", None],
)
def test_a_pickle_is_no_content_type_here(
    shared_yard: Modelyard, tmp_path: Path, content_type: str | None
) -> None:
    canary = tmp_path / "canary"
    options = {} if content_type is None else {"content_type": content_type}
    body = pickle.dumps(Canary(canary))
    answer = shared_yard.client().post(VERSIONS, data=body, **options)
    assert (answer.status_code, canary.exists()) == (415, False)
    assert OCTETS in answer.json["accepted"]


def test_a_pickle_in_disguise_is_refused_and_not_kept(shared_yard: Modelyard) -> None:
    before = shared_yard.stored_keys()
    for body in (pickle.dumps({}), b"P", b"\x1f\x8b"):
        answer = shared_yard.client().post(VERSIONS, data=body, content_type=OCTETS)
        assert (answer.status_code, pointers(answer)) == (422, ["/file"])
    assert shared_yard.stored_keys() == before


def test_a_retry_of_an_upload_gets_the_first_answer(penguins: Modelyard) -> None:
    digest = f"sha-256=:{b64encode(hashlib.sha256(ARCHIVE).digest()).decode()}:"
    headers = {"Idempotency-Key": "u1", "Content-Digest": digest}
    client = penguins.client()
    first, second = (
        client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, headers=headers) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert len(penguins.stored_keys()) == 1
    without = {"Idempotency-Key": "u2"}
    refused = client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, headers=without)
    assert (refused.status_code, pointers(refused)) == (422, ["Content-Digest"])


def test_a_body_that_is_not_the_one_promised_is_refused(shared_yard: Modelyard) -> None:
    before = shared_yard.stored_keys()
    headers = {"Content-Digest": f"sha-256=:{b64encode(bytes(32)).decode()}:"}
    client = shared_yard.client()
    wrong = client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, headers=headers)
    assert (wrong.status_code, pointers(wrong)) == (422, ["Content-Digest"])
    cut = {"CONTENT_LENGTH": str(len(ARCHIVE) + 1)}
    short = client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, environ_overrides=cut)
    assert short.status_code == 400
    packed = {"Content-Encoding": "gzip"}
    coded = client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, headers=packed)
    assert coded.status_code == 415
    huge = {"CONTENT_LENGTH": str(2**40)}
    large = client.post(VERSIONS, data=ARCHIVE, content_type=OCTETS, environ_overrides=huge)
    assert large.status_code == 413
    assert shared_yard.stored_keys() == before


def test_a_file_needs_its_model_and_its_scope(shared_yard: Modelyard) -> None:
    client = shared_yard.client()
    lost = client.post(f"{API}/models/none/versions", data=ARCHIVE, content_type=OCTETS)
    assert lost.status_code == 404
    trainer = shared_yard.client(shared_yard.key(role="trainer"))
    denied = trainer.post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    assert (denied.status_code, denied.json["scope"]) == (403, "artifacts:import")


def test_imports_under_way_are_bounded(yard: Modelyard) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    yard.models.imports._most_importing = 2
    statuses = [yard.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [202, 202, 429]
    assert "Retry-After" in statuses[-1].headers
    assert len(yard.stored_keys()) == 2


def test_deleting_an_import_ends_it(penguins: Modelyard, tmp_path: Path) -> None:
    penguins.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    assert penguins.client().delete(f"{VERSIONS}/1").status_code == 204
    assert penguins.stored_keys() == []
    done = threading.Event()
    with Sandbox() as sandbox:
        handler = ImportHandler(penguins.models, penguins.wiring.store, sandbox, tmp_path)

        def handle(job: Job) -> None:
            handler.handle(job)
            done.set()

        with working(penguins, handle):
            assert done.wait(60)
    assert penguins.client().get(f"{VERSIONS}/1").status_code == 404


def test_waiting_ends_when_the_import_does(penguins: Modelyard) -> None:
    penguins.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    etag = penguins.client().get(f"{VERSIONS}/1").headers["ETag"]
    started = time.monotonic()
    unchanged = penguins.client().get(f"{VERSIONS}/1?wait=1", headers={"If-None-Match": etag})
    assert (unchanged.status_code, time.monotonic() - started > 0.9) == (304, True)
    error = {"code": "import_error", "detail": "no", "retryable": False, "errors": []}

    def refuse(job: Job) -> None:
        time.sleep(0.3)
        penguins.models.imports.fail(job, error)

    with working(penguins, refuse):
        answer = penguins.client().get(f"{VERSIONS}/1?wait=20", headers={"If-None-Match": etag})
    assert (answer.json["state"], answer.json["error"]) == ("failed", error)
    assert time.monotonic() - started < 15
    assert penguins.events()[-1][0] == "version.failed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LostWorker(), "lost_worker"),
        (KeyError("/home/secret"), "import_error"),
        (TooLarge("It is too large"), "too_large"),
    ],
)
def test_an_import_that_its_worker_gives_up_fails(
    yard: Modelyard, tmp_path: Path, error: Exception, code: str
) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    yard.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    sandbox = cast("Sandbox", Conversions(compiling=NOT_COMPILED))
    handler = ImportHandler(yard.models, yard.wiring.store, sandbox, tmp_path)

    def die(_job: Job) -> None:
        raise error

    with working(yard, die, handler.on_failure):
        shown = yard.client().get(f"{VERSIONS}/1?wait=20").json
    assert (shown["state"], shown["error"]["code"]) == ("failed", code)
    assert "secret" not in shown["error"]["detail"]


RESULT = {
    "task": "regression",
    "signature": {"inputs": SIGNATURE["inputs"], "output": {"task": "regression"}},
    "recipe": [{"name": "body_mass_g", "source": "body_mass_g", "kind": "number"}],
    "estimators": ["LinearRegression"],
    "warnings": [{"code": "unseen_categories", "detail": "An unseen category sets no column"}],
    "library_versions": {"scikit-learn": "1.9.1"},
    "model": "model.joblib",
}
REFUSED = Failure("Invalid", "It names os.system", "..", True, "invalid", ({"pointer": "/file"},))
BROKEN = Failure("KeyError", "'/home/secret'", "..", False, None, ())


VERIFIED = {"rows": 1000, "max_abs_diff": 0.0, "label_flips": 0}
COMPILED = {"engine": "compiled", "reason": None, "verified": VERIFIED}
NOT_COMPILED = Outcome("time_limit", "Too long")


class Conversions:
    """A sandbox whose conversions end as a test says, one after the other, and compiling, too."""

    def __init__(self, *outcomes: Outcome, compiling: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.compiling = compiling
        self.arguments: list[dict[str, Any]] = []

    def run(self, target: str, arguments: dict[str, Any], work: Path, *_: Any, **__: Any) -> Any:
        """What is next."""
        if target.startswith("app.models.skops.serving"):
            if self.compiling.code == "ok":
                (work / "compiled.myc").write_bytes(b"our own compiled form")
            return self.compiling
        assert Path(arguments["source"]).read_bytes() == ARCHIVE
        self.arguments.append(arguments)
        (work / "model.joblib").write_bytes(b"our own joblib file")
        return self.outcomes.pop(0)


def _imported(
    yard: Modelyard,
    work: Path,
    *outcomes: Outcome,
    form: Any = None,
    compiling: Outcome = NOT_COMPILED,
) -> dict[str, Any]:
    """The version that came of a file, and nothing left in the work folder."""
    sandbox = Conversions(*outcomes, compiling=compiling)
    body = {"data": form} if form else {"data": ARCHIVE, "content_type": OCTETS}
    yard.client().post(VERSIONS, **body)
    handler = ImportHandler(yard.models, yard.wiring.store, cast("Sandbox", sandbox), work)
    with working(yard, handler.handle, handler.on_failure):
        shown = yard.client().get(f"{VERSIONS}/1?wait=20").json
    assert list(work.iterdir()) == []
    return {**shown, "asked": sandbox.arguments}


def test_a_converted_file_is_a_version_like_any_other(penguins: Modelyard, tmp_path: Path) -> None:
    inputs = [{"name": "a", "type": "number", "nullable": False}]
    form = {
        "file": (io.BytesIO(ARCHIVE), "model.skops"),
        "signature": json.dumps({"inputs": inputs}),
    }
    shown = _imported(penguins, tmp_path / "work", Outcome("ok", "", RESULT), form=form)
    assert shown["asked"][0]["inputs"] == inputs
    assert (shown["state"], shown["task"]) == ("ready", "regression")
    assert shown["serving"] == {
        "engine": "sklearn",
        "reason": "the compiled form was not finished",
        "verified": None,
    }
    assert shown["lineage"]["estimator"] == {"imported": ["LinearRegression"]}
    assert shown["warnings"][0]["code"] == "unseen_categories"
    client = penguins.client()
    assert client.get(f"{VERSIONS}/1/artifacts/joblib").data == b"our own joblib file"
    assert len(penguins.stored_keys()) == 1
    assert client.get(f"{API}/models/penguins").json["newest_version"] == 1
    assert penguins.models.collector.run(deep=True) == []
    assert [kind for kind, _ in penguins.events()][-2:] == [
        "version.importing",
        "version.registered",
    ]


def test_an_import_that_compiles_is_served_compiled(yard: Modelyard, tmp_path: Path) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    done, compiling = Outcome("ok", "", RESULT), Outcome("ok", "", COMPILED)
    shown = _imported(yard, tmp_path / "work", done, compiling=compiling)
    assert (shown["state"], shown["serving"]) == ("ready", COMPILED)
    kept = yard.client().get(f"{VERSIONS}/1/artifacts/compiled")
    assert kept.data == b"our own compiled form"


@pytest.mark.parametrize(
    ("outcome", "code", "told"),
    [
        (Outcome("error", "", failure=REFUSED), "import_error", "It names os.system"),
        (Outcome("error", "", failure=BROKEN), "import_error", "The import broke: KeyError"),
        (Outcome("memory_limit", "Too much"), "memory_limit", "Too much"),
        (Outcome("time_limit", "Too long"), "time_limit", "Too long"),
        (Outcome("native_crash", "SIGSEGV"), "native_crash", "SIGSEGV"),
        (Outcome("process_limit", "Too many"), "import_error", "Too many"),
    ],
)
def test_a_file_that_cannot_be_converted_fails_its_version(
    yard: Modelyard, tmp_path: Path, outcome: Outcome, code: str, told: str
) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    shown = _imported(yard, tmp_path / "work", outcome)
    assert (shown["state"], shown["error"]["code"]) == ("failed", code)
    assert shown["error"]["detail"] == told
    assert yard.stored_keys() == []
    assert yard.register()["version"] == 2


def test_an_import_whose_process_was_lost_is_tried_again(yard: Modelyard, tmp_path: Path) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    lost, done = Outcome("lost", "killed"), Outcome("ok", "", RESULT)
    shown = _imported(yard, tmp_path / "work", lost, done)
    assert (shown["state"], len(shown["asked"])) == ("ready", 2)


def test_a_file_that_is_gone_from_the_store_fails_its_import(
    yard: Modelyard, tmp_path: Path
) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    yard.client().post(VERSIONS, data=ARCHIVE, content_type=OCTETS)
    yard.wiring.store.delete(yard.stored_keys()[0])
    sandbox = cast("Sandbox", Conversions(compiling=NOT_COMPILED))
    handler = ImportHandler(yard.models, yard.wiring.store, sandbox, tmp_path)
    with working(yard, handler.handle, handler.on_failure):
        shown = yard.client().get(f"{VERSIONS}/1?wait=20").json
    assert (shown["state"], shown["error"]["code"]) == ("failed", "artifact_missing")


def test_what_an_import_has_stored_goes_when_the_rest_finds_no_room(
    yard: Modelyard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: the first file stayed in a full store, without a row, until somebody cleared up."""
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    store, put = type(yard.wiring.store), type(yard.wiring.store).put

    def full_for_compiled(self: Any, key: str, source: Any) -> Any:
        if key.endswith(".myc"):
            assert len(yard.stored_keys()) == 2
            raise StorageFull
        return put(self, key, source)

    monkeypatch.setattr(store, "put", full_for_compiled)
    done, compiling = Outcome("ok", "", RESULT), Outcome("ok", "", COMPILED)
    shown = _imported(yard, tmp_path / "work", done, compiling=compiling)
    assert (shown["state"], shown["error"]["code"]) == ("failed", "storage_full")
    assert yard.stored_keys() == []


@pytest.mark.slow
def test_real_files_are_converted_in_a_real_sandbox(yard: Modelyard, tmp_path: Path) -> None:
    yard.client().post(f"{API}/models", json={"name": "penguins"})
    for body in (_skops(), archive(schema__json=b'{"__module__": "os"}')):
        yard.client().post(VERSIONS, data=body, content_type=OCTETS)
    with Sandbox(PRELOAD) as sandbox:
        handler = ImportHandler(yard.models, yard.wiring.store, sandbox, tmp_path / "work")
        with working(yard, handler.handle, handler.on_failure):
            good, bad = (
                yard.models.versions.wait(yard.call(), "penguins", number, seconds=100)
                for number in (1, 2)
            )
    assert (good.state, good.task) == ("ready", "classification"), good.error
    assert [c["name"] for c in good.document["signature"]["inputs"]] == ["mass", "wing"]
    assert good.library_versions["scikit-learn"]
    assert bad.error is not None
    assert (bad.error["code"], bad.error["errors"][0]["pointer"]) == ("import_error", "/file")
    assert good.document["serving"]["engine"] == "compiled", good.document["serving"]
    assert len(yard.stored_keys()) == 2
    assert yard.models.collector.run(deep=True) == []


def _skops() -> bytes:
    import pandas as pd  # noqa: PLC0415 (only a slow test needs them, and they take seconds)
    import skops.io  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    rows = pd.DataFrame({"mass": [1.0, 2.0, 3.0, 4.0], "wing": [4.0, 3.0, 2.0, 1.0]})
    model = LogisticRegression().fit(rows, ["a", "a", "b", "b"])
    return bytes(skops.io.dumps(model))
