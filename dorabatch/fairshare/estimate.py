"""How long a run will take, from what the same user ran before.

Decides predictions only; a prediction is never used to stop anything. Keeps no clock.
"""

import math
from collections import deque

LAST_RUNS = 5
PLAN_QUANTILE = 0.75


class History:
    """The last runs by (user, GPUs, limit), (user, GPUs), user, and of everybody."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, ...], deque[float]] = {}

    def add(self, *, user: int, gpus: int, limit: float, run_seconds: float) -> None:
        """Remember a run that ended."""
        for key in _keys(user, gpus, limit):
            self._runs.setdefault(key, deque(maxlen=LAST_RUNS)).append(run_seconds)

    def predicted(self, *, user: int, gpus: int, limit: float) -> float:
        """The geometric mean of the nearest history, at most the limit."""
        for key in _keys(user, gpus, limit):
            if runs := self._runs.get(key):
                total = sum(math.log(max(1.0, run)) for run in runs)
                return min(limit, math.exp(total / len(runs)))
        return limit

    def planned(self, *, user: int, gpus: int, limit: float) -> float:
        """The 75th percentile of the nearest history, at most the limit."""
        for key in _keys(user, gpus, limit)[:-1]:
            if runs := self._runs.get(key):
                place = math.ceil(PLAN_QUANTILE * len(runs)) - 1
                return min(limit, sorted(runs)[place])
        return limit


def _keys(user: int, gpus: int, limit: float) -> tuple[tuple[int, ...], ...]:
    return ((user, gpus, int(limit)), (user, gpus), (user,), ())
