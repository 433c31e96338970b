"""What has a place may use it while the lane stays free; golden cases by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from dorabatch.fairshare.turn.main_part import Bids, MainPart, picked

NEVER = math.inf


def bids(
    sizes: Sequence[int],
    planned: Sequence[float] | None = None,
    trials: Sequence[int] = (),
    ran: float = 0.0,
) -> Bids:
    """In this order; `trials` are those that have run on trial, for `ran` seconds."""
    places = np.arange(len(sizes))
    on_trial = np.isin(places, trials)
    return Bids(
        size=np.array(sizes, dtype=np.int64),
        planned=np.array(planned or [NEVER] * len(sizes), dtype=np.float64),
        ran=np.where(on_trial, ran, 0.0),
        on_trial=on_trial,
    )


def main(size: int, used: int, ends: Sequence[tuple[float, int]] = ()) -> MainPart:
    return MainPart(
        size=size,
        used=used,
        run_ends=np.array([end for end, _ in ends], dtype=np.float64),
        run_gpus=np.array([gpus for _, gpus in ends], dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("wanted", "part", "says"),
    [
        # All fit; nobody is there.
        (bids([1, 2]), main(8, 5), [1, 1]),
        (bids([]), main(8, 8), []),
        # In order, and nobody smaller passes who may last.
        (bids([1, 2, 1]), main(8, 6, [(100, 1), (NEVER, 5)]), [1, 0, 0]),
        (bids([2]), main(8, 7), [0]),
        # Who ends before the first has room passes; who ends after does not.
        (bids([4, 1, 1], [NEVER, 50, 200]), main(8, 6, [(100, 6)]), [0, 1, 1]),
        (bids([8, 1, 1], [NEVER, 50, 200]), main(8, 6, [(100, 6)]), [0, 1, 0]),
        # A trial is like what waits, in its place of the order.
        (bids([1, 1], trials=[1]), main(8, 7), [1, 0]),
        (bids([1, 1], trials=[0]), main(8, 7), [1, 0]),
        # What is left of its run counts, not what it ran already.
        (bids([8, 1], [9, 120], trials=[1], ran=30), main(8, 6, [(100, 6)]), [0, 1]),
        (bids([8, 1], [9, 120], trials=[1], ran=10), main(8, 6, [(100, 6)]), [0, 0]),
        # Larger than the main part: the lane's GPUs too, before all others' room.
        (bids([9, 1]), main(8, 0), [1, 0]),
        # No GPU more is always possible, and more runs than there is room for is not.
        (bids([0, 1]), main(8, 9), [1, 0]),
    ],
)
def test_picked(wanted: Bids, part: MainPart, says: list[int]) -> None:
    assert picked(wanted, part, now=0.0).tolist() == [bool(one) for one in says]


def test_the_main_part_is_never_overdrawn() -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        count = int(random.integers(1, 9))
        sizes = random.integers(0, 6, count).tolist()
        planned = random.choice([10.0, 100.0, NEVER], count).tolist()
        trials = np.flatnonzero(random.random(count) < 0.3).tolist()
        used = int(random.integers(0, 12))
        ends = [(float(random.choice([20.0, 200.0, NEVER])), 1) for _ in range(used)]
        part = main(8, used, ends)
        won = picked(bids(sizes, planned, trials, 5.0), part, now=0.0)
        counted = [size for size, is_in in zip(sizes, won, strict=True) if is_in]
        assert sum(counted) <= max(0, 8 - used)
