"""One deed after the other in a world: for tests that tell a story step by step.

Draws nothing by chance and checks nothing.
"""

from typing import Any

from dorabatch.node.identity import parse_identity
from dorabatch.queue.records import Container, Submitter, WorkloadId
from dorabatch.queue.states import State
from tests.makers import V100, document
from tests.simulation.world import World


def submit(world: World, who: Submitter, gpus: int, /, **options: Any) -> WorkloadId:
    """One container with one core and 1 GiB; V100s unless the options say otherwise."""
    intake = world.parts.intake
    name = f"w{len(world.books.board.workloads) + 1}"
    options = {"gpus": str(gpus), "gpu_models": [V100], "cpus": 1, **options}
    options = {"name": name, "image": "busybox", "memory": "1Gi", **options}
    asked = document(**options)
    new, _ = intake.admission.admit(world.caller(who), asked)
    return intake.submissions.submit(new).result(20).workload_id


def work(world: World) -> None:
    """Launch, stop and bury what is open on the nodes."""
    for keeper in world.keepers():
        keeper.look()
        world.work_off(keeper)


def turn(world: World, seconds: float = 1) -> None:
    """Some time later there is another cycle."""
    world.clock.advance(seconds)
    world.daemon.turn()


def one(world: World, workload_id: WorkloadId) -> Container:
    """The workload's only container."""
    (found,) = world.books.board.containers_of(workload_id)
    return found


def states(world: World, *ids: WorkloadId) -> list[State]:
    """The states of workloads with one container each."""
    return [one(world, workload_id).state for workload_id in ids]


def run(world: World, who: Submitter, gpus: int, **options: Any) -> WorkloadId:
    """Submit something that starts at once."""
    key = submit(world, who, gpus, **options)
    turn(world)
    work(world)
    assert states(world, key) == [State.RUNNING]
    return key


def end(world: World, workload_id: WorkloadId, code: int = 0) -> None:
    """A workload's job ends by itself, and is buried."""
    for node, name in world.running():
        identity = parse_identity(node.containers[name].facts.labels)
        if identity is not None and identity.workload_id == workload_id:
            world.end_job(node, name, code, oom=False)
            work(world)
            return
    raise AssertionError(f"workload {workload_id} does not run")
