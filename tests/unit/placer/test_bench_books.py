"""The bench's recount rejects placements that ask for more than there is."""

import numpy as np
import pytest

from bench.arrivals import arrival_rows, gpu_amount
from bench.placement import replay, replay_fgd
from bench.placement_books import Books
from bench.placement_files import tasks_from_rows
from dorabatch.errors import InvariantError
from dorabatch.placer.arrays.types import Placement
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from tests.oracles.placer_cases import MODELS, make_cluster


def _tasks(*rows):
    names = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
    return tasks_from_rows([dict(zip(names, row, strict=True)) for row in rows], MODELS)


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        (Placement(key=0, node=0, gpus=(0, 1, 0)), "over capacity"),
        (Placement(key=0, node=1, gpus=(0, 1, 0)), "does not accept"),
        (Placement(key=0, node=0, gpus=(0, 0, 0)), "wrong GPUs"),
        (Placement(key=1, node=0, gpus=(1, 0, 0)), "over capacity"),
        (Placement(key=2, node=0, gpus=(1, 0, 0), slot=0), "has 500 left"),
    ],
)
def test_books_reject(placement, words):
    nodes = [(4000, 4096, (1, 0, 0)), (4000, 4096, (0, 1, 0))]
    tasks = _tasks(
        ("1000", "1024", "1", "1000", "V100" if placement.node else "V100|T4"),
        ("9000", "1024", "1", "1000", ""),
        ("1000", "1024", "1", "600", ""),
        ("1000", "1024", "1", "500", ""),
    )
    books = Books(make_cluster(nodes), tasks)
    if placement.key == 2:
        books.apply([Placement(key=3, node=0, gpus=(1, 0, 0), slot=0)])
    with pytest.raises(InvariantError, match=words):
        books.apply([placement])


def test_books_reject_a_second_placement_and_take_back():
    tasks = _tasks(("1000", "1024", "1", "500", ""))
    books = Books(make_cluster([(4000, 4096, (2, 0, 0))]), tasks)
    placement = Placement(key=0, node=0, gpus=(1, 0, 0), slot=0)
    books.apply([placement])
    assert books.percent() == 25.0
    with pytest.raises(InvariantError, match="placed twice"):
        books.apply([placement])
    fresh = Books(make_cluster([(4000, 4096, (2, 0, 0))]), tasks)
    fresh.apply([placement])
    fresh.give_back(0)
    assert fresh.percent() == 0.0
    assert fresh.cluster.gpus_free[0, 0] == 2


def test_every_policy_replays_a_small_list():
    pods = [
        {"cpu_milli": "2000", "memory_mib": "1024", "num_gpu": "1"}
        | {"gpu_milli": "1000", "gpu_spec": ""},
        {"cpu_milli": "1000", "memory_mib": "1024", "num_gpu": "1"}
        | {"gpu_milli": "500", "gpu_spec": "V100"},
    ]
    rows = arrival_rows(pods, 12, seed=1, percent=130.0)
    assert sum(map(gpu_amount, rows)) >= 15.6
    assert rows == arrival_rows(pods, 12, seed=1, percent=130.0)
    tasks = tasks_from_rows(rows, MODELS)
    cluster = make_cluster([(32000, 65536, (4, 0, 0))] * 3)
    results = [
        replay(cluster, tasks, PlacementPolicy(name=name), 4)
        for name in ("default", "first-fit", "best-fit", "random")
    ]
    for result in [*results, replay_fgd(cluster, tasks)]:
        assert result.placed + sum(result.refused.values()) == len(tasks)
        assert result.allocated["130"] > 90
    assert np.all(cluster.gpus_free == cluster.gpus_total)
