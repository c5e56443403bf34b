"""The way to the ingest process of this host."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from app.datasets.ports import Beat, Converted, LocalFile, Rows
from app.datasets.uploads import Upload
from app.kernel.artifacts.stored import Stored
from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Client

# The process beats every second while it converts: half a minute of silence is a hang.
_SILENCE_SECONDS = 30.0
_ROWS_SECONDS = 60.0


class IngestClient:
    """``ports.Ingest`` by asking the process over its socket."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def convert(self, upload: Upload, beat: Beat, *, deadline: float | None = None) -> Converted:
        """Turn an upload into Parquet; what ``beat`` raises ends the conversion there, too."""
        question = {
            "request": upload.request.as_json(),
            "bytes": upload.bytes,
            "folder": str(upload.folder),
        }
        return _converted(self._result("convert", question, beat, deadline))

    def rows(
        self,
        stored: Stored,
        *,
        offset: int,
        limit: int,
        columns: Sequence[str] | None,
        deadline: float | None = None,
    ) -> Rows:
        """Rows from an offset on."""
        question = {
            **_told(stored),
            "offset": offset,
            "limit": limit,
            "columns": None if columns is None else list(columns),
        }
        return self._rows("rows", question, deadline)

    def rejects(
        self, stored: Stored, *, offset: int, limit: int, deadline: float | None = None
    ) -> Rows:
        """Rows that were put aside, from an offset on."""
        question = {**_told(stored), "offset": offset, "limit": limit}
        return self._rows("rejects", question, deadline)

    def export(
        self, stored: Stored, format_: str, *, spreadsheet: bool, deadline: float | None = None
    ) -> LocalFile:
        """A file with the whole table as text."""
        question = {**_told(stored), "format": format_, "spreadsheet": spreadsheet}
        result = self._result("export", question, lambda _: None, deadline)
        return LocalFile(Path(result["path"]), result["bytes"], result["digest"])

    def _result(
        self, method: str, question: dict[str, Any], beat: Beat, deadline: float | None = None
    ) -> dict[str, Any]:
        """The result of something long, of which the process tells the progress."""
        answers = self._client.stream(method, question, seconds=_SILENCE_SECONDS, deadline=deadline)
        # Closed, the connection tells the process that nobody waits any more.
        with closing(answers):  # type: ignore[type-var]
            for answer in answers:
                message = msgspec.msgpack.decode(answer)
                if "result" in message:
                    return dict(message["result"])
                beat(message["progress"])
        raise Unavailable("The ingest process ended its answer early", retry_after=1)

    def _rows(self, method: str, question: dict[str, Any], deadline: float | None) -> Rows:
        found = self._client.ask(method, question, seconds=_ROWS_SECONDS, deadline=deadline)
        return Rows(found["columns"], found["items"])


def _told(stored: Stored) -> dict[str, Any]:
    return {"key": stored.key, "digest": stored.digest, "bytes": stored.bytes}


def _converted(result: dict[str, Any]) -> Converted:
    rejects = result.pop("rejects")
    return Converted(
        **{**result, "parquet": Path(result["parquet"])},
        rejects=None if rejects is None else Path(rejects),
    )
