"""place(), can_ever_run() and the sentences users read, on small cases."""

import numpy as np
import pytest

from dorabatch.errors import ConfigError, Refused
from dorabatch.placer.arrays import SHARE, USED_UP, Affinity, Mask
from dorabatch.placer.choose import draw_for
from dorabatch.placer.fluid import fluid_plan
from dorabatch.placer.memo import PlanMemo
from dorabatch.placer.pack import place
from dorabatch.placer.policy import PlacementPolicy
from dorabatch.placer.verdict import can_ever_run
from tests.oracles.placer_cases import make_cluster, make_requests

V100S = [(16000, 16384, (4, 0, 0))] * 3


def _nodes(plan):
    return {p.key: p.node for p in plan.placements}


def _waits(plan, key):
    return plan.explanations[plan.waiting[key]]


def test_distribute_uses_a_node_without_sibling_first():
    rows = [{"group": 1, "affinity": Affinity.DISTRIBUTE}] * 4
    plan = place(make_requests(rows), make_cluster(V100S))
    nodes = list(_nodes(plan).values())
    assert sorted(nodes[:3]) == [0, 1, 2]
    assert len(nodes) == 4


def test_fill_stays_with_its_siblings():
    rows = [{"group": 1, "affinity": Affinity.FILL}] * 4
    plan = place(make_requests(rows), make_cluster(V100S))
    assert len(set(_nodes(plan).values())) == 1


def test_first_takes_the_stated_order():
    rows = [{"affinity": Affinity.FIRST, "gpus": 3}, {"affinity": Affinity.FIRST}]
    plan = place(make_requests(rows), make_cluster(V100S))
    assert _nodes(plan) == {100: 0, 101: 0}


def test_random_depends_on_seed_and_key_only():
    rows = [{"affinity": Affinity.RANDOM}] * 6
    cluster, requests = make_cluster(V100S), make_requests(rows)
    seeds = [PlacementPolicy(seed=s) for s in range(8)]
    plans = [_nodes(place(requests, cluster, policy)) for policy in seeds]
    assert plans[0] == _nodes(place(requests, cluster, seeds[0]))
    assert len({tuple(p.values()) for p in plans}) > 1
    assert draw_for(0, 1) != draw_for(1, 1)


def test_gang_waits_whole_and_leaves_its_room():
    rows = [{"gang": 1, "group": 5, "gpus": 4}] * 4 + [{"gpus": 4}]
    plan = place(make_requests(rows), make_cluster(V100S))
    assert list(_nodes(plan)) == [104]
    explanation = _waits(plan, 100)
    assert explanation.reason == "Gang"
    assert "4 replicas must start together" in explanation.sentence


def test_one_model_is_preferred_to_a_mixture():
    cluster = make_cluster([(16000, 16384, (2, 2, 0))])
    plan = place(make_requests([{"gpus": 2}, {"gpus": 2}]), cluster)
    assert sorted(p.gpus for p in plan.placements) == [(0, 2, 0), (2, 0, 0)]


def test_mixture_where_no_model_is_enough():
    cluster = make_cluster([(16000, 16384, (2, 2, 0))])
    plan = place(make_requests([{"gpus": 3}]), cluster)
    assert sum(plan.placements[0].gpus) == 3


def test_shares_fill_an_opened_gpu():
    cluster = make_cluster([(16000, 16384, (2, 0, 0))])
    rows = [{"milli": 500}, {"milli": 500}, {"milli": 700}]
    plan = place(make_requests(rows), cluster)
    assert [p.slot for p in plan.placements] == [0, 0, 1]


def test_used_up_slot_is_not_given_again():
    cluster = make_cluster([(16000, 16384, (2, 0, 0))])
    cluster.gpus_free[0, 0] = 1
    cluster.gpu_rest_milli[0, 0, 0] = USED_UP
    plan = place(make_requests([{"milli": 500}]), cluster)
    assert plan.placements[0].slot == 1


def test_share_of_the_node_is_its_equal_slice():
    cluster = make_cluster([(16000, 16384, (4, 0, 0))])
    rows = [{"cpu": SHARE, "memory": SHARE}] * 5
    assert len(place(make_requests(rows), cluster).placements) == 4


def test_scarce_model_is_left_to_who_needs_it():
    cluster = make_cluster([(64000, 65536, (4, 0, 0)), (64000, 65536, (0, 4, 0))])
    rows = [{}] * 4 + [{"accepts": ("V100",)}] * 4
    assert len(place(make_requests(rows), cluster).placements) == 8


