"""The placer's promises on random small clusters and queues."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.placer.arrays.types import SHARE, Mask, Placement
from dorabatch.placer.explain.node_verdicts import node_verdicts
from dorabatch.placer.plan import rank_order
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from tests.oracles.placer_cases import MODELS, make_cluster, make_requests
from tests.oracles.placer_loop import LoopBooks, first_fit, violations

NODE = st.tuples(
    st.sampled_from([0, 4000, 8000, 16000]),
    st.sampled_from([2048, 8192, 16384]),
    st.sampled_from([(0, 0, 0), (4, 0, 0), (0, 2, 0), (0, 0, 8), (2, 2, 0)]),
)
SHAPE = st.fixed_dictionaries(
    {
        "gpus": st.sampled_from([1, 1, 2, 4]),
        "cpu": st.sampled_from([SHARE, 500, 1000, 4000]),
        "memory": st.sampled_from([SHARE, 512, 4096]),
        "accepts": st.sampled_from([MODELS, ("V100",), ("T4", "V100"), ()]),
        "affinity": st.integers(0, 4),
        "mask": st.integers(0, 1),
        "group": st.integers(0, 3),
    }
)
CPU_ONLY = SHAPE.map(lambda r: {**r, "gpus": 0, "cpu": max(r["cpu"], 500)})
PART = st.tuples(SHAPE, st.sampled_from([300, 500, 810])).map(
    lambda pair: {**pair[0], "gpus": 1, "milli": pair[1]}
)
GANG = SHAPE.map(lambda r: {**r, "gang": True, "group": r["group"] + 10})
QUEUE = st.lists(st.one_of(SHAPE, CPU_ONLY, PART, GANG), max_size=25)
LONG_QUEUE = st.lists(st.one_of(SHAPE, CPU_ONLY, PART, GANG), max_size=60)
WHOLE_QUEUE = st.lists(st.one_of(SHAPE, CPU_ONLY), max_size=25)
CLUSTER = st.lists(NODE, min_size=1, max_size=6)
POLICY = st.builds(
    PlacementPolicy,
    name=st.sampled_from(["default", "first-fit", "best-fit", "random"]),
)


def _ground(nodes, seed=0):
    stream = np.random.default_rng(seed)
    allowed = stream.random(len(nodes)) < 0.7
    cluster = make_cluster(nodes, masks=(Mask(reason="NodeList", allowed=allowed),))
    good = stream.random((4, len(nodes))) < 0.9
    return replace(
        cluster,
        ready=good[0],
        enabled=good[1],
        allows_gpu=good[2],
        allows_cpu=good[3],
    )


@settings(max_examples=150, deadline=None)
@given(CLUSTER, QUEUE, POLICY, st.integers(0, 50))
def test_plan_keeps_every_promise(nodes, queue, policy, seed):
    cluster, requests = _ground(nodes, seed), make_requests(queue)
    plan = place(requests, cluster, policy)
    assert violations(requests, cluster, plan) == []
    assert place(requests, cluster, policy) == plan


@settings(max_examples=100, deadline=None)
@given(CLUSTER, LONG_QUEUE, st.integers(0, 50))
def test_joint_placement_keeps_every_promise(nodes, queue, seed):
    cluster, requests = _ground(nodes, seed), make_requests(queue)
    with patch.object(rank_order, "JOINT_MIN", 2):
        plan = place(requests, cluster)
        assert place(requests, cluster) == plan
    assert violations(requests, cluster, plan) == []


@settings(max_examples=100, deadline=None)
@given(CLUSTER, QUEUE, LONG_QUEUE)
def test_joint_placement_beside_what_runs_keeps_every_promise(nodes, before, queue):
    empty, running = _ground(nodes), make_requests(before)
    used = _used(empty, running, place(running, empty))
    requests = make_requests(queue)
    with patch.object(rank_order, "JOINT_MIN", 2):
        plan = place(requests, used)
    assert violations(requests, used, plan) == []


def _used(cluster, requests, plan):
    """The cluster with a plan's placements running on it."""
    books = LoopBooks(cluster)
    rows = {int(key): row for row, key in enumerate(requests.key)}
    for placement in plan.placements:
        books.take(requests, rows[placement.key], placement)
    return replace(
        cluster,
        gpus_free=np.array(books.free).reshape(cluster.gpus_free.shape),
        gpu_rest_milli=np.array(books.rest).reshape(cluster.gpu_rest_milli.shape),
        cpu_free_milli=np.array(books.cpu),
        memory_free_mib=np.array(books.memory),
    )


