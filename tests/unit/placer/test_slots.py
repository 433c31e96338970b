"""Shares put together to whole GPUs."""

import itertools

import numpy as np
import pytest

from dorabatch.placer.slots import SIZES_MAX, compose, fullest, sort_out


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
    """(sum, -pieces) of the best filling, by trying every one."""
    ranges = [range(c + 1) for c in counts]
    found = [
        (sum(n * s for n, s in zip(take, sizes, strict=True)), -sum(take))
        for take in itertools.product(*ranges)
    ]
    return max(f for f in found if f[0] <= room)


@pytest.mark.parametrize("seed", range(40))
def test_fullest_is_the_best_there_is(seed):
    draw = np.random.default_rng(seed)
    sizes = np.unique(draw.integers(1, 60, 4) * 10)[::-1].astype(np.int64)
    counts = draw.integers(0, 5, len(sizes))
    room = int(draw.integers(0, 1000))
    taken = fullest(room, sizes, counts)
    assert (taken <= counts).all()
    got = int(taken @ sizes), -int(taken.sum())
    assert got == _best_by_trying(room, sizes.tolist(), counts.tolist())


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


def test_many_sizes_are_sampled():
    sizes = np.arange(3 * SIZES_MAX, 0, -1)
    taken = fullest(1000, sizes, np.ones_like(sizes))
    assert 990 <= int(taken @ sizes) <= 1000
    assert np.count_nonzero(taken) <= SIZES_MAX


def test_no_shares_no_gpus():
    assert _compose([]) == []
