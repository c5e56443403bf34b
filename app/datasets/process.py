"""What the ingest process answers: the only process that opens tables.

It keeps nothing but copies of stored tables. Conversions queue for two lanes, one for small files
and one for all others, so that a small upload never waits behind a big one and the process needs
the memory of two conversions at most.
"""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from app.config import Settings
from app.datasets.copies import Copies
from app.datasets.export import export, read_rejects, read_rows
from app.datasets.ingest.run import ingest
from app.datasets.ingest_request import IngestRequest
from app.datasets.ports import LocalFile
from app.kernel.artifacts.store import open_store
from app.kernel.artifacts.stored import Digest, Stored, disk_errors
from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Handler

_SMALL_BYTES = 8 << 20
_BEAT_SECONDS = 1.0
_LONGEST_WAIT = 600.0
_WAITING = {"fraction": 0.0, "step": "waiting", "message": "Other files come first"}
_WRITING = {"fraction": 0.5, "step": "writing", "message": ""}


def ingest_handlers(settings: Settings) -> dict[str, Handler]:
    """The handlers of the ingest process, by method."""
    copies = Copies(open_store(settings.store()), settings.instance / "work" / "copies")
    tables = Tables(copies)
    return {
        "convert": Converter(settings.ingest_memory).convert,
        "rows": tables.rows,
        "rejects": tables.rejects,
        "export": tables.export,
    }


class Converter:
    """Converts uploads, one in each lane at a time."""

    def __init__(self, memory_bytes: int, *, longest_wait: float = _LONGEST_WAIT) -> None:
        self._memory = memory_bytes
        self._longest_wait = longest_wait
        self._small, self._big = threading.Semaphore(), threading.Semaphore()

    def convert(self, question: dict[str, Any]) -> Iterator[bytes]:
        """Beats with the progress, then the result. Closed early, the conversion ends, too."""
        lane = self._small if question["bytes"] <= _SMALL_BYTES else self._big
        waited = 0.0
        while not lane.acquire(timeout=_BEAT_SECONDS):
            waited += _BEAT_SECONDS
            if waited >= self._longest_wait:
                raise Unavailable("Too many files wait to be read", retry_after=30)
            yield _message("progress", _WAITING)
        try:
            yield from _Conversion(question, self._memory).messages()
        finally:
            lane.release()


class _Conversion:
    """One conversion in a thread of its own, so that beats can be sent meanwhile."""

    def __init__(self, question: dict[str, Any], memory_bytes: int) -> None:
        self._request = IngestRequest.from_json(question["request"])
        self._folder = Path(question["folder"])
        self._memory = memory_bytes
        self._messages: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._unwanted = False

    def messages(self) -> Iterator[bytes]:
        """The messages to send; the last one is the result."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        latest = _message("progress", {"fraction": 0.0, "step": "reading", "message": ""})
        try:
            while thread.is_alive() or not self._messages.empty():
                try:
                    found = self._messages.get(timeout=_BEAT_SECONDS)
                except Empty:
                    found = latest
                if isinstance(found, Exception):
                    raise found
                latest = found
                yield found
        finally:
            self._unwanted = True
            thread.join()

    def _run(self) -> None:
        try:
            result = self._converted()
        except Exception as error:  # noqa: BLE001 - handed to the thread that answers
            self._messages.put(error)
        else:
            self._messages.put(_message("result", result))

    def _converted(self) -> dict[str, Any]:
        parquet, rejects = self._folder / "table.parquet", self._folder / "rejects.ndjson"
        result = ingest(
            self._request,
            parquet=parquet,
            rejects=rejects,
            work=self._folder,
            memory_bytes=self._memory,
            progress=self._tell,
        )
        return {
            "parquet": str(parquet),
            "digest": result.digest,
            "rows": result.rows,
            "columns": result.columns,
            "warnings": result.warnings,
            "rejected": result.rejected_rows,
            "rejects": str(rejects) if result.rejected_rows else None,
        }

    def _tell(self, fraction: float, step: str) -> None:
        if self._unwanted:
            raise Unavailable("Nobody waits for it any more")
        told = {"fraction": fraction, "step": step, "message": ""}
        self._messages.put(_message("progress", told))


class Tables:
    """Reads stored tables."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def rows(self, question: dict[str, Any]) -> dict[str, Any]:
        """Some rows of a table."""
        window = {"offset": question["offset"], "limit": question["limit"]}
        with self._table(question) as path, self._copies.scratch() as work:
            columns, items = read_rows(path, work=work, **window, columns=question["columns"])
        return {"columns": columns, "items": items}

    def rejects(self, question: dict[str, Any]) -> dict[str, Any]:
        """Some of the rows that were put aside."""
        with self._table(question) as path:
            columns, items = read_rejects(path, offset=question["offset"], limit=question["limit"])
        return {"columns": columns, "items": items}

    def export(self, question: dict[str, Any]) -> Iterator[bytes]:
        """Beats, then a file that holds the whole table as text, its size and digest.

        A file, since only of one the length is known before it is sent: a server can't tell a
        client otherwise that an answer broke off.
        """
        kind = "spreadsheet" if question["spreadsheet"] else question["format"]
        name = f"{question['digest'].removeprefix('sha-256:')}.{kind}"
        maker = self._copies.maker(name)
        while not maker.acquire(timeout=_BEAT_SECONDS):
            yield _message("progress", _WAITING)
        try:
            kept = self._copies.kept(name)
            if kept is None:
                kept = yield from self._written(question, name)
        finally:
            maker.release()
        told = {"path": str(kept.path), "bytes": kept.bytes, "digest": kept.digest}
        yield _message("result", told)

    def _written(self, question: dict[str, Any], name: str) -> Generator[bytes, None, LocalFile]:
        beat, digest = time.monotonic(), Digest()
        spreadsheet = question["spreadsheet"]
        with (
            self._table(question) as table,
            self._copies.scratch() as work,
            self._copies.draft() as draft,
        ):
            pieces = export(table, question["format"], work=work, spreadsheet=spreadsheet)
            with disk_errors(), closing(pieces), draft.open("xb") as file:
                for piece in digest.through(pieces):
                    file.write(piece)
                    if time.monotonic() - beat > _BEAT_SECONDS:
                        yield _message("progress", _WRITING)
                        beat = time.monotonic()
            return self._copies.keep(name, draft, str(digest))

    def _table(self, question: dict[str, Any]) -> AbstractContextManager[Path]:
        stored = Stored(question["key"], question["digest"], question["bytes"])
        return self._copies.table(stored)


def _message(kind: str, value: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode({kind: value})
