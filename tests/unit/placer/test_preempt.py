"""Victims: enough of them, none too many, only what runs free, and on one node."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.placer.arrays.free_room import Ends, FreeRoom, ask_of
from dorabatch.placer.arrays.types import Explanation, Mask, Plan, Reservation
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.preempt import (
    CLAIMANTS_MAX,
    VICTIMS_MAX,
    Running,
    choose_victims,
    keep_off,
)
from tests.oracles.placer_cases import make_cluster, make_requests

NODE = (8000, 8192, (8, 0, 0))


def scene(nodes, rows):
    """(cluster, running) with rows (node, GPUs, **more) held, keys from 1 on."""

    def column(name, default):
        return np.array([row.get(name, default) for row in rows], dtype=np.int64)

    milli = column("milli", 0)
    gpus = np.zeros((len(rows), 3), dtype=np.int64)
    gpus[:, 0] = np.where(milli, 0, column("gpus", 0))
    ends = Ends(
        node=column("node", 0),
        gpus=gpus,
        cpu_milli=column("cpu", 100),
        memory_mib=column("memory", 10),
        end_us=np.zeros(len(rows), dtype=np.int64),
        share_model=np.where(milli, 0, -1),
        share_slot=np.where(milli, column("slot", 0), -1),
        share_milli=milli,
    )
    cluster = make_cluster(nodes)
    room = FreeRoom(cluster, 8)
    room.take(ends)
    started = 1 + np.arange(len(rows))
    running = Running(
        key=1 + np.arange(len(rows)),
        started_us=column("started", 0) + started * (column("started", 0) == 0),
        is_free=column("free", 1).astype(bool),
        is_leaving=column("leaving", 0).astype(bool),
        ends=ends,
    )
    return room.as_cluster(cluster), running


def chosen(cluster, running, *asks, paid=None, reservations=()):
    """Keys of the victims, for requests of these GPUs or columns."""
    rows = [one if isinstance(one, dict) else {"gpus": one, "cpu": 100} for one in asks]
    requests = make_requests(rows)
    plan = replace(place(requests, cluster), reservations=reservations)
    paid = len(requests) if paid is None else paid
    found = choose_victims(requests, paid, cluster, plan, running)
    return [one.key for one in found]


def free(*gpus, **more):
    return [{"gpus": count, **more} for count in gpus]


def test_the_fewest_gpus_then_the_fewest_attempts_then_the_youngest():
    assert chosen(*scene([NODE], free(4, 2, 2)), 2) == [3]
    assert chosen(*scene([NODE], free(5, 1, 2)), 3) == [2, 3]
    assert chosen(*scene([NODE], free(2, 3, 3)), 3) == [3]
    assert chosen(*scene([NODE], free(4, 2, 2)), 4) == [1]
    two = [*free(8, node=0), *free(4, 4, node=1)]
    assert chosen(*scene([NODE, NODE], two), 2) == [3]


def test_what_is_free_or_leaves_already_counts():
    assert chosen(*scene([NODE], free(4, 2)), 4) == [2]
    leaving = [*free(4), *free(4, leaving=1)]
    assert chosen(*scene([NODE], leaving), 4) == []
    assert chosen(*scene([NODE], leaving), 4, 2) == [1]
    assert chosen(*scene([NODE], leaving), 6) == [1]
    assert chosen(*scene([NODE], free(4, 2)), 2) == []


def test_only_what_runs_free_and_only_where_it_helps():
    assert chosen(*scene([NODE], free(4, 4, free=0)), 4) == []
    mixed = [*free(6, free=0), *free(2)]
    assert chosen(*scene([NODE], mixed), 4) == []
    assert chosen(*scene([NODE], mixed), 2) == [2]
    # Not from two nodes together.
    halves = [*free(6, free=0, node=0), *free(2, node=0)]
    halves += [*free(6, free=0, node=1), *free(2, node=1)]
    assert chosen(*scene([NODE, NODE], halves), 4) == []


def test_no_use_where_the_request_may_not_go():
    cluster, running = scene([NODE], free(8))
    assert chosen(replace(cluster, ready=np.array([False])), running, 2) == []
    assert chosen(replace(cluster, enabled=np.array([False])), running, 2) == []
    asked = {"gpus": 2, "cpu": 100, "mask": 1}
    masked = replace(cluster, masks=(Mask(reason="Port", allowed=np.array([False])),))
    assert chosen(masked, running, asked) == []
    assert chosen(cluster, running, {"gpus": 2, "accepts": ("T4",)}) == []
    assert chosen(cluster, running, {"gpus": 9, "cpu": 100}) == []
    assert chosen(cluster, running, {"gpus": 2, "cpu": 100, "gang": 1}) == []


def test_free_requests_never_claim():
    cluster, running = scene([NODE], free(4, 4))
    assert chosen(cluster, running, 4, 4, paid=0) == []
    assert chosen(cluster, running, 4, 4, paid=1) == [2]


def test_cpus_and_memory_are_room_too():
    rows = [{"gpus": 0, "cpu": 5000}, {"gpus": 2, "cpu": 2900}]
    cluster, running = scene([NODE], rows)
    assert chosen(cluster, running, {"gpus": 0, "cpu": 3000}) == [1]
    assert chosen(cluster, running, {"gpus": 7, "cpu": 4000}) == [1, 2]
    rows = [{"gpus": 1, "memory": 8000}, {"gpus": 1}]
    assert chosen(*scene([NODE], rows), {"gpus": 1, "cpu": 0, "memory": 4096}) == [1]


def test_a_gpu_is_whole_again_with_its_last_share():
    one = (8000, 8192, (1, 0, 0))
    shares = [{"milli": 300}, {"milli": 500}]
    assert chosen(*scene([one], shares), 1) == [1, 2]
    assert chosen(*scene([one], shares), {"milli": 400, "cpu": 100}) == [1]
    assert chosen(*scene([one], shares), {"milli": 600, "cpu": 100}) == [2]
    shares[0]["free"] = 0
    assert chosen(*scene([one], shares), 1) == []


def test_a_node_kept_for_somebody_else_is_not_emptied():
    # The first needs all of n1, which paid work holds: it waits for that.
    cluster, running = scene([NODE], [*free(4, free=0), *free(4)])
    kept = (Reservation(key=100, group=-1, node=0, start_us=9),)
    assert chosen(cluster, running, 8, 2, reservations=kept) == []
    assert chosen(cluster, running, 8, 2) == [2]


def test_a_cycle_stops_no_more_than_its_bounds():
    nodes = [NODE] * 40
    rows = [{"gpus": 4, "node": n} for n in range(40) for _ in range(2)]
    assert len(chosen(*scene(nodes, rows), *[8] * 40)) == min(
        VICTIMS_MAX, 2 * CLAIMANTS_MAX
    )
    # One that needs more than the bound on one node gets it, alone.
    wide = (100_000, 8192, (8, 0, 0))
    many = [{"gpus": 0, "cpu": 1000, "node": n} for n in range(2) for _ in range(100)]
    asked = {"gpus": 0, "cpu": 50_000}
    assert len(chosen(*scene([wide, wide], many), asked, asked)) == 50


def test_equal_hopeless_ones_do_not_hide_those_behind():
    cluster, running = scene([NODE], [*free(4, free=0), *free(4)])
    asks = [8] * (2 * CLAIMANTS_MAX) + [4]
    assert chosen(cluster, running, *asks) == [2]


def test_what_never_fits_is_not_asked_for():
    cluster, running = scene([NODE], free(4, 4))
    requests = make_requests([{"gpus": 4}])
    never = Explanation(reason="x", counts={}, sentence="x", never=True)
    plan = Plan(placements=(), waiting={100: 0}, explanations=(never,))
    assert choose_victims(requests, 1, cluster, plan, running) == ()


def test_kept_off_as_if_reserved():
    own = Mask(reason="Port", allowed=np.array([True, False, True]))
    cluster = make_cluster([NODE] * 3, masks=(own,))
    requests = make_requests([{}, {}, {"mask": 1}])
    kept, after = keep_off(requests, cluster, 1, np.array([0]))
    assert kept.mask[0] == 0
    allowed = [ask_of(kept, row, after).allowed.tolist() for row in range(3)]
    assert allowed == [[True] * 3, [False, True, True], [False, False, True]]
    full = replace(after, gpus_free=after.gpus_free * np.array([[1], [0], [0]]))
    plan = place(kept, full)
    assert [one.key for one in plan.placements] == [100]
    assert plan.explanations[plan.waiting[101]].reason == "Reserved"
    assert not plan.explanations[plan.waiting[102]].never


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    held=st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(0, 4), st.integers(1, 20), st.booleans()
        ),
        max_size=8,
    ),
    gpus=st.integers(0, 8),
    cpu=st.integers(1, 80),
)
def test_always_enough_and_none_too_many(held, gpus, cpu):
    rows, used = [], np.zeros((2, 2), dtype=int)
    for node, count, cpus, is_free in held:
        if used[node, 0] + count <= 8 and used[node, 1] + cpus <= 80:
            used[node] += count, cpus
            rows.append(
                {"node": node, "gpus": count, "cpu": 100 * cpus, "free": int(is_free)}
            )
    cluster, running = scene([NODE, NODE], rows)
    ask = {"gpus": gpus, "cpu": 100 * cpu, "memory": 10}
    needs = ask_of(make_requests([ask]), 0, cluster)

    def has_room(keys):
        room = FreeRoom(cluster, 8)
        room.give(running.ends.take(np.isin(running.key, keys)))
        return bool(room.fits(needs).any())

    found = chosen(cluster, running, ask)
    able = running.key[running.is_free].tolist()
    if has_room([]) or not has_room(able):
        assert found == []
        return
    assert set(found) <= set(able)
    assert len({int(running.ends.node[key - 1]) for key in found}) == 1
    assert has_room(found)
    assert not any(has_room([k for k in found if k != one]) for one in found)
    best = min(
        sum(rows[key - 1]["gpus"] for key in some)
        for size in range(len(able) + 1)
        for some in combinations(able, size)
        if has_room(list(some))
    )
    lost = sum(rows[key - 1]["gpus"] for key in found)
    assert lost == best
