"""A million waiting requests: what a cycle takes of memory, and names as left."""

import tracemalloc

import numpy as np
import pytest

from dorabatch.placer.arrays.free_room import no_ends
from dorabatch.placer.arrays.types import SHARE, UNKNOWN_US, RequestArrays
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.time.reserved import Times, place_reserved
from tests.oracles.placer_cases import MODELS, make_cluster

MILLION = 1_000_000
BYTES_MAX = 250
"""Peak of one cycle for each request, its own columns (some 70 bytes) left out."""


def _queue(count: int) -> RequestArrays:
    stream = np.random.default_rng(1)
    gpus = stream.choice([1, 1, 1, 2, 4], size=count)
    accepts = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 1]], dtype=bool)
    whole = np.full(count, 1000, dtype=np.int64)
    return RequestArrays(
        key=np.arange(count) * 3 + 11,
        group=-1 - np.arange(count),
        gang=np.zeros(count, dtype=bool),
        gpu_count=gpus,
        gpu_milli=whole,
        accepts=accepts[stream.integers(0, 3, size=count)],
        cpu_milli=np.where(gpus > 1, SHARE, 2000),
        memory_mib=stream.choice([1024, 4096], size=count),
        affinity=np.zeros(count, dtype=np.int64),
        mask=np.zeros(count, dtype=np.int64),
    )


@pytest.mark.parametrize("requests_max", [200_000, MILLION])
def test_a_million_requests_take_bounded_memory_and_none_is_forgotten(requests_max):
    cluster = make_cluster(
        [(64_000, 262_144, (8, 0, 0)), (32_000, 131_072, (0, 4, 0))] * 50
    )
    queue, policy = _queue(MILLION), PlacementPolicy(requests_max=requests_max)
    times = Times(
        now_us=0,
        ends=no_ends(len(MODELS)),
        planned_end_us=np.full(MILLION, UNKNOWN_US),
    )
    tracemalloc.start()
    try:
        plan = place_reserved(queue, cluster, times, policy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= BYTES_MAX * MILLION
    assert plan.placements
    assert plan.left == tuple(queue.key[requests_max:].tolist())
    told = [placement.key for placement in plan.placements] + list(plan.waiting)
    assert sorted(told) == queue.key[:requests_max].tolist()
