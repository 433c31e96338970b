"""What is known from the cycle before changes no plan, and spares the search."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.placer.arrays.free_room import FreeRoom, placement_ends
from dorabatch.placer.plan import no_room as module
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from tests.oracles.placer_cases import MODELS, make_cluster, make_requests
from tests.oracles.placer_loop import violations

FIRST = PlacementPolicy(name="first-fit", reservations=0)
NODE = st.sampled_from([(8000, 8192, (4, 0, 0)), (8000, 8192, (0, 2, 0))])
ROW = st.fixed_dictionaries(
    {
        "gpus": st.sampled_from([0, 1, 1, 2, 4]),
        "cpu": st.sampled_from([500, 2000, 4000]),
        "memory": st.sampled_from([256, 4096]),
        "accepts": st.sampled_from([MODELS, ("V100",), ("T4",)]),
    }
)
QUEUE = st.lists(ROW, min_size=1, max_size=14)


def after(cluster, requests, plan, dropped=()):
    """The cluster with the plan's placements, but for the dropped ones."""
    kept = tuple(p for p in plan.placements if p.key not in dropped)
    rows = np.array([requests.key.tolist().index(p.key) for p in kept], dtype=np.int64)
    late = np.zeros(len(requests), dtype=np.int64)
    room = FreeRoom(cluster, 8)
    room.take(placement_ends(requests, rows, kept, late, cluster))
    return room.as_cluster(cluster)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(NODE, min_size=1, max_size=25),
    QUEUE,
    QUEUE,
    st.sets(st.integers(100, 103)),
    st.integers(0, 24),
)
def test_a_second_cycle_plans_as_if_it_knew_nothing(nodes, queue, more, ended, down):
    cluster, memory = make_cluster(nodes), NoRoomMemory()
    requests = make_requests(queue)
    first = memory.place(requests, cluster, FIRST, None)
    assert first == place(requests, cluster, FIRST)
    later = after(cluster, requests, first, ended)
    ready = later.ready.copy()
    ready[down % len(nodes)] = False
    later = replace(later, ready=ready)
    waiting = [row for at, row in enumerate(queue) if 100 + at in first.waiting]
    again = make_requests(waiting + more)
    told = memory.place(again, later, FIRST, None)
    plain = place(again, later, FIRST)
    assert told.placements == plain.placements
    assert told.waiting.keys() == plain.waiting.keys()
    third = memory.place(again, after(later, again, told), FIRST, None)
    assert violations(again, after(later, again, told), third) == []


def tried(memory, requests, cluster):
    """(plan, how many requests were looked at)."""
    seen = []

    def watched(rows, *words):
        seen.append(len(rows))
        return place(rows, *words)

    with patch.object(module, "place", watched):
        plan = memory.place(requests, cluster, PlacementPolicy(), None)
    return plan, sum(seen)


def sentences(plan):
    """What each waiting request is told."""
    return {key: plan.explanations[why].sentence for key, why in plan.waiting.items()}


def full():
    """Two full nodes and three that wait."""
    cluster = make_cluster([(8000, 8192, (4, 0, 0))] * 20)
    cluster.gpus_free[:] = 0
    return cluster, make_requests([{"gpus": 1}, {"gpus": 2}, {"gpus": 9}])


def test_an_unchanged_queue_is_not_searched_again():
    (cluster, requests), memory = full(), NoRoomMemory()
    first, looked = tried(memory, requests, cluster)
    assert looked == 3
    again, looked = tried(memory, requests, cluster)
    assert looked == 0
    assert again.waiting.keys() == first.waiting.keys()
    assert sentences(again) == sentences(first)


def test_what_came_free_is_tried_by_those_it_is_enough_for():
    (cluster, requests), memory = full(), NoRoomMemory()
    tried(memory, requests, cluster)
    gpus = cluster.gpus_free.copy()
    gpus[3, 0] = 1
    plan, looked = tried(memory, requests, replace(cluster, gpus_free=gpus))
    assert looked == 1
    assert [p.key for p in plan.placements] == [100]


def test_a_node_that_comes_back_is_tried():
    (cluster, requests), memory = full(), NoRoomMemory()
    cluster.gpus_free[5, 0] = 2
    away = cluster.ready.copy()
    away[5] = False
    tried(memory, requests, replace(cluster, ready=away))
    plan, looked = tried(memory, requests, cluster)
    assert looked == 2
    assert [p.key for p in plan.placements] == [100]


def test_other_nodes_make_everything_new():
    (cluster, requests), memory = full(), NoRoomMemory()
    tried(memory, requests, cluster)
    renamed = replace(cluster, names=tuple(f"m{i}" for i in range(20)))
    assert tried(memory, requests, renamed)[1] == 3


def test_what_was_left_for_the_next_cycle_is_tried_then():
    (cluster, requests), memory = full(), NoRoomMemory()
    few = PlacementPolicy(requests_max=1)
    plan = memory.place(requests, cluster, few, None)
    assert plan.left == (101, 102)
    assert tried(memory, requests, cluster)[1] == 2
