"""The fake node fails on cue and notices what must never happen."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dorabatch.errors import InvariantError, NodeUnreachable, StartFailed
from dorabatch.node.container_spec import ContainerRequest
from dorabatch.node.driver import NodeDriver
from dorabatch.node.facts import ContainerState, GpuFacts
from dorabatch.node.fake import FakeNode, check_no_violation
from dorabatch.node.identity import RunIdentity

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def wish_of(number: int = 1, *, gpus: tuple[str, ...] = ()) -> ContainerRequest:
    identity = RunIdentity(cluster_id="c", workload_id=number, replica=0, attempt=1)
    return ContainerRequest(
        identity=identity, image="x", uid=1000, gid=1000, gpu_uuids=gpus
    )


def node() -> FakeNode:
    return FakeNode(now=lambda: NOW)


def run(driver: NodeDriver, wish: ContainerRequest) -> str:
    driver.create(wish)
    driver.start(wish.identity.name)
    return wish.identity.name


def test_a_call_fails_before_its_effect() -> None:
    one = node()
    one.fail_call(1, NodeUnreachable("on cue"))
    with pytest.raises(NodeUnreachable, match="on cue"):
        one.create(wish_of())
    assert one.containers == {}
    run(one, wish_of())
    assert [operation for _, operation, _ in one.calls] == ["create", "create", "start"]


def test_a_call_fails_after_its_effect() -> None:
    one = node()
    one.create(wish_of())
    one.fail_call(1, NodeUnreachable("answer lost"), after=True)
    with pytest.raises(NodeUnreachable, match="answer lost"):
        one.start(wish_of().identity.name)
    facts = one.inspect(wish_of().identity.name)
    assert facts is not None and facts.state is ContainerState.RUNNING


def test_a_cut_ends_streams_and_calls_but_no_job() -> None:
    one = node()
    name = run(one, wish_of())
    log, events = one.logs(name, follow=True), one.events("c")
    one.cut()
    for stream in (log, events):
        with pytest.raises(NodeUnreachable):
            next(stream)  # type: ignore[call-overload]  # either kind of stream
    with pytest.raises(NodeUnreachable):
        one.ping()
    one.mend()
    facts = one.inspect(name)
    assert facts is not None and facts.state is ContainerState.RUNNING


def test_a_reboot_ends_jobs_and_changes_the_boot() -> None:
    one = node()
    name = run(one, wish_of())
    before = one.probe().boot_id
    one.reboot()
    facts = one.inspect(name)
    assert facts is not None and facts.exit_code == 255
    assert one.probe().boot_id != before


def test_an_orderly_restart_of_dockerd_stops_jobs_before_another_begins() -> None:
    one = node()
    name = run(one, wish_of())
    one.stop_docker()
    facts = one.inspect(name)
    assert facts is not None and facts.exit_code == 143
    with pytest.raises(NodeUnreachable, match="going down"):
        one.circumstances(facts)
    one.start_docker()
    around = one.circumstances(facts)
    facts = one.inspect(name)
    assert facts is not None
    assert facts.started_at is not None and around.docker_began_at is not None
    assert facts.started_at < around.docker_began_at
    after = one.inspect(run(one, wish_of(2)))
    assert after is not None and after.started_at is not None
    assert after.started_at >= around.docker_began_at


def test_one_gpu_for_two_containers_is_a_violation() -> None:
    one = node()
    run(one, wish_of(1, gpus=("GPU-a",)))
    check_no_violation(one)
    run(one, wish_of(2, gpus=("GPU-a",)))
    with pytest.raises(InvariantError, match="GPU-a"):
        check_no_violation(one)


def test_a_gpu_handed_on_is_no_violation() -> None:
    one = node()
    one.exit(run(one, wish_of(1, gpus=("GPU-a",))), 0)
    run(one, wish_of(2, gpus=("GPU-a",)))
    check_no_violation(one)


def test_a_gpu_that_the_node_lacks_does_not_start() -> None:
    one = node()
    gpu = GpuFacts(uuid="GPU-a", model="m", minor=0, memory_mib=1)
    one.facts = replace(one.facts, gpus=(gpu,))
    with pytest.raises(StartFailed, match="GPU-b"):
        run(one, wish_of(gpus=("GPU-b",)))


def test_memory_ran_out() -> None:
    one = node()
    name = run(one, wish_of())
    with one.events("c") as events:
        one.exit(name, 137, oom=True)
        assert [next(events).action, next(events).action] == ["oom", "die"]
    facts = one.inspect(name)
    assert facts is not None and facts.oom_killed and facts.exit_code == 137
