"""The pending queue equals a plain dict, whatever is put and dropped."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.queue.demand import Claim, Demand, Restriction
from dorabatch.queue.live_columns import PendingQueue
from dorabatch.queue.records import ContainerId, WorkloadId
from tests.makers import RTX, START, V100, container, demand, later

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
    """The arrays as a dict, numbers looked up."""
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
            found.claims[found.claim[row]],
            int(found.submitted_us[row]),
            int(found.ready_us[row]),
        )
        for row in range(len(found))
    }


def put(queue: PendingQueue, key: int, wanted: Demand, seconds: int) -> Row:
    """Put a container; the row it should have."""
    ready = later(seconds) if seconds % 2 else None
    claim = Claim(user=f"u{key % 3}", workspace="w", nice=key)
    waiting = container(
        key, workload_id=WorkloadId(key // 2), replica=key % 2, ready_at=ready
    )
    queue.put(waiting, demand=wanted, claim=claim, submitted_at=later(seconds))
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
        claim,
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


def test_claims_of_an_empty_queue_are_forgotten() -> None:
    queue = PendingQueue()
    for key in range(1, 9):
        put(queue, key, demand(), 0)
    for key in range(1, 9):
        queue.drop(ContainerId(key))
    assert queue.arrays().claims == ()
