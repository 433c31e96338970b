"""The pending queue equals a plain dict, whatever is put and dropped."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.queue.pending import Demand, PendingQueue, Restriction
from dorabatch.queue.priority import rank_queued
from dorabatch.queue.records import ContainerId
from tests.makers import RTX, START, V100, demand, later

Row = tuple[Any, ...]

DEMANDS = st.builds(
    demand,
    gpu_count=st.integers(0, 8),
    gpu_models=st.sampled_from([None, (V100,), (RTX,), (V100, RTX)]),
    cpu_milli=st.sampled_from([-1, 500, 4000]),
    affinity=st.integers(0, 4),
    restriction=st.builds(
        Restriction, nodes=st.sampled_from([(), ("n1",), ("n1", "n2")])
    ),
)
STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(1, 12), DEMANDS, st.integers(0, 90)),
    max_size=60,
)


def rows_of(queue: PendingQueue) -> dict[int, Row]:
    """The arrays as a dict, numbers of selectors and restrictions looked up."""
    found = queue.arrays()
    return {
        int(found.key[row]): (
            int(found.group[row]),
            int(found.replica[row]),
            int(found.gpu_count[row]),
            int(found.gpu_milli[row]),
            found.selectors[found.selector[row]],
            int(found.cpu_milli[row]),
            int(found.memory_mib[row]),
            int(found.affinity[row]),
            found.restrictions[found.restriction[row]],
            int(found.submitted_us[row]),
            int(found.ready_us[row]),
        )
        for row in range(len(found))
    }


def put(queue: PendingQueue, key: int, wanted: Demand, seconds: int) -> Row:
    """Put a container; the row it should have."""
    ready = later(seconds) if seconds % 2 else None
    queue.put(
        ContainerId(key),
        group=key // 2,
        replica=key % 2,
        demand=wanted,
        submitted_at=later(seconds),
        ready_at=ready,
    )
    start = int(START.replace(microsecond=0).timestamp()) * 10**6 + START.microsecond
    moment = start + seconds * 10**6
    return (
        key // 2,
        key % 2,
        wanted.gpu_count,
        wanted.gpu_milli,
        wanted.gpu_models,
        wanted.cpu_milli,
        wanted.memory_mib,
        wanted.affinity,
        wanted.restriction,
        moment,
        moment if ready else 0,
    )


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_it_equals_a_dict(steps: list[tuple[bool, int, Demand, int]]) -> None:
    queue, model = PendingQueue(), {}
    for is_put, key, wanted, seconds in steps:
        if is_put:
            model[key] = put(queue, key, wanted, seconds)
        else:
            queue.drop(ContainerId(key))
            model.pop(key, None)
        assert len(queue) == len(model)
    assert rows_of(queue) == model


def test_it_grows_and_shrinks_without_losing_a_row() -> None:
    queue = PendingQueue()
    model = {key: put(queue, key, demand(), key) for key in range(1, 3001)}
    assert rows_of(queue) == model
    for key in range(1, 3001, 2):
        queue.drop(ContainerId(key))
        del model[key]
    assert rows_of(queue) == model


def test_the_arrays_are_a_copy() -> None:
    queue = PendingQueue()
    put(queue, 1, demand(), 0)
    before = queue.arrays()
    queue.drop(ContainerId(1))
    put(queue, 2, demand(gpu_count=4), 0)
    assert before.key.tolist() == [1]
    assert before.gpu_count.tolist() == [1]


def test_first_come_first_served_then_workload_then_replica() -> None:
    queue = PendingQueue()
    for key, seconds in ((7, 0), (4, 5), (3, 0), (2, 0), (9, 1)):
        put(queue, key, demand(), seconds)
    found = queue.arrays()
    order = found.key[rank_queued(found)].tolist()
    assert order == [2, 3, 7, 9, 4]


def test_a_higher_priority_comes_before_an_earlier_submission() -> None:
    queue = PendingQueue()
    for key, seconds in ((2, 0), (4, 1), (6, 2), (8, 3)):
        put(queue, key, demand(), seconds)
    found = queue.arrays()
    wanted = {2: 0.0, 4: 1.0, 6: 1.0, 8: 5.0}
    priority = np.array([wanted[key] for key in found.key.tolist()])
    order = found.key[rank_queued(found, priority)].tolist()
    assert order == [8, 4, 6, 2]


def test_an_empty_queue_has_an_empty_order() -> None:
    assert rank_queued(PendingQueue().arrays()).tolist() == []