@settings(max_examples=100, deadline=None)
@given(CLUSTER, WHOLE_QUEUE, st.integers(0, 50))
def test_first_fit_equals_plain_loops(nodes, queue, seed):
    # One model per node: mixed nodes are covered by the promises above.
    nodes = [n for n in nodes if n[2] != (2, 2, 0)] or [(4000, 2048, (4, 0, 0))]
    queue = [{**row, "affinity": 0} for row in queue]
    cluster, requests = _ground(nodes, seed), make_requests(queue)
    plan = place(requests, cluster, PlacementPolicy(name="first-fit"))
    assert {p.key: p.node for p in plan.placements} == first_fit(requests, cluster)


@settings(max_examples=80, deadline=None)
@given(CLUSTER, QUEUE, st.integers(0, 50))
def test_reasons_equal_plain_loops(nodes, queue, seed):
    cluster, requests = _ground(nodes, seed), make_requests(queue)
    books = LoopBooks(cluster)
    for row in range(len(requests)):
        told = node_verdicts(requests.take(np.array([row])), cluster)
        known = [books.reason(requests, row, n) for n in range(len(cluster))]
        assert [one.reason for one in told] == known


@settings(max_examples=50, deadline=None)
@given(WHOLE_QUEUE, st.permutations(range(4)))
def test_order_of_equal_nodes_does_not_matter(queue, order):
    cluster = make_cluster([(16000, 16384, (4, 0, 0))] * 4)
    shuffled = replace(cluster, names=tuple(cluster.names[i] for i in order))
    requests = make_requests([{**row, "mask": 0} for row in queue])
    ours, theirs = place(requests, cluster), place(requests, shuffled)
    assert [p.key for p in ours.placements] == [p.key for p in theirs.placements]


def _bad(change):
    cluster = make_cluster([(4000, 4096, (1, 0, 0)), (4000, 4096, (0, 2, 0))])
    requests = make_requests([{"accepts": ("V100",)}, {"accepts": ("V100",)}])
    good = place(requests, cluster)
    assert violations(requests, cluster, good) == []
    return violations(requests, cluster, change(good))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda p: replace(
                p,
                placements=(*p.placements, Placement(key=101, node=0, gpus=(1, 0, 0))),
            ),
            "over capacity",
        ),
        (
            lambda p: replace(
                p, placements=(Placement(key=100, node=1, gpus=(0, 1, 0)),)
            ),
            "not accepted",
        ),
        (
            lambda p: replace(
                p, placements=(Placement(key=100, node=0, gpus=(0, 0, 0)),)
            ),
            "wrong number",
        ),
        (lambda p: replace(p, waiting={}), "neither placed nor explained"),
        (
            lambda p: replace(
                p,
                placements=(Placement(key=101, node=0, gpus=(1, 0, 0)),),
                waiting={100: 0},
            ),
            "waits behind lower rank",
        ),
    ],
)
def test_checker_rejects_bad_plans(change, word):
    assert any(word in line for line in _bad(change))


def test_checker_rejects_half_a_gang():
    cluster = make_cluster([(4000, 4096, (1, 0, 0))])
    requests = make_requests([{"gang": 1, "group": 7}, {"gang": 1, "group": 7}])
    plan = place(requests, cluster)
    assert plan.placements == ()
    half = replace(
        plan,
        placements=(Placement(key=100, node=0, gpus=(1, 0, 0)),),
        waiting={101: 0},
    )
    assert "gang 7 is placed in part" in violations(requests, cluster, half)
