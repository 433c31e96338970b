"""How long a run will take, from what the same user ran before.

Decides predictions only; a prediction is never used to stop anything. Keeps no clock.
"""

import math
from collections import deque
from collections.abc import Hashable, Sequence

LAST_RUNS = 5
"""Runs in the mean and in the planned quantile: what a user does changes quickly."""

RANGE_RUNS = 50
"""Runs that a range is taken from."""

PLAN_QUANTILE = 0.75

UNKNOWN_SECONDS = 7 * 86_400.0
"""Taken for a run without a limit of which nothing is known."""


class History:
    """The last runs by (user, GPUs, limit), (user, GPUs), user, and of everybody.

    `user` is any name or number; `limit` in seconds is math.inf where there is none.
    """

    def __init__(self) -> None:
        self._runs: dict[Hashable, deque[float]] = {}

    def add(
        self, *, user: Hashable, gpus: int, limit: float, run_seconds: float
    ) -> None:
        """Remember a run that ended by itself."""
        for key in _keys(user, gpus, limit):
            runs = self._runs.get(key)
            if runs is None:
                runs = self._runs[key] = deque(maxlen=RANGE_RUNS)
            runs.append(run_seconds)

    def predicted(
        self, *, user: Hashable, gpus: int, limit: float, ran: float = 0.0
    ) -> float:
        """Geometric mean of the last 5 runs of the nearest history, at most the limit.

        Without any run of the user it is the median of everybody's. A run that is as
        old as its prediction gets twice its age: `ran` is how long it runs already.
        """
        expected = limit
        *own, everybody = _keys(user, gpus, limit)
        for key in own:
            if runs := self._runs.get(key):
                last = list(runs)[-LAST_RUNS:]
                total = sum(math.log(max(1.0, run)) for run in last)
                expected = math.exp(total / len(last))
                break
        else:
            if runs := self._runs.get(everybody):
                expected = quantile(sorted(runs), 0.5)
        return min(limit, expected if ran < expected else 2 * ran)

    def planned(self, *, user: Hashable, gpus: int, limit: float) -> float:
        """The 75th percentile of the user's last 5 runs, at most the limit."""
        for key in _keys(user, gpus, limit)[:-1]:
            if runs := self._runs.get(key):
                return min(
                    limit, quantile(sorted(list(runs)[-LAST_RUNS:]), PLAN_QUANTILE)
                )
        return limit

    def quantiles(
        self,
        parts: Sequence[float],
        *,
        user: Hashable,
        gpus: int,
        limit: float,
        ran: float = 0.0,
    ) -> tuple[float, ...]:
        """Run seconds at parts such as (0.1, 0.5, 0.9).

        Taken from the last 50 runs of the nearest history; of a run that is `ran`
        seconds old, only from those that lasted longer. Without any: the limit, else
        seven days or twice what it has run.
        """
        for key in _keys(user, gpus, limit):
            runs = sorted(run for run in self._runs.get(key, ()) if run > ran)
            if runs:
                return tuple(min(limit, quantile(runs, part)) for part in parts)
        known = max(UNKNOWN_SECONDS, 2 * ran) if math.isinf(limit) else limit
        return (known,) * len(parts)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of the ordered values do not pass."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _keys(user: Hashable, gpus: int, limit: float) -> tuple[Hashable, ...]:
    return ((user, gpus, limit), (user, gpus), (user,), ())
