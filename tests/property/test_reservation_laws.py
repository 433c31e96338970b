"""Reservations on random small clusters: nobody of lower rank delays them."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import (
    Ends,
    FreeRoom,
    ask_of_class,
    placement_ends,
)
from dorabatch.placer.arrays.types import SHARE, UNKNOWN_US, Placement, Reservation
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.time.promise import (
    Promise,
    amounts_of,
    class_fits,
    fits_beside,
)
from dorabatch.placer.time.reserved import Times, place_reserved
from tests.oracles.placer_cases import MODELS, make_cluster, make_requests
from tests.oracles.placer_loop import LoopBooks, violations
from tests.oracles.reserve_loop import broken_reservations

NODE = st.sampled_from(
    [
        (8000, 8192, (4, 0, 0)),
        (8000, 8192, (0, 2, 0)),
        (16000, 16384, (8, 0, 0)),
        (4000, 4096, (2, 2, 0)),
    ]
)
END = st.sampled_from([100, 200, 300, 400, UNKNOWN_US])
RUNNING = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 4]), END), max_size=10
)
ROW = st.tuples(
    st.fixed_dictionaries(
        {
            "gpus": st.sampled_from([0, 1, 1, 2, 4, 8]),
            "cpu": st.sampled_from([500, 1000, 2000]),
            "memory": st.sampled_from([256, 1024]),
            "accepts": st.sampled_from([MODELS, ("V100",), ("T4", "V100")]),
        }
    ),
    END,
)
QUEUE = st.lists(ROW, min_size=1, max_size=14)


def with_running(nodes, running):
    """A cluster on which some of `running` (node, GPUs, end) fits, and the ends."""
    cluster = make_cluster(nodes)
    rows = []
    for at, gpus, end in running:
        node = at % len(nodes)
        free = cluster.gpus_free[node]
        model = int(free.argmax())
        if free[model] < gpus or cluster.cpu_free_milli[node] < 500:
            continue
        cluster.gpus_free[node, model] -= gpus
        cluster.cpu_free_milli[node] -= 500
        cluster.memory_free_mib[node] -= 128
        rows.append((node, [gpus * (m == model) for m in range(3)], end))
    return cluster, ends_of(rows)


def ends_of(rows):
    count = len(rows)
    return Ends(
        node=np.array([r[0] for r in rows], dtype=np.int64),
        gpus=np.array([r[1] for r in rows], dtype=np.int64).reshape(count, 3),
        cpu_milli=np.full(count, 500),
        memory_mib=np.full(count, 128),
        end_us=np.array([r[2] for r in rows], dtype=np.int64),
        share_model=np.full(count, -1),
        share_slot=np.full(count, -1),
        share_milli=np.zeros(count, dtype=np.int64),
    )


def times_of(queue, ends, kept=()):
    planned = np.array([end for _, end in queue], dtype=np.int64)
    return Times(now_us=0, ends=ends, planned_end_us=planned, kept=kept)


@settings(max_examples=250, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=4), RUNNING, QUEUE, st.integers(0, 4))
def test_nobody_of_lower_rank_delays_a_reservation(nodes, running, queue, depth):
    cluster, ends = with_running(nodes, running)
    requests = make_requests([row for row, _ in queue])
    times = times_of(queue, ends)
    policy = PlacementPolicy(reservations=depth)
    plan = place_reserved(requests, cluster, times, policy)
    planned = dict(
        zip(requests.key.tolist(), times.planned_end_us.tolist(), strict=True)
    )
    assert broken_reservations(requests, cluster, plan, ends, planned) == []
    assert len(plan.reservations) <= depth
    assert place_reserved(requests, cluster, times, policy) == plan
    promises = [line for line in violations(requests, cluster, plan)
                if "waits behind lower rank" not in line]  # fmt: skip
    assert promises == []


@settings(max_examples=250, deadline=None)
@given(
    st.lists(NODE, min_size=1, max_size=4),
    RUNNING,
    QUEUE,
    ROW,
    st.integers(2, 4),
    st.integers(1, 3),
)
def test_nobody_of_lower_rank_delays_a_gang(nodes, running, queue, row, size, depth):
    cluster, ends = with_running(nodes, running)
    gang = [({**row[0], "gang": 1, "group": 9}, row[1])] * size
    queue = queue[:2] + gang + queue[2:]
    requests = make_requests([row for row, _ in queue])
    times, policy = times_of(queue, ends), PlacementPolicy(reservations=depth)
    plan = place_reserved(requests, cluster, times, policy)
    planned = dict(
        zip(requests.key.tolist(), times.planned_end_us.tolist(), strict=True)
    )
    assert broken_reservations(requests, cluster, plan, ends, planned) == []
    promises = [line for line in violations(requests, cluster, plan)
                if "waits behind lower rank" not in line]  # fmt: skip
    assert promises == []
    of_gang = [one for one in plan.reservations if one.group == 9]
    assert len(of_gang) in (0, size)
    assert len({one.start_us for one in of_gang}) <= 1
    again = times_of(queue, ends, plan.reservations)
    if not plan.placements:
        kept = place_reserved(requests, cluster, again, policy).reservations
        assert kept == plan.reservations


def test_a_gang_in_the_way_of_a_reservation_is_planned_anew_as_a_whole():
    nodes = [(8000, 8192, (4, 0, 0)), (16000, 16384, (8, 0, 0))]
    cluster, ends = with_running(nodes, [(0, 1, 100), (1, 1, 100)])
    member = {"gpus": 1, "gang": 1, "group": 9, "cpu": 500, "memory": 256}
    queue = [({"gpus": 8, "cpu": 500, "memory": 256}, 100)] + [(member, 200)] * 4
    requests = make_requests([row for row, _ in queue])
    policy = PlacementPolicy(reservations=2)
    plan = place_reserved(requests, cluster, times_of(queue, ends), policy)
    assert len(plan.placements) in (0, 4)
    waits = [one.key for one in plan.reservations]
    assert not set(waits) & {p.key for p in plan.placements}


def _two_nodes_for_a_gang(end):
    """Two GPUs of the first node are free, the second is full until 200."""
    nodes = [(8000, 8192, (4, 0, 0))] * 2
    running = [(0, 2, 100)] + [(1, 2, 200)] * 2
    cluster, ends = with_running(nodes, running)
    member = {"gpus": 4, "gang": 1, "group": 5}
    queue = [(member, UNKNOWN_US)] * 2 + [({"gpus": 2}, end)]
    requests = make_requests([row for row, _ in queue])
    return place_reserved(requests, cluster, times_of(queue, ends))


def test_a_gang_has_a_node_kept_for_each_member_until_the_last_has_room():
    plan = _two_nodes_for_a_gang(UNKNOWN_US)
    assert [(one.node, one.start_us) for one in plan.reservations] == [
        (0, 200),
        (1, 200),
    ]
    assert plan.placements == ()


def test_what_ends_before_a_gang_begins_may_run_on_its_nodes():
    plan = _two_nodes_for_a_gang(150)
    assert [p.node for p in plan.placements] == [0]
    assert {one.start_us for one in plan.reservations} == {200}


def test_a_gang_larger_than_the_zone_keeps_nothing():
    cluster, ends = with_running([(8000, 8192, (4, 0, 0))], [(0, 2, 100)])
    member = {"gpus": 4, "gang": 1, "group": 5}
    queue = [(member, UNKNOWN_US)] * 2 + [({"gpus": 2}, UNKNOWN_US)]
    requests = make_requests([row for row, _ in queue])
    plan = place_reserved(requests, cluster, times_of(queue, ends))
    assert [one.key for one in plan.reservations] == []
    assert [p.key for p in plan.placements] == [102]


@settings(max_examples=100, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=4), RUNNING, QUEUE)
def test_the_first_that_waits_has_the_reservation(nodes, running, queue):
    cluster, ends = with_running(nodes, running)
    requests = make_requests([row for row, _ in queue])
    plan = place_reserved(requests, cluster, times_of(queue, ends))
    able = [
        key
        for key in requests.key.tolist()
        if key in plan.waiting and not plan.explanations[plan.waiting[key]].never
    ]
    assert [one.key for one in plan.reservations] == able[:1]


@settings(max_examples=100, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=4), RUNNING, QUEUE, st.integers(1, 3))
def test_an_unchanged_queue_keeps_its_reservations(nodes, running, queue, depth):
    cluster, ends = with_running(nodes, running)
    requests = make_requests([row for row, _ in queue])
    policy = PlacementPolicy(reservations=depth)
    first = place_reserved(requests, cluster, times_of(queue, ends), policy)
    if first.placements:
        return
    again = place_reserved(
        requests, cluster, times_of(queue, ends, first.reservations), policy
    )
    assert again.reservations == first.reservations


@settings(max_examples=60, deadline=None)
@given(st.lists(NODE, min_size=1, max_size=4), RUNNING, QUEUE)
def test_without_reservations_it_is_place(nodes, running, queue):
    cluster, ends = with_running(nodes, running)
    requests = make_requests([row for row, _ in queue])
    policy = PlacementPolicy(reservations=0)
    plan = place_reserved(requests, cluster, times_of(queue, ends), policy)
    assert plan == place(requests, cluster, policy)


def _one_gpu_short():
    """Four GPUs, three taken until 100; the first waits for all of them."""
    cluster, ends = with_running([(8000, 8192, (4, 0, 0))], [(0, 1, 100)] * 3)
    queue = [({"gpus": 4}, UNKNOWN_US), ({"gpus": 1}, UNKNOWN_US)]
    return cluster, ends, queue, make_requests([row for row, _ in queue])


def test_the_checker_rejects_a_delay():
    cluster, ends, queue, requests = _one_gpu_short()
    plan = place_reserved(requests, cluster, times_of(queue, ends))
    planned = {100: UNKNOWN_US, 101: UNKNOWN_US}
    assert plan.placements == ()
    assert broken_reservations(requests, cluster, plan, ends, planned) == []
    taken = replace(plan, placements=(Placement(key=101, node=0, gpus=(1, 0, 0)),))
    found = broken_reservations(requests, cluster, taken, ends, planned)
    assert any("delayed from 100" in line for line in found)


def test_the_checker_rejects_a_late_start():
    cluster, ends, queue, requests = _one_gpu_short()
    plan = place_reserved(requests, cluster, times_of(queue, ends))
    late = Reservation(key=100, group=-1, node=0, start_us=500)
    found = broken_reservations(
        requests, cluster, replace(plan, reservations=(late,)), ends, {101: 1}
    )
    assert any("could be 100" in line for line in found)


def test_a_share_is_promised_the_moment_enough_of_one_gpu_is_free():
    cluster = make_cluster([(8000, 8192, (1, 0, 0))] * 2)
    cluster.gpus_free[:] = 0
    cluster.gpu_rest_milli[:, 0, 0] = (200, 300)
    shares = [(0, 500, 300), (0, 300, 100), (1, 700, 200)]
    ends = ends_of([(node, [0, 0, 0], end) for node, _, end in shares])
    ends = replace(
        ends,
        share_model=np.zeros(3, dtype=np.int64),
        share_slot=np.zeros(3, dtype=np.int64),
        share_milli=np.array([milli for _, milli, _ in shares]),
    )
    for milli, node, start in ((400, 0, 100), (600, 1, 200), (999, 1, 200)):
        requests = make_requests([{"milli": milli, "cpu": 500, "memory": 64}])
        plan = place_reserved(requests, cluster, times_of([(0, UNKNOWN_US)], ends))
        (one,) = plan.reservations
        assert (one.node, one.start_us) == (node, start)
    whole = make_requests([{"cpu": 500, "memory": 64}])
    plan = place_reserved(whole, cluster, times_of([(0, UNKNOWN_US)], ends))
    assert (plan.reservations[0].node, plan.reservations[0].start_us) == (1, 200)


PART = st.sampled_from([100, 300, 500, 700])
SHARES = st.lists(st.tuples(PART, st.integers(0, 1), END), min_size=1, max_size=10)


@settings(max_examples=100, deadline=None)
@given(SHARES, SHARES, st.integers(0, 3))
def test_shares_never_add_up_to_more_than_a_gpu(running, waiting, wholes):
    cluster = make_cluster([(64000, 65536, (2, 0, 0)), (64000, 65536, (0, 1, 0))])
    first = make_requests(
        [{"milli": m, "cpu": 100, "memory": 16, "key": at}
         for at, (m, _, _) in enumerate(running)]
    )  # fmt: skip
    before = place(first, cluster)
    rows = np.array([p.key for p in before.placements], dtype=np.int64)
    late = np.array([end for _, _, end in running], dtype=np.int64)
    held = placement_ends(first, rows, tuple(before.placements), late, cluster)
    room = FreeRoom(cluster, 8)
    room.take(held)
    now = room.as_cluster(cluster)
    rows = [{"milli": m, "cpu": 100, "memory": 16} for m, _, _ in waiting]
    rows += [{"gpus": 2, "cpu": 100, "memory": 16}] * wholes
    requests = make_requests(rows)
    ends = [(0, end) for _, _, end in waiting] + [(0, UNKNOWN_US)] * wholes
    plan = place_reserved(requests, now, times_of(ends, held))
    books, row_of = LoopBooks(now), {100 + at: at for at in range(len(rows))}
    for placement in plan.placements:
        books.take(requests, row_of[placement.key], placement)
        assert not books.broken()
    for one in plan.reservations:
        assert one.key in plan.waiting
        assert one.start_us > 0


BESIDE = st.lists(st.integers(-2, 5), min_size=3, max_size=3)
SLICED = st.fixed_dictionaries(
    {
        "gpus": st.sampled_from([0, 1, 2, 4]),
        "cpu": st.sampled_from([SHARE, 0, 500, 2000]),
        "memory": st.sampled_from([SHARE, 0, 256, 1024]),
        "accepts": st.sampled_from([MODELS, ("V100",), ("T4", "V100")]),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(NODE, min_size=1, max_size=3),
    st.lists(SLICED, min_size=1, max_size=9),
    BESIDE,
    st.sampled_from([-1, 0, 700, 4000]),
    st.sampled_from([-1, 0, 600, 4096]),
)
def test_all_classes_at_once_fit_beside_a_promise_as_each_does(
    nodes, rows, gpus, cpu, memory
):
    cluster = make_cluster(nodes)
    classes = classes_of(make_requests(rows))
    beside = np.array([*gpus, cpu, memory])
    node = len(nodes) - 1
    kept = Reservation(key=1, group=1, node=node, start_us=0)
    promise = Promise(row=0, reservation=kept, taken=beside, beside=beside)
    one_by_one = []
    for index in range(len(classes)):
        ask = ask_of_class(classes, index, cluster)
        taken = amounts_of(ask, node, np.maximum(beside, 0))
        one_by_one.append(fits_beside(taken, beside))
    assert class_fits(classes, promise, cluster).tolist() == one_by_one
