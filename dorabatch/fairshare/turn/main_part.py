"""The main part of a pool: all GPUs but the lane's, by count.

Says which of those that already have a place on a node may use it, so that the lane
stays free; the pass itself is `pool_decide.normal_pass`. Knows no nodes and starts
nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.fairshare.turn.pool import Pool, Where
from dorabatch.fairshare.turn.pool_decide import (
    BoolArray,
    FloatArray,
    IntArray,
    Work,
    normal_pass,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bids:
    """What has a place and wants to use it, best first.

    size[bid]     GPUs; 0 for what only opens nothing new
    planned[bid]  seconds of the whole run, math.inf where nobody knows
    ran[bid]      seconds that it has run on trial
    on_trial[bid] holds its GPUs already, as a trial in the lane
    """

    size: IntArray
    planned: FloatArray
    ran: FloatArray
    on_trial: BoolArray

    def __len__(self) -> int:
        return len(self.size)

    def take(self, order: IntArray) -> "Bids":
        """The same in another order."""
        names = self.__dataclass_fields__
        return replace(self, **{name: getattr(self, name)[order] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class MainPart:
    """`size` GPUs, of which ordinary runs hold `used`.

    run_ends[run], run_gpus[run]  of those: when they are expected to end, in seconds
                                  (math.inf: nobody knows), and their GPUs
    """

    size: int
    used: int
    run_ends: FloatArray
    run_gpus: IntArray


def picked(bids: Bids, main: MainPart, *, now: float) -> BoolArray:
    """picked[bid]: it may start, or go on as an ordinary run.

    In order; behind the first without room only what delays it by nothing. Who is
    larger than the main part may have the lane's GPUs too, and what is no GPU more
    is always picked.
    """
    uncounted = (bids.size == 0) | (bids.size > main.size)
    order = np.flatnonzero(~uncounted)
    free = main.size - main.used - int(bids.size[uncounted].sum())
    if int(bids.size[order].sum()) <= free:
        return np.ones(len(bids), dtype=bool)
    found: BoolArray = uncounted.copy()
    pool = Pool(capacity=main.size)
    # In order, because the pool keeps them so.
    runs = np.argsort(main.run_ends, kind="stable")
    ends, sizes = main.run_ends[runs].tolist(), main.run_gpus[runs].tolist()
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True), len(bids)):
        pool.start(number, size, now=now, end=end)
    pool.free = free
    for bid in np.flatnonzero(bids.on_trial & ~uncounted).tolist():
        began = now - float(bids.ran[bid])
        pool.start(bid, int(bids.size[bid]), now=began, end=0.0, where=Where.LANE)
    made = normal_pass(order, _work(bids), pool, now=now, backfills=True)
    found[[bid for _, bid in made]] = True
    return found


def _work(bids: Bids) -> Work:
    none = np.zeros(len(bids), dtype=np.int64)
    left = np.maximum(bids.planned - bids.ran, 0.0)
    return Work(
        user=none,
        size=bids.size,
        submitted=none.astype(np.float64),
        planned=left,
        ends=bids.planned,
        tried=none.astype(bool),
        stops=none,
        may_try=none.astype(bool),
    )
