"""A breaker: what has failed several times is left alone for a while, then one may try it.

Each failed trial doubles the pause. Not thread-safe: its owner holds a lock.
"""

from dataclasses import dataclass, field
from typing import Final

CLOSED: Final = "closed"
OPEN: Final = "open"
TRIAL: Final = "trial"


@dataclass
class Breaker:
    """Opens after ``most_strikes`` in ``window`` seconds; moments are of one monotonic clock."""

    most_strikes: int
    window: float
    first_pause: float
    longest_pause: float
    strikes: list[float] = field(default_factory=list)
    open_until: float = 0.0
    on_trial: bool = False
    _pause: float = 0.0

    def state(self, now: float) -> str:
        """CLOSED, OPEN, or TRIAL where the pause is over and nobody has succeeded since."""
        if not self._pause:
            return CLOSED
        return OPEN if now < self.open_until else TRIAL

    def admits(self, now: float) -> bool:
        """Whether to try now. Whoever was let in says how it went: struck, well or undecided."""
        state = self.state(now)
        if state == OPEN or (state == TRIAL and self.on_trial):
            return False
        self.on_trial = state == TRIAL
        return True

    def struck(self, now: float) -> float:
        """It failed; the seconds for which nobody is let in, 0 while it stays closed."""
        self.strikes = [moment for moment in self.strikes if now - moment <= self.window] + [now]
        was_trial, self.on_trial = self.on_trial, False
        if not was_trial and len(self.strikes) < self.most_strikes:
            return 0.0
        self._pause = min(2 * self._pause, self.longest_pause) if was_trial else self.first_pause
        self.open_until = now + self._pause
        return self._pause

    def well(self) -> None:
        """It succeeded: a trial that does closes the breaker, and the last strike is remembered."""
        if self.on_trial:
            self.on_trial, self._pause = False, 0.0
            self.strikes = self.strikes[-1:]

    def undecided(self) -> None:
        """Whether it would have succeeded didn't show."""
        self.on_trial = False

    def left(self, now: float) -> float:
        """Seconds until the pause is over."""
        return max(0.0, self.open_until - now)
