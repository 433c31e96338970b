"""Node by node: the first reason, the numbers, and where least is missing."""

from dataclasses import replace

import numpy as np
import pytest

from dorabatch.placer.arrays.types import Mask, Placement
from dorabatch.placer.explain.impossible import can_ever_run
from dorabatch.placer.explain.node_verdicts import (
    closest,
    missing_amounts,
    node_verdicts,
)
from dorabatch.placer.explain.why_here import EXPLAINED_MAX, choices
from dorabatch.placer.plan.place import place
from tests.oracles.placer_cases import make_cluster, make_requests

NODES = [(8000, 8192, (4, 0, 0)), (8000, 8192, (4, 0, 0)), (8000, 8192, (0, 2, 0))]


def cluster(free=(4, 4, 2), **changes):
    made = make_cluster(NODES)
    gpus = made.gpus_free.copy()
    for node, (model, count) in enumerate(zip((0, 0, 1), free, strict=True)):
        gpus[node, model] = count
    return replace(made, gpus_free=gpus, **changes)


def ask(**row):
    return make_requests([{"gpus": 4, "accepts": ("V100",), **row}])


def test_reasons_and_numbers_of_each_node():
    found = node_verdicts(ask(cpu=9000), cluster((1, 4, 2)), reserved=[1])
    assert [one.reason for one in found] == ["Gpus", "Cpus", "GpuModel"]
    assert found[0].gpus == (1, 4)
    assert found[1].cpu_milli == (8000, 9000)
    assert found[2].gpus == (0, 4)


def test_a_kept_node_is_told_last_of_all():
    found = node_verdicts(ask(), cluster((4, 3, 2)), reserved=[0, 1])
    assert [one.reason for one in found] == ["Reserved", "Gpus", "GpuModel"]


@pytest.mark.parametrize(
    ("free", "ready", "kept", "node", "missing"),
    [
        ((1, 3, 2), (1, 1, 1), [], 1, (1, 0, 0)),
        ((3, 3, 2), (1, 1, 1), [], 0, (1, 0, 0)),
        ((4, 3, 2), (0, 1, 1), [], 0, (0, 0, 0)),
        ((2, 1, 2), (0, 1, 1), [], 0, (2, 0, 0)),
        ((3, 4, 2), (1, 1, 1), [1], 1, (0, 0, 0)),
    ],
)
def test_the_node_on_which_least_is_missing(free, ready, kept, node, missing):
    ground = cluster(free, ready=np.array(ready, dtype=bool))
    near = closest(ask(), ground, node_verdicts(ask(), ground, kept))
    assert (near.node, missing_amounts(near)) == (node, missing)


def test_no_node_is_close_to_what_can_never_run():
    ground = cluster()
    big = ask(gpus=5)
    assert closest(big, ground, node_verdicts(big, ground)) is None
    shut = ask(mask=1)
    closed = replace(
        ground, masks=(Mask(reason="NodeList", allowed=np.zeros(3, bool)),)
    )
    assert closest(shut, closed, node_verdicts(shut, closed)) is None


def test_a_taken_port_passes():
    """Only the second node is in its list, and there its port is taken."""
    elsewhere = np.array([True, False, True])
    mask = Mask(
        reason="Port", allowed=np.zeros(3, bool), first=(("NodeList", elsewhere),)
    )
    ground = cluster((4, 3, 2), masks=(mask,))
    found = node_verdicts(ask(mask=1), ground)
    assert [one.reason for one in found] == ["NodeList", "Port", "NodeList"]
    near = closest(ask(mask=1), ground, found)
    assert near is not None
    assert (near.node, missing_amounts(near)) == (1, (1, 0, 0))
    assert can_ever_run(ask(mask=1), ground) == (None,)
    plan = place(ask(mask=1), ground)
    assert not plan.explanations[0].never
    assert plan.explanations[0].counts == {"NodeList": 2, "Port": 1}


def test_a_share_is_measured_by_the_largest_part_of_one_gpu():
    rest = np.zeros((3, 3, 8), dtype=np.int64)
    rest[0, 0, :2], rest[1, 0, 0] = (300, 500), 200
    ground = cluster((0, 1, 2), gpu_rest_milli=rest)
    found = node_verdicts(ask(gpus=1, milli=600), ground)
    assert [one.gpu_milli for one in found] == [(500, 600), (1000, 600), (0, 600)]
    assert [one.gpu_milli for one in node_verdicts(ask(), ground)] == [(0, 0)] * 3


def test_terms_of_the_chosen_node_and_the_runner_up():
    ground = cluster((2, 4, 2))
    requests = ask(gpus=2, cpu=2000, memory=1024)
    plan = place(requests, ground)
    (found,) = choices(requests, ground, plan.placements)
    assert (found.chosen.node, found.runner_up.node) == (0, 1)
    assert (found.chosen.gpus_left, found.runner_up.gpus_left) == (0, 2)
    assert (found.chosen.opens_node, found.runner_up.opens_node) == (False, True)
    assert found.chosen.cpu_left_milli == 6000
    assert found.candidates == 2


def test_gpus_without_cpus_are_stranded():
    requests = ask(gpus=1, cpu=7000)
    plan = place(requests, cluster())
    (found,) = choices(requests, cluster(), plan.placements)
    # One core is left where the node has two for each GPU.
    assert found.chosen.gpus_left == 3
    assert found.chosen.gpus_stranded == 3


def test_an_only_node_has_no_runner_up():
    requests = ask(gpus=4, accepts=("V100",))
    (found,) = choices(
        requests, cluster((4, 3, 2)), (Placement(key=100, node=0, gpus=(4, 0, 0)),)
    )
    assert found.runner_up is None
    assert found.candidates == 1


def test_each_choice_sees_what_those_before_it_took():
    requests = make_requests([{"gpus": 1, "cpu": 500, "memory": 64}] * 100)
    ground = make_cluster([(64000, 65536, (8, 0, 0))] * 20)
    plan = place(requests, ground)
    found = choices(requests, ground, plan.placements)
    assert len(found) == EXPLAINED_MAX
    fresh = {}
    for one in found:
        fresh.setdefault(one.chosen.node, []).append(one.chosen.gpus_left)
    assert all(left == list(range(7, 7 - len(left), -1)) for left in fresh.values())


def test_a_share_is_measured_by_the_gpu_it_opens():
    ground = make_cluster([(8000, 8192, (2, 0, 0))] * 2)
    requests = make_requests([{"milli": 500, "cpu": 500, "memory": 64}] * 2)
    plan = place(requests, ground)
    first, second = choices(requests, ground, plan.placements)
    assert [first.chosen.gpus_left, second.chosen.gpus_left] == [1, 1]
