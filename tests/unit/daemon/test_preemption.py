"""A scavenger makes room for paid work, goes back to the queue and says why."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dorabatch.queue.records import WorkloadId
from dorabatch.queue.states import State
from tests.makers import ALICE, BOB
from tests.simulation.hands import run, states, submit, turn, work
from tests.simulation.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Alice can pay for one V100; bob's credit covers none, he is demoted."""
    made = World(1, tmp_path)
    yield made
    made.close()


def revenue(world: World, key: WorkloadId) -> Any:
    record = world.parts.views.records.record(world.books.board.workloads[key])
    return record["cost"]


def test_paid_work_starts_where_a_scavenger_was(world: World) -> None:
    large, small = run(world, BOB, 4), run(world, BOB, 2)
    paid = submit(world, ALICE, 1)
    turn(world)
    # The fewest GPUs are lost on n3, and nothing more is stopped while these stop.
    assert states(world, large, small, paid) == [
        State.RUNNING,
        State.STOPPING,
        State.QUEUED,
    ]
    turn(world)
    assert states(world, large, small) == [State.RUNNING, State.STOPPING]
    work(world)
    assert states(world, small) == [State.QUEUED]
    turn(world)
    work(world)
    assert states(world, large, small, paid) == [
        State.RUNNING,
        State.QUEUED,
        State.RUNNING,
    ]
    workload = world.books.board.workloads[small]
    told = world.parts.views.why.text(workload, has_placement=False)
    why = f"preempted for workload {paid} (owner has credit); requeued"
    assert f"attempt 1: {why}" in told
    record = world.parts.views.records.record(workload)
    assert ("preempt", why) in [(e["kind"], e["text"]) for e in record["events"]]
    assert revenue(world, small) in (None, "0")
    for _ in range(3):
        turn(world)
        work(world)
    assert states(world, large, small, paid) == [
        State.RUNNING,
        State.QUEUED,
        State.RUNNING,
    ]
    assert world.broken() == []


def test_the_room_of_a_stopping_one_is_not_taken_by_scavengers(world: World) -> None:
    cycle = world.settings.cycle.model_copy(update={"reservations": 0})
    world.settings = world.settings.model_copy(update={"cycle": cycle})
    world.kill()
    for keeper in world.keepers():
        keeper.look()
    first, second = run(world, BOB, 2, nodes=["n1"]), run(world, BOB, 2, nodes=["n1"])
    run(world, BOB, 2, nodes=["n3"])
    waits = submit(world, BOB, 2)
    world.clock.advance(1)
    # It wants all cores: both stop.
    paid = submit(world, ALICE, 1, nodes=["n1"], cpus=8)
    turn(world)
    assert states(world, first, second) == [State.STOPPING] * 2
    (keeper,) = [k for k in world.keepers() if k.driver is world.nodes["n1"]]
    while State.QUEUED not in states(world, first, second):
        keeper.work.waiting.pop(0)()
    assert State.STOPPING in states(world, first, second)
    turn(world)
    left = [s for s in states(world, first, second, waits) if s is State.QUEUED]
    assert len(left) == 2
    work(world)
    turn(world)
    work(world)
    assert states(world, paid, waits) == [State.RUNNING, State.QUEUED]
    assert states(world, first, second) == [State.QUEUED] * 2


def test_who_pays_is_never_stopped_and_scavengers_never_claim(world: World) -> None:
    paid = run(world, ALICE, 1, nodes=["n3"])
    free = run(world, BOB, 4)
    other = submit(world, BOB, 2, nodes=["n3"])
    turn(world)
    assert states(world, paid, free, other) == [
        State.RUNNING,
        State.RUNNING,
        State.QUEUED,
    ]
    assert world.books.credits.has_scavengers()
