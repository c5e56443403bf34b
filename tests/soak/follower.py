"""A reader of the events: goes on from its position whatever happens, and keeps what it reads."""

import threading
from contextlib import suppress

import httpx


class Follower(threading.Thread):
    """Reads all events as they come, by position."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(name="follower", daemon=True)
        self.seen: list[tuple[str, str, str]] = []
        """Id, type and subject of each event, as they came."""
        self.refusals: list[str] = []
        """Answers that say that a reader did wrong, which none of this kind does."""
        self._client = client
        self._position: str | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        """Read until stopped."""
        while not self._stopping.is_set():
            if self.read(wait=2) is None:
                self._stopping.wait(0.3)

    def stop(self) -> None:
        """Read no further."""
        self._stopping.set()

    def read(self, wait: int = 0) -> int | None:
        """Read on once; how many events came, None when there was no answer."""
        with suppress(httpx.TransportError):
            after = {} if self._position is None else {"after": self._position}
            answer = self._client.get("/events", params={**after, "wait": wait})
            if answer.is_success:
                page = answer.json()
                self._position = page["next_position"]
                self.seen += [(one["id"], one["type"], one["subject"]) for one in page["items"]]
                return len(page["items"])
            if answer.is_client_error:
                self.refusals.append(f"{answer.status_code} {answer.text[:300]}")
        return None
