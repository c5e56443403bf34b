"""A question that is asked of a database again and again, spared where nobody has committed."""

from collections.abc import Callable
from typing import Generic, TypeVar

from app.kernel.sql import Database

Answer = TypeVar("Answer")


class LastLook(Generic[Answer]):
    """What ``ask`` found when it last looked; for one thread at a time.

    ``lasts`` tells whether an answer holds until somebody commits; one that time alone may change
    doesn't.
    """

    def __init__(
        self,
        database: Database,
        ask: Callable[[], Answer],
        lasts: Callable[[Answer], bool] = lambda _: True,
    ) -> None:
        self._database = database
        self._ask = ask
        self._lasts = lasts
        self._commits: tuple[int, int] | None = None
        self._answer: Answer

    def look(self) -> Answer:
        """The answer; asked for only if something may have been committed since."""
        commits = self._database.commits()
        if commits is None or commits != self._commits:
            # Counted before the question: what comes in between is found next time.
            self._answer = self._ask()
            self._commits = commits if self._lasts(self._answer) else None
        return self._answer

    @property
    def holds(self) -> bool:
        """Whether the next look may cost next to nothing."""
        return self._commits is not None
