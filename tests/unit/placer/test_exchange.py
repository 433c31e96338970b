"""Requests of one plan that change places, so that free GPUs have CPUs and memory."""

import numpy as np
import pytest

from dorabatch.placer.arrays.bins import BinState, lay_bin_table, shapes_of
from dorabatch.placer.arrays.booked import Booked
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.plan import exchange as exchange_module
from dorabatch.placer.plan.demand_outlook import look_ahead
from dorabatch.placer.plan.exchange import exchange
from dorabatch.placer.plan.place import place
from tests.oracles.placer_cases import make_cluster, make_requests

FOUR = (16_000, 65_536, (4, 0, 0))


def _exchanged(rows, bins, nodes=(FOUR, FOUR)):
    """Book rows on bins (-1: it waits) and let them change places."""
    requests, cluster = make_requests(rows), make_cluster(list(nodes))
    classes = classes_of(requests)
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    queued = np.bincount(classes.of, minlength=len(classes))
    outlook = look_ahead(
        state, shapes_of(state.ground, state.classes), (queued, queued)
    )
    booked = Booked(state, len(rows))
    for row, bin_ in enumerate(bins):
        if bin_ >= 0:
            booked.put(row, state.put(int(classes.of[row]), bin_))
    changed = exchange(booked, outlook, booked.whole_rows())
    return booked, state, changed.tolist()


@pytest.mark.parametrize("resource", ["cpu", "memory"])
def test_a_free_gpu_gets_what_a_full_node_has_to_spare(resource):
    scale = 1000 if resource == "cpu" else 4096
    rows = [{resource: 5 * scale}] * 3 + [{resource: 3 * scale}] * 4
    booked, state, changed = _exchanged(rows, [0, 0, 0, 1, 1, 1, 1])
    assert changed == [0, 1]
    left = state.cpu if resource == "cpu" else state.memory
    assert left.tolist() == [5 * scale, 0]
    assert np.bincount(booked.bin, minlength=2).tolist() == [3, 4]
    assert state.free.tolist() == [1, 0]


def test_what_waits_between_two_rows_keeps_them_where_they_are():
    rows = [{"cpu": 5000}] * 3 + [{"cpu": 9000}] + [{"cpu": 3000}] * 4
    booked, _, changed = _exchanged(rows, [0, 0, 0, -1, 1, 1, 1, 1])
    assert changed == []
    assert booked.bin.tolist() == [0, 0, 0, -1, 1, 1, 1, 1]


def test_a_row_goes_only_where_its_model_is():
    other = (16_000, 65_536, (0, 4, 0))
    rows = [{"cpu": 5000, "accepts": ("V100",)}] * 3
    rows += [{"cpu": 3000, "accepts": ("T4",)}] * 4
    assert _exchanged(rows, [0, 0, 0, 1, 1, 1, 1], (FOUR, other))[2] == []


def test_a_node_is_not_relieved_at_the_cost_of_its_memory():
    rows = [{"cpu": 5000, "memory": 8192}] * 3 + [{"cpu": 3000, "memory": 16_384}] * 4
    # The free GPU has 40960 MiB to itself; each exchange takes 8192 of them.
    _, state, _ = _exchanged(rows, [0, 0, 0, 1, 1, 1, 1])
    assert (state.memory >= 0).all() and state.memory[0] >= 8192
    tight = [{"cpu": 5000, "memory": 16_384}] * 3 + [{"cpu": 3000, "memory": 16_384}]
    tight += [{"cpu": 3000, "memory": 16_000}] * 3
    _, state, _ = _exchanged(tight, [0, 0, 0, 1, 1, 1, 1])
    assert (state.memory >= 0).all() and (state.cpu >= 0).all()


def test_where_many_gpus_are_free_nothing_changes():
    rows = [{"cpu": 5000}] * 3 + [{"cpu": 3000}] * 4
    nodes = (FOUR, FOUR, FOUR)
    assert _exchanged(rows, [0, 0, 0, 1, 1, 1, 1], nodes)[2] == []


def test_a_plan_uses_the_room_that_exchanges_make():
    """Without them one of the two nodes is left with a GPU and too few CPUs."""
    cpus = (4000, 1000, 2000, 5000, 7000, 3000, 5000, 2000)
    rows = [{"cpu": cpu} for cpu in cpus]
    plan = place(make_requests(rows), make_cluster([FOUR, FOUR]))
    assert len(plan.placements) == len(rows)


def _plain_partner(booked, left, mine, resource, lack):
    """The definition, row by row: left[bin] is (CPUs, memory) to spare there."""
    state = booked.state
    classes, allowed = state.classes, state.ground.allowed
    need = np.column_stack([classes.cpu_milli, classes.memory_mib])
    own, here = int(classes.of[mine]), int(booked.bin[mine])
    waits = np.cumsum(booked.bin < 0)
    found = []
    for row in booked.whole_rows().tolist():
        kind, bin_ = int(classes.of[row]), int(booked.bin[row])
        gain = (need[own] - need[kind]).tolist()
        good = gain[resource] > 0 and waits[row] == waits[mine]
        good &= classes.gpu_count[kind] == classes.gpu_count[own]
        good &= bool(allowed[own, bin_] and allowed[kind, here])
        for each in range(2):
            good &= gain[each] <= max(left[bin_][each], 0)
            good &= -gain[each] <= max(left[here][each], 0)
        if good:
            enough = gain[resource] >= lack
            found.append((not enough, gain[resource] * (1 if enough else -1), row))
    return min(found)[2] if found else -1


@pytest.mark.parametrize("seed", range(12))
def test_the_row_that_goes_is_the_least_that_is_enough(seed):
    stream = np.random.default_rng(seed)
    asks = [
        {
            "gpus": int(stream.integers(1, 3)),
            "cpu": int(stream.integers(1, 7)) * 1000,
            "memory": int(stream.integers(1, 7)) * 4096,
            "accepts": [("V100",), ("V100", "T4")][stream.integers(2)],
        }
        for _ in range(9)
    ]
    rows = [asks[at] for at in stream.integers(0, len(asks), size=80)]
    other = (16_000, 65_536, (0, 4, 0))
    requests = make_requests(rows)
    cluster = make_cluster([FOUR if at % 3 else other for at in range(24)])
    classes = classes_of(requests)
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    queued = np.bincount(classes.of, minlength=len(classes))
    outlook = look_ahead(state, shapes_of(state.ground, classes), (queued, queued))
    booked = Booked(state, len(rows))
    for row in stream.permutation(len(rows)).tolist():
        fits = np.flatnonzero(state.fits(int(classes.of[row]), slice(None)))
        if len(fits) and row % 25:
            bin_ = int(stream.choice(fits))
            booked.put(row, state.put(int(classes.of[row]), bin_))
    changer = exchange_module._Exchange(booked, outlook, booked.whole_rows())
    partners = set()
    for resource in (0, 1):
        for at, mine in enumerate(booked.whole_rows().tolist()):
            left = changer.spare.T.tolist()
            lack = int(stream.choice([1, 3500, 9000]))
            expected = _plain_partner(booked, left, mine, resource, lack)
            found = changer._partner(at, resource, lack)
            assert (int(changer.rows[found]) if found >= 0 else -1) == expected
            if found >= 0:
                changer._swap(at, found)
                partners.add(expected)
    assert len(partners) > 2
