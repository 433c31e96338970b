"""Shares put together to whole GPUs."""

import itertools

import numpy as np
import pytest

from dorabatch.placer.plan.share_packing import compose, fullest, sort_out


def _piles(milli, weight=None):
    milli = np.array(milli, dtype=np.int64)
    weight = np.zeros_like(milli) if weight is None else np.array(weight)
    return sort_out(milli, weight, np.arange(len(milli)))


def _compose(milli, weight=None):
    group = np.full(len(milli), -1, dtype=np.int64)
    made = compose(_piles(milli, weight), group)
    return [np.flatnonzero(group == number).tolist() for number in range(made)]


def _groups(milli, weight=None):
    groups = _compose(milli, weight)
    return sorted(sorted((milli[m] for m in g), reverse=True) for g in groups)


def _best_by_trying(room, sizes, counts):
    """The largest sum in the room, by trying every filling."""
    ranges = [range(c + 1) for c in counts]
    found = [
        sum(n * s for n, s in zip(take, sizes, strict=True))
        for take in itertools.product(*ranges)
    ]
    return max(f for f in found if f <= room)


@pytest.mark.parametrize("seed", range(40))
def test_fullest_is_the_best_there_is(seed):
    draw = np.random.default_rng(seed)
    sizes = np.unique(draw.integers(1, 60, 4) * 10)[::-1].tolist()
    counts = draw.integers(0, 5, len(sizes)).tolist()
    room = int(draw.integers(0, 1000))
    taken = fullest(room, sizes, counts)
    assert all(0 < many <= counts[kind] for kind, many in taken)
    got = sum(sizes[kind] * many for kind, many in taken)
    assert got == _best_by_trying(room, sizes, counts)


def test_large_pieces_are_taken_where_the_sum_is_the_same():
    assert fullest(600, [600, 400, 200, 100], [1, 1, 1, 9]) == [(0, 1)]
    assert fullest(600, [400, 200, 100], [1, 1, 9]) == [(1, 1), (0, 1)]


def test_what_fits_together_shares_a_gpu():
    # The largest into the smallest rest, one after another, would open three GPUs.
    milli = [440, 430, 360, 330, 230, 210]
    assert _groups(milli) == [[430, 360, 210], [440, 330, 230]]


def test_the_heaviest_goes_with_the_lightest():
    groups = _compose([500] * 4, weight=[1, 4, 2, 3])
    assert sorted(sorted(g) for g in groups) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("seed", range(10))
def test_every_share_is_in_one_gpu_and_none_is_over_full(seed):
    draw = np.random.default_rng(seed)
    milli = draw.integers(1, 1000, 300)
    groups = _compose(milli)
    assert sorted(m for group in groups for m in group) == list(range(300))
    assert max(int(milli[group].sum()) for group in groups) <= 1000


def test_no_shares_no_gpus():
    assert _compose([]) == []
