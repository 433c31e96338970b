"""Sentences on what waits and what can never run: true of restricted asks too."""

from dataclasses import replace

import numpy as np
import pytest

from dorabatch.placer.arrays.types import Mask
from dorabatch.placer.explain.impossible import can_ever_run
from dorabatch.placer.plan.place import place
from tests.oracles.placer_cases import make_cluster, make_requests

NODES = [(8000, 8192, (4, 0, 0)), (8000, 8192, (2, 0, 0)), (8000, 8192, (0, 2, 0))]
SECOND = Mask(reason="NodeList", allowed=np.array([False, True, False]))


def cluster(free=(4, 2, 2), cpu=(8000, 8000, 8000), memory=(8192, 8192, 8192)):
    made = make_cluster(NODES, masks=(SECOND,))
    gpus = made.gpus_free.copy()
    for node, (model, count) in enumerate(zip((0, 0, 1), free, strict=True)):
        gpus[node, model] = count
    return replace(
        made,
        gpus_free=gpus,
        cpu_free_milli=np.array(cpu),
        memory_free_mib=np.array(memory),
    )


def waits(ground, **row):
    return place(make_requests([row]), ground).explanations[0].sentence


@pytest.mark.parametrize(
    ("ground", "row", "sentence"),
    [
        (
            cluster((4, 0, 2)), {"mask": 1},
            "needs 1 x GPU of any model; 1 of 3 nodes is open to it and has such GPUs, "
            "none has 1 free now (best: n2 with 0 free)",
        ),
        (
            # The second has most free of all that have such GPUs, yet never four.
            cluster((1, 2, 2)), {"gpus": 4, "accepts": ("V100",)},
            "needs 4 x V100; 2 of 3 nodes have such GPUs, none has 4 free now "
            "(best: n1 with 1 free)",
        ),
        (
            cluster(cpu=(500, 1000, 0)), {"gpus": 0, "cpu": 2000},
            "needs 2 CPUs; 3 of 3 nodes are open to it now, none has the CPUs free "
            "(best: n2 with 1)",
        ),
        (
            cluster(memory=(100, 50, 200)), {"gpus": 0, "cpu": 1000, "memory": 300},
            "needs 1 CPU with 300 MiB memory; 3 of 3 nodes have the CPUs now, none has "
            "the memory free (best: n3 with 200 MiB)",
        ),
        (
            cluster(cpu=(8000, 500, 8000)), {"mask": 1, "cpu": 1000},
            "needs 1 x GPU of any model with 1 CPU; 1 of 3 nodes is open to it and has "
            "the GPUs now, none has the CPUs free (best: n2 with 0.5)",
        ),
    ],
)  # fmt: skip
def test_what_waits(ground, row, sentence):
    assert waits(ground, **row) == sentence


def test_a_share_is_told_the_largest_part_that_is_free():
    rest = np.zeros((3, 3, 8), dtype=np.int64)
    rest[0, 0, 0], rest[1, 0, 0] = 200, 500
    ground = replace(cluster((0, 0, 0)), gpu_rest_milli=rest)
    assert waits(ground, milli=600, accepts=("V100",)) == (
        "needs 0.6 of one V100; 2 of 3 nodes have such GPUs, none has that much of one "
        "GPU free now (best: n2 with 0.5)"
    )


@pytest.mark.parametrize(
    ("row", "reason", "sentence"),
    [
        (
            {"gpus": 0, "cpu": 9000}, "Cpus",
            "needs 9 CPUs; the largest such node, n1, has 8",
        ),
        (
            {"accepts": ("T4",)}, "NotAllowed",
            "n3 could run it but takes no workloads with GPUs; an admin may change "
            "that (allow of the Node)",
        ),
        (
            {"accepts": ("T4",), "mask": 1}, "GpuModel",
            "none of the nodes it may use has GPU model 'T4' (they have: V100)",
        ),
    ],
)  # fmt: skip
def test_what_can_never_run(row, reason, sentence):
    ground = cluster()
    ground.allows_gpu[2] = False
    (found,) = can_ever_run(make_requests([row]), ground)
    assert found is not None
    assert (found.reason, found.sentence) == (reason, f"can never run here: {sentence}")
