"""Advice on moving: every move has room, the gain is there, and few are enough."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.placer.arrays.free_room import FreeRoom, placement_ends
from dorabatch.placer.plan.defrag_moves import MOVES_MAX, advise
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from tests.oracles.placer_cases import make_cluster, make_requests
from tests.oracles.placer_loop import LoopBooks

FIRST = PlacementPolicy(name="first-fit")


def running(nodes, rows):
    """(cluster with `rows` placed first-fit, their requests, ends, busy)."""
    cluster = make_cluster(nodes)
    requests = make_requests([{**row, "key": 500 + at} for at, row in enumerate(rows)])
    plan = place(requests, cluster, FIRST)
    at = np.array([p.key - 500 for p in plan.placements], dtype=np.int64)
    ends = placement_ends(
        requests, at, plan.placements, np.zeros(len(rows), np.int64), cluster
    )
    room = FreeRoom(cluster)
    room.take(ends)
    busy = np.bincount(ends.node, minlength=len(nodes))
    return room.as_cluster(cluster), requests.take(at), ends, busy


def on(nodes, *held):
    """(cluster, requests, ends, busy) with (node, GPUs) held."""
    cluster = make_cluster(nodes)
    requests = make_requests(
        [{"gpus": g, "cpu": 500, "memory": 64, "key": 500 + i}
         for i, (_, g) in enumerate(held)]
    )  # fmt: skip
    gpus = [[g * (m == int(cluster.gpus_total[n].argmax())) for m in range(3)]
            for n, g in held]  # fmt: skip
    full = placement_ends(requests, np.arange(0), (), np.zeros(len(held)), cluster)
    rows = len(held)
    ends = type(full)(
        node=np.array([n for n, _ in held], dtype=np.int64),
        gpus=np.array(gpus, dtype=np.int64).reshape(rows, 3),
        cpu_milli=np.full(rows, 500),
        memory_mib=np.full(rows, 64),
        end_us=np.zeros(rows, dtype=np.int64),
        share_model=np.full(rows, -1),
        share_slot=np.full(rows, -1),
        share_milli=np.zeros(rows, dtype=np.int64),
    )
    room = FreeRoom(cluster)
    room.take(ends)
    busy = np.bincount(ends.node, minlength=len(nodes))
    return room.as_cluster(cluster), requests, ends, busy


EIGHT = (32000, 65536, (8, 0, 0))


def test_one_move_lets_a_large_one_start():
    cluster, movable, held, busy = on([EIGHT] * 2, (0, 1), (1, 2))
    waiting = make_requests([{"gpus": 8, "key": 7, "group": 12}])
    gain = advise(cluster, movable, held, waiting, busy)[0]
    assert [(m.key, m.source, m.target) for m in gain.moves] == [(500, 0, 1)]
    assert (gain.node, gain.starts) == (0, (7, 12))


def test_a_node_is_emptied_when_nobody_waits():
    cluster, movable, held, busy = on([EIGHT] * 3, (0, 4), (1, 1))
    (gain,) = advise(cluster, movable, held, make_requests([]), busy)
    assert [(m.source, m.target) for m in gain.moves] == [(1, 0)]
    assert (gain.node, gain.gpus, gain.starts) == (1, (8, 0, 0), None)


def test_nothing_is_gained_without_room_elsewhere():
    cluster, movable, held, busy = on([EIGHT] * 2, (0, 5), (1, 5))
    assert advise(cluster, movable, held, make_requests([{"gpus": 8}]), busy) == ()


def test_what_may_not_move_stays():
    cluster, movable, held, busy = on([EIGHT] * 2, (0, 1), (1, 2))
    none = np.zeros(0, dtype=np.int64)
    waiting = make_requests([{"gpus": 8}])
    found = advise(cluster, movable.take(none), held.take(none), waiting, busy)
    assert found == ()


NODE = st.sampled_from([EIGHT, (16000, 32768, (4, 0, 0)), (16000, 32768, (0, 4, 0))])
RUN = st.fixed_dictionaries(
    {"gpus": st.sampled_from([1, 2, 3]), "cpu": st.just(500), "memory": st.just(64)}
)
WAIT = st.fixed_dictionaries(
    {"gpus": st.sampled_from([4, 6, 8]), "cpu": st.just(500), "memory": st.just(64)}
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(NODE, min_size=2, max_size=5),
    st.lists(RUN, max_size=12),
    st.lists(WAIT, max_size=3),
)
def test_advice_can_be_followed_step_by_step(nodes, runs, waits):
    cluster, movable, held, busy = running(nodes, runs)
    queue = make_requests(waits)
    plan = place(queue, cluster, FIRST)
    waiting = queue.take(
        np.array([i for i, k in enumerate(queue.key) if k in plan.waiting], dtype=int)
    )
    gains = advise(cluster, movable, held, waiting, busy)
    books = LoopBooks(cluster)
    left = busy.copy()
    row_of = {int(key): row for row, key in enumerate(movable.key.tolist())}
    assert sum(len(gain.moves) for gain in gains) <= MOVES_MAX
    for gain in gains:
        for move in gain.moves:
            row = row_of[move.key]
            assert held.node[row] == move.source
            assert books.reason(movable, row, move.target) == ""
            _take(books, movable, row, move.target, 1)
            for model in range(3):
                books.free[move.source][model] += int(held.gpus[row, model])
            _take(books, movable, row, move.source, 0)
            left[move.source] -= 1
            left[move.target] += 1
        if gain.starts is None:
            assert left[gain.node] == 0
            continue
        row = waiting.key.tolist().index(gain.starts[0])
        assert books.reason(waiting, row, gain.node) == ""
        _take(books, waiting, row, gain.node, 1)
        left[gain.node] += 1
    assert not books.broken()


def _take(books, requests, row, node, sign):
    """Book CPUs and memory (and GPUs of the fullest model), or give them back."""
    cpu, memory = books.needs(requests, row, node)
    way = 1 if sign else -1
    books.cpu[node] -= way * cpu
    books.memory[node] -= way * memory
    if sign:
        count = int(requests.gpu_count[row])
        books.free[node][int(np.argmax(books.free[node]))] -= count
