"""Many requests placed together: nodes that are down, mixed nodes, opened GPUs."""

from dataclasses import replace

import numpy as np

from dorabatch.placer.arrays.bins import BinState, lay_bin_table, shapes_of
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.plan.demand_outlook import look_ahead
from dorabatch.placer.plan.joint import place_jointly
from tests.oracles.placer_cases import make_cluster, make_requests


def _jointly(rows, cluster):
    requests = make_requests(rows)
    classes = classes_of(requests)
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    queued = np.bincount(classes.of, minlength=len(classes))
    outlook = look_ahead(state, shapes_of(state.ground, classes), (queued, queued))
    return place_jointly(state, outlook, np.arange(len(requests))), state


def test_a_node_that_is_down_leaves_the_others_to_be_filled():
    cluster = make_cluster([(16000, 65536, (4, 0, 0))] * 4)
    ready = np.array([True, False, True, True])
    joint, state = _jointly([{}] * 12, replace(cluster, ready=ready))
    assert np.bincount(joint.bin, minlength=4).tolist() == [4, 0, 4, 4]
    assert state.free.tolist() == [0, 4, 0, 0]


def test_models_of_one_node_share_its_cpus():
    cluster = make_cluster([(16000, 65536, (2, 2, 0))] * 3)
    rows = [{"accepts": ("V100",), "cpu": 6000}, {"accepts": ("T4",), "cpu": 2000}] * 6
    joint, state = _jointly(rows, cluster)
    assert (joint.bin >= 0).all()
    assert state.free.tolist() == [0] * 6
    assert state.cpu.tolist() == [0] * 6


def test_what_one_model_takes_is_kept_from_the_other():
    cluster = make_cluster([(8000, 65536, (2, 2, 0))] * 2)
    rows = [{"accepts": ("V100",), "cpu": 4000}] * 4
    rows += [{"accepts": ("T4",), "cpu": 4000}] * 4
    joint, state = _jointly(rows, cluster)
    assert (joint.bin >= 0).sum() <= 4
    assert (state.cpu >= 0).all()


def test_slices_are_those_of_the_node_itself():
    # Both have two T4; what belongs to one of them is less where V100 are beside them.
    cluster = make_cluster([(8000, 65536, (2, 2, 0)), (8000, 65536, (0, 2, 0))])
    rows = [{"accepts": ("T4",), "cpu": -1, "memory": -1}] * 4
    joint, state = _jointly(rows, cluster)
    assert sorted(joint.bin.tolist()) == [1, 1, 2, 2]
    assert state.cpu.tolist() == [4000, 4000, 0]
    assert state.memory.tolist() == [32768, 32768, 0]


def test_opened_gpus_are_filled_before_new_ones_are_opened():
    cluster = make_cluster([(16000, 65536, (4, 0, 0))])
    rest = cluster.gpu_rest_milli.copy()
    rest[0, 0, :2] = [500, 300]
    used = replace(
        cluster, gpu_rest_milli=rest, gpus_free=cluster.gpus_free - [2, 0, 0]
    )
    rows = [{"milli": m} for m in (300, 200, 200, 500, 500)]
    joint, state = _jointly(rows, used)
    assert (joint.bin == 0).all()
    assert state.free.tolist() == [1]
    # 200 + 100 idle here, 300 + 200 in the other, 500 + 500 in the new one.
    assert sorted(state.rest[0].tolist()) == sorted([-1, -1, 100, 0, 0, 0, 0, 0])


def test_cpu_requests_fill_nodes_to_the_brim():
    cluster = make_cluster([(20000, 65536, (0, 0, 0))] * 2)
    # The largest first, each into the smallest rest, would leave the last out.
    rows = [{"gpus": 0, "cpu": cpu} for cpu in (9000, 8500, 7500, 6500, 4500, 4000)]
    joint, state = _jointly(rows, cluster)
    assert (joint.bin >= 0).all()
    assert state.cpu.tolist() == [0, 0]


def test_cpu_requests_respect_memory():
    cluster = make_cluster([(10000, 4096, (0, 0, 0)), (10000, 8192, (0, 0, 0))])
    rows = [{"gpus": 0, "cpu": 5000, "memory": 4000}] * 2
    joint, state = _jointly(rows, cluster)
    assert joint.bin.tolist() == [1, 1]
    assert state.memory.tolist() == [4096, 192]


def test_requests_without_gpus_may_ask_for_a_share_of_memory():
    cluster = make_cluster([(8000, 65536, (0, 0, 0)), (8000, 16384, (0, 0, 0))])
    rows = [{"gpus": 0, "cpu": 2000, "memory": -1}] * 8
    joint, state = _jointly(rows, cluster)
    assert np.bincount(joint.bin).tolist() == [4, 4]
    assert state.memory.tolist() == [0, 0]


def test_many_requests_without_gpus_go_together_where_gpus_need_the_cpus():
    cluster = make_cluster([(8000, 65536, (4, 0, 0))] * 100)
    rows = [{"gpus": 0, "cpu": 2000, "memory": 1024}] * 300
    joint, state = _jointly([*rows, {"cpu": 2000}], cluster)
    assert (joint.bin >= 0).sum() == 301
    # Whole nodes are used up, so that the others' GPUs keep their CPUs.
    assert np.count_nonzero(state.cpu == 8000) == 24
    assert (state.cpu >= 0).all()
