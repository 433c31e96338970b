"""The cheapest bin for one request at a time: rows of costs, and costs of one bin."""

import numpy as np
import pytest

from dorabatch.placer.arrays.bins import BinState, lay_bin_table, shapes_of
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.types import USED_UP
from dorabatch.placer.plan.best_bin import (
    BLOCK,
    EVERYTHING,
    FEW,
    ONE_BY_ONE,
    CostRow,
    Engine,
    Lanes,
    OneGroup,
)
from dorabatch.placer.plan.demand_outlook import look_ahead
from dorabatch.placer.plan.planned_choice import Planned, Scored, best_fit, first_fit
from tests.oracles.placer_cases import make_cluster, make_requests

ASKS = [
    {"gpus": 1, "cpu": 3000, "memory": 4096},
    {"gpus": 2, "cpu": 9000, "accepts": ("V100",)},
    {"gpus": 4, "cpu": -1, "memory": -1},
    {"gpus": 0, "cpu": 2500},
    {"gpus": 1, "milli": 300, "cpu": 500},
    {"gpus": 1, "milli": 450, "cpu": 1500, "accepts": ("T4",)},
]


def _used_state(seed, *, shares=True):
    """A small cluster on which something runs already, and classes that wait."""
    stream = np.random.default_rng(seed)
    kinds = [
        (16_000, 65_536, (4, 0, 0)),
        (32_000, 32_768, (0, 8, 0)),
        (24_000, 65_536, (2, 2, 0)),
        (8_000, 16_384, (0, 0, 0)),
    ]
    cluster = make_cluster([kinds[at] for at in stream.integers(0, 4, size=40)])
    asks = [ask for ask in ASKS if shares or "milli" not in ask]
    classes = classes_of(make_requests(asks * 3))
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    for _ in range(60):
        index = int(stream.integers(len(classes)))
        fits = np.flatnonzero(state.fits(index, EVERYTHING))
        if len(fits):
            state.put(index, int(stream.choice(fits)))
    return state


def _planned(state):
    queued = np.bincount(state.classes.of, minlength=len(state.classes))
    shapes = shapes_of(state.ground, state.classes)
    return Planned(look_ahead(state, shapes, (queued, queued)), state)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_cost_of_one_bin_is_that_of_all_bins(seed, shares):
    state = _used_state(seed, shares=shares)
    assert shares == bool((state.rest != 0).any())
    choice = _planned(state)
    for index in range(len(state.classes)):
        costs = choice.cost(state, index, EVERYTHING)
        fits = state.fits(index, EVERYTHING)
        for bin_ in range(len(state.free)):
            assert choice.cost_at(state, index, bin_) == costs[bin_]
            assert state.fits_at(index, bin_) == fits[bin_]


def test_a_share_takes_the_smallest_rest_that_is_enough():
    cluster = make_cluster([(16_000, 65_536, (4, 0, 0))])
    classes = classes_of(make_requests([{"milli": 300}]))
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    state.rest[0, :5] = [900, 0, 350, 400, USED_UP]
    assert state.plan_hold(0, 0).slot == 2
    state.rest[0, :4] = [200, USED_UP, 0, 0]
    assert state.plan_hold(0, 0).slot == 2


@pytest.mark.parametrize("bins", [1, 70, FEW - 1, FEW, FEW + 3 * BLOCK + 1])
def test_a_row_finds_the_first_of_the_least_in_each_group(bins):
    stream = np.random.default_rng(bins)
    group = stream.integers(0, 3, size=bins)
    order = np.argsort(group, kind="stable")
    groups, start = np.unique(group[order], return_index=True)
    costs = stream.integers(0, 6, size=bins) * 1.0
    row = CostRow(Lanes(order, start), costs)

    def agrees():
        assert row.by_bin().tolist() == costs.tolist()
        least = row.by_group()
        for at, one in enumerate(groups.tolist()):
            own = np.flatnonzero(group == one)
            assert least[at] == costs[own].min()
            assert row.cheapest(at) == own[costs[own].argmin()]

    agrees()
    for turn in range(200):
        some = stream.integers(0, bins, size=1 + turn % 20)
        costs[some] = stream.choice([0.0, 1.0, 7.0, np.inf])
        if len(some) > 1:
            row.put_many(some, costs[some])
        else:
            row.put(int(some[0]), float(costs[some[0]]))
        agrees()
    costs = stream.permutation(costs)
    row.renew(costs)
    agrees()


@pytest.mark.parametrize("cost", [None, first_fit, best_fit])
def test_rows_stay_true_while_bins_change(cost):
    state = _used_state(5)
    choice = Scored(cost, len(state.free)) if cost else _planned(state)
    engine = Engine(state, choice)
    stream = np.random.default_rng(3)
    holds = []
    for changes in (1, 2, ONE_BY_ONE + 2, 3 * len(state.free)):
        for index in range(len(state.classes)):
            engine.costs(index)
        for _ in range(changes):
            index = int(stream.integers(len(state.classes)))
            bin_ = engine.cheapest(index)
            if bin_ >= 0:
                holds.append(engine.put(index, bin_))
            elif holds:
                engine.give_back(holds.pop())
        for index in range(len(state.classes)):
            now = choice.cost(state, index, EVERYTHING)
            assert engine.costs(index).tolist() == now.tolist()
    assert holds


def test_no_bins_have_no_best_one():
    cluster = make_cluster([])
    classes = classes_of(make_requests([{}]))
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    engine = Engine(state, Scored(best_fit, 0))
    assert engine.best(0) == -1
    assert engine.costs(0).tolist() == []
    assert OneGroup(0).lanes(0).bins.tolist() == []
