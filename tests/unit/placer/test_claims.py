"""Where a request of higher rank takes least back from lower ranks."""

import gc

import numpy as np
import pytest

from dorabatch.placer.arrays.bins import BinState, lay_bin_table
from dorabatch.placer.arrays.booked import Booked
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.plan.best_bin import EVERYTHING, Engine
from dorabatch.placer.plan.planned_choice import Scored, best_fit
from dorabatch.placer.plan.take_back import GPU_WEIGHT, Claims
from tests.oracles.placer_cases import make_cluster, make_requests

KINDS = [(16_000, 65_536, (4, 0, 0)), (24_000, 65_536, (0, 4, 0))]
MIXED = [*KINDS, (24_000, 65_536, (2, 2, 0))]
ASKS = [
    {"gpus": 1, "cpu": 3000},
    {"gpus": 3, "cpu": 9000},
    {"gpus": 4, "cpu": -1, "memory": -1},
    {"gpus": 0, "cpu": 7000},
    {"gpus": 1, "milli": 300, "cpu": 500},
    {"gpus": 1, "milli": 700, "cpu": 1500, "accepts": ("T4",)},
]


def _expected(booked, row, index):
    """The bin by giving back all that lower ranks hold on each node in turn."""
    state = booked.state
    node, classes = state.ground.node, state.classes
    count, found = int(classes.gpu_count[index]), []
    for bin_ in range(len(node)):
        family = np.flatnonzero(node == node[bin_])
        owned = [b for b in family if state.ground.allowed[index, b]]
        free = int(state.free[owned if count > 1 else bin_].sum())
        lacks = int(state.ground.cpu_need[index][bin_] - state.cpu[bin_])
        cost = max(count - free, 0) * GPU_WEIGHT + max(lacks, 0)
        lower = [r for r in range(row + 1, len(booked.bin)) if booked.bin[r] in family]
        holds = [booked.hold(r) for r in lower]
        for hold in holds:
            state.give_back(hold)
        if state.fits_on(index, bin_):
            found.append((cost, bin_))
        for hold in holds[::-1]:
            state.take(hold)
    return min(found, default=(0, -1))[1]


@pytest.mark.parametrize("kinds", [KINDS, MIXED])
@pytest.mark.parametrize("seed", range(6))
def test_claims_stay_true_while_rows_pass_and_give_back(seed, kinds):
    stream = np.random.default_rng(seed)
    rows = [ASKS[at] for at in stream.integers(0, len(ASKS), size=120)]
    cluster = make_cluster([kinds[at] for at in stream.integers(0, len(kinds), 12)])
    classes = classes_of(make_requests(rows))
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    engine = Engine(state, Scored(best_fit, len(state.free)))
    booked = Booked(state, len(rows))
    of = classes.of.tolist()
    for row in stream.permutation(len(rows)).tolist():
        fits = np.flatnonzero(state.fits(of[row], EVERYTHING))
        if len(fits):
            booked.put(row, state.put(of[row], int(stream.choice(fits))))
    claims, claimed = Claims(booked, engine, 0, len(rows)), 0
    for row in np.flatnonzero(booked.bin < 0).tolist():
        if engine.best(of[row]) >= 0:
            continue
        bin_ = _expected(booked, row, of[row])
        alone = np.array([max(bin_, 0)])
        assert claims.bin_for(row, of[row], None) == bin_
        if not state.ground.sisters:
            assert claims.bin_for(row, of[row], alone) == bin_
        if bin_ < 0:
            continue
        node = state.ground.node
        on = [r for r in range(row + 1, len(rows)) if booked.bin[r] >= 0]
        on = [r for r in on[::-1] if node[booked.bin[r]] == node[bin_]]
        assert claims.rows_on(bin_) == on
        lost = 0
        while not state.fits_on(of[row], bin_):
            engine.give_back(booked.pop(on[lost]))
            lost += 1
        claims.drop(on[:lost])
        claimed += 1
        if state.fits_at(of[row], bin_):
            booked.put(row, engine.put(of[row], bin_))
    assert claimed


def test_rows_of_costs_go_with_the_claims_that_made_them():
    # A row for each class on a hundred thousand nodes is much to leave lying about.
    requests = make_requests([{"gpus": 4}, {"gpus": 1}])
    classes, cluster = classes_of(requests), make_cluster(KINDS[:1])
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    engine, booked = Engine(state, Scored(best_fit, 1)), Booked(state, 2)
    booked.put(1, engine.put(int(classes.of[1]), 0))
    gc.collect()
    claims = Claims(booked, engine, 0, 2)
    assert claims.bin_for(0, int(classes.of[0]), None) == 0
    del claims
    assert gc.collect() == 0
