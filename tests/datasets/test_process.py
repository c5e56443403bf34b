"""The ingest process: lanes, beats, conversions that nobody waits for any more."""

import tempfile
import threading

import msgspec
import pytest

from app.datasets import process
from app.datasets.copies import Copies
from app.datasets.ingest_request import IngestRequest
from app.datasets.process import Converter, Tables
from app.kernel.artifacts.folder import FolderStore
from app.kernel.errors import Invalid, Unavailable

MEMORY = 256 << 20
BIG = 9 << 20


def question(folder, text="a\n1\n", size=None):
    folder.mkdir(exist_ok=True)
    source = folder / "source"
    source.write_text(text)
    request = IngestRequest(source, "csv").as_json()
    return {"request": request, "bytes": size or len(text), "folder": str(folder)}


def messages(answers):
    return [msgspec.msgpack.decode(answer) for answer in answers]


@pytest.fixture
def slow(monkeypatch):
    """A conversion that goes on, telling so, until the test lets it end; what became of it."""
    began, go_on, ends = threading.Event(), threading.Event(), []
    converted = process.ingest

    def ingest(request, *, progress, **more):
        if request.source.read_text() != "slow\n1\n":
            return converted(request, progress=progress, **more)
        began.set()
        try:
            while not go_on.wait(0.02):
                progress(0.5, "reading")
        except Unavailable:
            ends.append("ended early")
            raise
        return converted(request, progress=progress, **more)

    monkeypatch.setattr(process, "ingest", ingest)
    monkeypatch.setattr(process, "_BEAT_SECONDS", 0.05)
    yield began, go_on, ends
    go_on.set()


def test_a_conversion_tells_its_progress_and_then_its_result(tmp_path):
    *beats, last = messages(Converter(MEMORY).convert(question(tmp_path / "x")))
    assert beats
    assert {beat["progress"]["step"] for beat in beats} <= {
        "reading",
        "inferring",
        "writing",
        "digesting",
        "profiling",
    }
    assert (last["result"]["rows"], last["result"]["rejects"]) == (1, None)


def test_a_refused_file_is_refused_to_the_one_who_asked(tmp_path):
    with pytest.raises(Invalid):
        messages(Converter(MEMORY).convert(question(tmp_path / "x", "a\n")))


def test_a_small_file_does_not_wait_behind_a_big_one(tmp_path, slow):
    began, _, _ = slow
    converter = Converter(MEMORY)
    big = converter.convert(question(tmp_path / "big", "slow\n1\n", BIG))
    next(big)
    began.wait(60)
    small = messages(converter.convert(question(tmp_path / "small")))
    assert small[-1]["result"]["rows"] == 1
    waiting = converter.convert(question(tmp_path / "next", size=BIG))
    assert msgspec.msgpack.decode(next(waiting))["progress"]["step"] == "waiting"
    big.close()
    assert messages(waiting)[-1]["result"]["rows"] == 1


def test_a_conversion_that_nobody_waits_for_ends(tmp_path, slow):
    began, _, ends = slow
    answers = Converter(MEMORY).convert(question(tmp_path / "x", "slow\n1\n"))
    next(answers)
    began.wait(60)
    answers.close()
    assert ends == ["ended early"]


def test_who_waits_too_long_is_asked_to_come_back(tmp_path, slow):
    converter = Converter(MEMORY, longest_wait=0.1)
    first = converter.convert(question(tmp_path / "x", "slow\n1\n"))
    next(first)
    with pytest.raises(Unavailable):
        messages(converter.convert(question(tmp_path / "y")))
    first.close()


@pytest.fixture
def stored(tmp_path):
    """A stored table, and what reads it."""
    result = messages(Converter(MEMORY).convert(question(tmp_path / "x", "a,b\n1,x\n2,y\n")))
    store = FolderStore(tmp_path / "store")
    found = store.put("default/datasets/x.parquet", (tmp_path / "x" / "table.parquet").read_bytes())
    assert result[-1]["result"]["rows"] == 2
    asked = {"key": found.key, "digest": found.digest, "bytes": found.bytes}
    return Tables(Copies(store, tmp_path / "copies")), asked


def test_a_text_is_made_once(stored, monkeypatch):
    tables, asked = stored
    asked |= {"format": "csv", "spreadsheet": False}
    (first,) = messages(tables.export(asked))
    monkeypatch.setattr(process, "export", None)
    (again,) = messages(tables.export(asked))
    assert again == first
    assert first["result"]["bytes"] == len("a,b\n1,x\n2,y\n")


def test_tables_are_read_without_the_systems_folder_for_temporary_files(
    stored, tmp_path, monkeypatch
):
    tables, asked = stored
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    rows = tables.rows({**asked, "offset": 0, "limit": 1, "columns": None})
    assert rows["items"] == [{"a": 1, "b": "x"}]
    (text,) = messages(tables.export({**asked, "format": "csv", "spreadsheet": False}))
    assert [str(path) for path in (tmp_path / "copies").iterdir()] == [text["result"]["path"]]


def test_who_wants_the_same_text_waits_for_it_with_beats(stored, monkeypatch):
    tables, asked = stored
    asked |= {"format": "csv", "spreadsheet": False}
    monkeypatch.setattr(process, "_BEAT_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()
    export = process.export

    def slow_export(*arguments, **more):
        yield from export(*arguments, **more)
        begun.set()
        go_on.wait(30)

    monkeypatch.setattr(process, "export", slow_export)
    first = threading.Thread(target=lambda: messages(tables.export(asked)))
    first.start()
    assert begun.wait(30)
    second = tables.export(asked)
    assert "progress" in msgspec.msgpack.decode(next(second))
    go_on.set()
    first.join()
    assert "result" in messages(second)[-1]


def test_a_text_that_is_given_up_leaves_nothing(stored, tmp_path, monkeypatch):
    tables, asked = stored
    asked |= {"format": "ndjson", "spreadsheet": False}
    monkeypatch.setattr(process, "_BEAT_SECONDS", -1)
    answers = tables.export(asked)
    next(answers)
    assert len(list((tmp_path / "copies").glob("draft-*"))) == 1
    answers.close()
    assert list((tmp_path / "copies").iterdir()) == []