def test_sentence_for_busy_now():
    cluster = make_cluster([(16000, 16384, (4, 0, 0)), (16000, 16384, (0, 4, 0))])
    cluster.gpus_free[0, 0] = 1
    plan = place(make_requests([{"gpus": 2, "accepts": ("V100",)}]), cluster)
    explanation = _waits(plan, 100)
    assert explanation.counts == {"GpuModel": 1, "Gpus": 1}
    assert not explanation.never
    assert explanation.sentence == (
        "needs 2 x V100; 1 of 2 nodes has such GPUs, none has 2 free now "
        "(best: n1 with 1 free)"
    )


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ({"accepts": ("A100",)}, "GpuModel", "no node has GPU model 'A100'"),
        ({"gpus": 5}, "Gpus", "the largest node for it, n1, has 4"),
        ({"cpu": 17000}, "Cpus", "needs 17 CPUs"),
        ({"memory": 99999}, "Memory", "needs 99999 MiB"),
        ({"mask": 1}, "NodeList", "none of the nodes that it names"),
        ({"gpus": 0}, "NotAllowed", "no node takes workloads without GPUs"),
        ({"gpus": -1}, "Amount", "asks for -1 GPUs"),
        ({"milli": 0}, "Amount", "0 thousandths"),
        ({"milli": 500, "gpus": 2}, "Amount", "share of 2 GPUs"),
        ({"gpus": 0, "cpu": 0}, "Amount", "no GPU and no CPU"),
        ({"memory": -5}, "Amount", "-5 MiB"),
        ({"cpu": -7}, "Amount", "-7 thousandths of a CPU"),
        ({"mask": 9}, "Amount", "names mask 9"),
    ],
)
def test_never_possible_is_said_at_submission(row, reason, words):
    mask = Mask(reason="NodeList", allowed=np.zeros(3, dtype=bool))
    cluster = make_cluster(V100S, masks=(mask,))
    cluster.allows_cpu[:] = False
    cluster.ready[:] = False
    verdict, fine = can_ever_run(make_requests([row, {}]), cluster)
    assert fine is None
    assert verdict is not None
    assert (verdict.reason, verdict.never) == (reason, True)
    assert words in verdict.sentence


def test_no_nodes_at_all():
    requests = make_requests([{}])
    plan = place(requests, make_cluster([]))
    assert _waits(plan, 100).reason == "NoNodes"
    assert place(make_requests([]), make_cluster(V100S)).placements == ()


def test_place_refuses_senseless_amounts():
    with pytest.raises(Refused, match="request 100: asks for -2 GPUs"):
        place(make_requests([{"gpus": -2}]), make_cluster(V100S))


def test_bound_of_a_cycle_leaves_the_rest():
    plan = place(
        make_requests([{}] * 5), make_cluster(V100S), PlacementPolicy(requests_max=3)
    )
    assert plan.left == (103, 104)
    assert len(plan.placements) == 3


@pytest.mark.parametrize("bad", [{"name": "worst"}, {"requests_max": 0}])
def test_policy_refuses_bad_values(bad):
    with pytest.raises(ConfigError, match="allowed"):
        PlacementPolicy(**bad)


def test_recent_requests_are_expected_but_not_placed():
    cluster = make_cluster([(64000, 65536, (4, 0, 0)), (64000, 65536, (0, 4, 0))])
    past = make_requests([{"accepts": ("V100",), "key": 7}] * 4)
    plan = place(make_requests([{}] * 4), cluster, recent=past)
    assert {p.node for p in plan.placements} == {1}


def test_fluid_plan_serves_what_fits_and_keeps_the_scarce():
    # Two shapes with one unit each; the second class can use the first shape only.
    need = np.array([[[1.0], [1.0]], [[1.0], [np.inf]]])
    plan = fluid_plan(np.ones(2), need, np.ones((2, 1)), np.zeros((2, 2)))
    assert np.allclose(plan, [[0.0, 1.0], [1.0, 0.0]], atol=0.02)
    over = (plan[:, :, None] * np.where(np.isfinite(need), need, 0)).sum(axis=0)
    assert (over <= 1.001).all()


def test_a_plan_is_reused_only_while_it_holds():
    memo, policy = PlanMemo(), PlacementPolicy()
    cluster = make_cluster([(64000, 65536, (4, 0, 0)), (64000, 65536, (0, 4, 0))])
    rows = [{}] * 4 + [{"accepts": ("V100",)}] * 4
    first = place(make_requests(rows), cluster, policy, None, memo)
    assert place(make_requests(rows), cluster, policy, None, memo) == first
    assert first == place(make_requests(rows), cluster, policy)
    # The scarce model is now another; an old plan would give it away.
    other = [{}] * 4 + [{"accepts": ("T4",)}] * 4
    assert len(place(make_requests(other), cluster, policy, None, memo).placements) == 8


def test_a_memo_notices_other_hardware():
    memo, rows = PlanMemo(), [{"cpu": 4000}] * 6
    for nodes in (V100S, V100S[:2], [(4000, 16384, (4, 0, 0))] * 3, V100S):
        requests, cluster = make_requests(rows), make_cluster(nodes)
        kept = memo.layout(cluster)
        assert kept is memo.layout(make_cluster(nodes))
        plan = place(requests, cluster, PlacementPolicy(), None, memo)
        assert _nodes(plan) == _nodes(place(requests, cluster))
