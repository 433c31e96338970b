"""The books of counted GPUs: what is free, who runs, who only tries, who ends when.

A room without nodes, for replays and for what-if. Decides nothing and starts nothing.
"""

from bisect import bisect_left, insort
from enum import StrEnum


class Where(StrEnum):
    """Where a run stands: for good, on trial in the lane, on trial on idle GPUs."""

    MAIN = "main"
    LANE = "lane"
    IDLE = "idle"


class Pool:
    """GPUs of one pool; `lane_size` of them serve trials only.

    `began[row]` in seconds; `trials[row]` in the order in which they began. Trials on
    idle GPUs hold `idle_used` of what is otherwise free and go when it is wanted.
    """

    def __init__(
        self, *, capacity: int, lane_size: int = 0, long_size: int = 0
    ) -> None:
        self.capacity = capacity
        self.main_size = capacity - lane_size
        self.free = self.main_size
        self.lane_free = lane_size
        self.long_free = long_size
        self.idle_used = 0
        self.began: dict[int, float] = {}
        self.size: dict[int, int] = {}
        self.trials: dict[int, Where] = {}
        self.long: set[int] = set()
        self._ends: list[tuple[float, int]] = []
        self._end_of: dict[int, float] = {}

    @property
    def lane_room(self) -> int:
        """Free GPUs of the lane; one larger than the main part sits on it as well."""
        return self.lane_free + min(0, self.free)

    def start(
        self, row: int, size: int, *, now: float, end: float, where: Where = Where.MAIN
    ) -> None:
        """Take GPUs; `end` counts for runs in the main part only."""
        self.began[row], self.size[row] = now, size
        if where is Where.MAIN:
            self.free -= size
            self._expect(row, end)
            return
        self.trials[row] = where
        if where is Where.LANE:
            self.lane_free -= size
        else:
            self.free -= size
            self.idle_used += size

    def mark_long(self, row: int) -> None:
        """A trial in the lane is one of the long ones."""
        self.long.add(row)
        self.long_free -= self.size[row]

    def promote(self, row: int, *, end: float) -> None:
        """A trial goes on as a run of the main part, in place."""
        where, size = self.trials.pop(row), self.size[row]
        self._unmark_long(row)
        if where is Where.LANE:
            self.lane_free += size
            self.free -= size
        else:
            self.idle_used -= size
        self._expect(row, end)

    def leave(self, row: int) -> None:
        """Give back what a row holds."""
        self._unmark_long(row)
        size = self.size.pop(row)
        where = self.trials.pop(row, Where.MAIN)
        if where is Where.LANE:
            self.lane_free += size
        else:
            self.free += size
        if where is Where.IDLE:
            self.idle_used -= size
        if where is Where.MAIN:
            self._forget_end(row)
        del self.began[row]

    def on_trial(self, where: Where) -> list[int]:
        """Trials of a kind, the latest first."""
        return [row for row, at in reversed(self.trials.items()) if at is where]

    def room_at(self, need: int, *, reach: int, now: float) -> tuple[float, int]:
        """(when `need` GPUs are free, what is left over then), by the expected ends.

        (inf, 0) when they never are. What should have ended already counts as
        going on for as long as it has run.
        """
        while self._ends and self._ends[0][0] <= now:
            _, row = self._ends.pop(0)
            again = now + max(60.0, now - self.began[row])
            self._end_of[row] = again
            insort(self._ends, (again, row))
        got, at = reach, 0.0
        for end, row in self._ends:
            if got >= need and end > at:
                return max(now, at), got - need
            got, at = got + self.size[row], end
        return (max(now, at), got - need) if got >= need else (float("inf"), 0)

    def _unmark_long(self, row: int) -> None:
        if row in self.long:
            self.long.discard(row)
            self.long_free += self.size[row]

    def _expect(self, row: int, end: float) -> None:
        self._end_of[row] = end
        insort(self._ends, (end, row))

    def _forget_end(self, row: int) -> None:
        place = bisect_left(self._ends, (self._end_of.pop(row), row))
        del self._ends[place]
