"""The placer's tables against plain loops: classes, keys, needs, lower ranks."""

import numpy as np
import pytest

from dorabatch.placer.arrays import classes as classes_module
from dorabatch.placer.arrays.bins import (
    BinState,
    cpu_needed,
    lay_bin_table,
    memory_needed,
    needs_at,
)
from dorabatch.placer.arrays.booked import Booked, Lower
from dorabatch.placer.arrays.classes import classes_of, distinct_rows
from dorabatch.placer.arrays.types import SHARE, Waiting, rows_of
from tests.oracles.placer_cases import make_cluster, make_requests

NODES = [(16000, 16384, (4, 0, 0)), (30001, 9999, (2, 3, 0)), (7000, 5000, (0, 0, 0))]
ASKS = [
    {"gpus": 2, "cpu": SHARE, "memory": SHARE},
    {"gpus": 1, "milli": 300, "cpu": SHARE, "memory": 100},
    {"gpus": 1, "cpu": 700, "memory": SHARE},
    {"gpus": 0, "cpu": 1500, "memory": SHARE},
]


def _loop(rows):
    """first[kind] and of[row] by a dict."""
    kinds = {}
    of = [kinds.setdefault(tuple(row), len(kinds)) for row in rows.tolist()]
    return [of.index(kind) for kind in range(len(kinds))], of


@pytest.mark.parametrize("values", [1, 3, 40, 100_000])
@pytest.mark.parametrize("count", [1, 50, 9000])
def test_equal_rows_are_one_kind_in_the_order_of_appearance(values, count):
    stream = np.random.default_rng(values + count)
    rows = stream.integers(-1, values, size=(count, 3))
    first, of = distinct_rows(list(rows.T), count)
    assert (first.tolist(), of.tolist()) == _loop(rows)


@pytest.mark.parametrize("kept_bits", [0, 1, 48])
def test_rows_with_equal_digests_are_told_apart(monkeypatch, kept_bits):
    whole = classes_module._digests

    def poor(columns, count):
        return whole(columns, count) & np.uint64((1 << kept_bits) - 1)

    monkeypatch.setattr(classes_module, "_digests", poor)
    rows = np.random.default_rng(1).integers(0, 3, size=(9000, 3))
    first, of = distinct_rows(list(rows.T), len(rows))
    assert (first.tolist(), of.tolist()) == _loop(rows)


def test_classes_differ_in_every_model_they_accept():
    models = np.eye(20, dtype=bool).repeat(2, axis=0)
    requests = make_requests([{}] * 40)
    many = {name: getattr(requests, name) for name in requests.__dataclass_fields__}
    many["accepts"] = models
    assert len(classes_of(type(requests)(**many))) == 20


@pytest.mark.parametrize("keys", [[5, 3, 9, 4], [5, 3_000_000_000, 9, 4], [7]])
def test_rows_are_found_by_key(keys):
    wanted = [9, 3, 1, 7, 10_000_000_000, 5]
    found = rows_of(np.array(keys), np.array(wanted))
    assert found.tolist() == [keys.index(k) if k in keys else -1 for k in wanted]


def test_no_row_is_found_among_no_keys():
    nobody = np.zeros(0, dtype=np.int64)
    assert rows_of(nobody, np.array([1])).tolist() == [-1]
    assert rows_of(np.array([1]), nobody).tolist() == []


def test_waiting_reads_like_a_dict():
    plain = {7: 0, 3: 1, 9: 0}
    waiting = Waiting.of(plain)
    assert waiting == plain
    assert list(waiting) == [7, 3, 9]
    assert waiting.get(3) == 1
    assert waiting.get(4) is None
    assert waiting.take(waiting.why == 0) == {7: 0, 9: 0}
    assert Waiting.of(waiting) is waiting
    assert Waiting.of({}) == {}


def _state(asks, nodes):
    cluster, classes = make_cluster(nodes), classes_of(make_requests(asks))
    return BinState(lay_bin_table(classes, cluster), classes, cluster), cluster


def test_needs_are_those_of_each_class_on_each_node():
    state, cluster = _state(ASKS, NODES)
    ground, classes = state.ground, state.classes
    bins = np.arange(len(ground.node))
    for index in range(len(classes)):
        cpu, memory = needs_at(classes, ground, np.full(len(bins), index), bins)
        assert (cpu == cpu_needed(classes, index, cluster)[ground.node]).all()
        assert (memory == memory_needed(classes, index, cluster)[ground.node]).all()
        assert (cpu == ground.cpu_need[index]).all()
        assert (memory == ground.memory_need[index]).all()


def test_lower_rows_are_counted_until_they_are_passed_or_dropped():
    state, _ = _state(ASKS * 2, NODES)
    booked = Booked(state, 8)
    # Rows 1 and 5 share a GPU.
    for row, bin_ in ((1, 0), (2, 1), (3, 2), (5, 0), (6, 1)):
        booked.put(row, state.put(int(state.classes.of[row]), bin_))
    lower, left = Lower(booked, 0, 7), {1, 2, 3, 5, 6}
    for row, dropped in ((0, None), (1, 5), (2, None), (5, None), (6, None)):
        lower.move_to(row)
        if dropped is not None:
            assert lower.drop([dropped]) == [booked.bin[dropped]]
            state.give_back(booked.pop(dropped))
        left -= {dropped, *range(row + 1)}
        nodes = {int(state.ground.node[booked.bin[r]]) for r in left}
        bins = [b for b, n in enumerate(state.ground.node.tolist()) if n in nodes]
        for bin_, node in enumerate(state.ground.node.tolist()):
            on = [r for r in left if state.ground.node[booked.bin[r]] == node]
            assert lower.rows_on(bin_) == sorted(on, reverse=True)
        there = lower.given_back(np.array(bins, dtype=np.int64))
        assert [lower.given_back_at(b) for b in bins] == list(zip(*there, strict=True))
        for r in left:
            state.give_back(booked.hold(r))
        assert there.gpus.tolist() == state.free[bins].tolist()
        assert there.cpu.tolist() == state.cpu[bins].tolist()
        assert there.memory.tolist() == state.memory[bins].tolist()
        for r in left:
            state.take(booked.hold(r))
