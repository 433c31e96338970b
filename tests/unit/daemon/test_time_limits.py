"""What runs longer than it was allowed is stopped, and nothing before that."""

from pathlib import Path

from dorabatch.queue.states import Outcome, State
from tests.makers import ALICE
from tests.simulation.hands import one, run, turn, work
from tests.simulation.world import World


def test_a_run_is_stopped_at_its_limit_and_not_before(tmp_path: Path) -> None:
    world = World(1, tmp_path, credits="")
    key = run(world, ALICE, 1, time="20s")
    turn(world, 18)
    work(world)
    assert one(world, key).state is State.RUNNING
    turn(world, 2)
    work(world)
    found = one(world, key)
    assert (found.state, found.outcome) == (State.FINISHED, Outcome.TIMEOUT)
    assert found.reason == "ran longer than its maxRunTime of 20 s"
    assert world.broken() == []
    world.close()
