"""Reconcile: duties for what should be there; only our own leftovers are removed."""

import pytest

from dorabatch.daemon.reconcile import Duty, Orphan, orphans, reconcile
from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.node.identity import RunIdentity, identity_labels
from dorabatch.queue.records import ContainerId
from dorabatch.queue.states import State
from tests.makers import START, container, hold, later

CLUSTER = "c1"


def seen(
    state: ContainerState = ContainerState.RUNNING,
    *,
    workload_id: int = 1,
    attempt: int = 1,
    **labels: str,
) -> ContainerFacts:
    """A container of ours as a listing shows it."""
    identity = RunIdentity(
        cluster_id=CLUSTER, workload_id=workload_id, replica=1, attempt=attempt
    )
    return ContainerFacts(
        name=identity.name,
        container_id="d1",
        state=state,
        labels={**identity_labels(identity), **labels},
        is_summary=True,
    )


@pytest.mark.parametrize(
    ("state", "facts", "duty"),
    [
        (State.PLACED, None, Duty.LAUNCH),
        (State.PLACED, seen(), Duty.LAUNCH),
        (State.STARTING, None, Duty.LAUNCH),
        (State.STARTING, seen(ContainerState.CREATED), Duty.LAUNCH),
        (State.STARTING, seen(ContainerState.EXITED), Duty.LAUNCH),
        (State.RUNNING, seen(), None),
        (State.RUNNING, seen(ContainerState.PAUSED), None),
        (State.RUNNING, seen(ContainerState.RESTARTING), None),
        (State.RUNNING, seen(ContainerState.EXITED), Duty.CONCLUDE),
        (State.RUNNING, seen(ContainerState.DEAD), Duty.CONCLUDE),
        (State.RUNNING, None, Duty.CONCLUDE),
        (State.STOPPING, seen(), Duty.CONCLUDE),
        (State.STOPPING, None, Duty.CONCLUDE),
        (State.QUEUED, None, None),
        (State.FINISHED, None, None),
    ],
)
def test_duties(state: State, facts: ContainerFacts | None, duty: Duty | None) -> None:
    one = container(state=state, hold=hold(), attempt=1)
    name = seen().name
    observed = {name: facts} if facts else {}
    found = reconcile([one], observed, {one.container_id: name}, START)
    assert [correction.duty for correction in found] == ([duty] if duty else [])


@pytest.mark.parametrize(("seconds", "is_due"), [(1, False), (0, True), (-1, True)])
def test_a_back_off_is_waited_for(seconds: float, is_due: bool) -> None:
    one = container(state=State.PLACED, hold=hold(), ready_at=later(seconds))
    found = reconcile([one], {}, {ContainerId(1): "x"}, START)
    assert bool(found) is is_due


def test_a_container_of_an_earlier_attempt_is_not_taken_for_the_present_one() -> None:
    one = container(state=State.RUNNING, hold=hold(), attempt=2)
    old = seen(attempt=1)
    names = {one.container_id: seen(attempt=2).name}
    (found,) = reconcile([one], {old.name: old}, names, START)
    assert found.duty is Duty.CONCLUDE


def left_over(
    facts: ContainerFacts,
    known: dict[tuple[int, int], int],
    *,
    current: frozenset[str] = frozenset(),
    age: float = 60,
) -> list[Orphan]:
    """Orphans among one container that was first seen ownerless so long ago."""
    return orphans(
        {facts.name: facts},
        known,
        current_names=current,
        known_since={facts.name: START},
        now=later(age),
        grace_seconds=60,
    )


@pytest.mark.parametrize(("attempt", "latest"), [(1, 1), (1, 2), (3, 9)])
def test_an_attempt_that_is_over_is_removed_after_the_grace(
    attempt: int, latest: int
) -> None:
    facts = seen(attempt=attempt)
    (found,) = left_over(facts, {(1, 1): latest})
    assert found.name == facts.name
    assert f"attempt {attempt} is over" in found.why
    assert left_over(facts, {(1, 1): latest}, age=59.9) == []


def test_what_is_expected_is_no_orphan() -> None:
    facts = seen()
    assert left_over(facts, {(1, 1): 1}, current=frozenset({facts.name})) == []


def test_an_attempt_newer_than_the_record_is_left_alone() -> None:
    assert left_over(seen(attempt=3), {(1, 1): 2}) == []


def test_an_unknown_workload_is_left_alone() -> None:
    assert left_over(seen(workload_id=99), {(1, 1): 5}) == []


@pytest.mark.parametrize(
    "labels",
    [
        {"dorabatch.attempt": "one"},
        {"dorabatch.workload": "-1"},
        {"dorabatch.cluster": "Not Ours!"},
        {"dorabatch.epoch": ""},
    ],
)
def test_damaged_labels_are_nobodys(labels: dict[str, str]) -> None:
    assert left_over(seen(**labels), {(1, 1): 5}) == []


def test_a_foreign_container_is_left_alone() -> None:
    foreign = ContainerFacts(
        name="database", container_id="d2", state=ContainerState.EXITED
    )
    assert left_over(foreign, {(1, 1): 5}) == []


def test_a_container_seen_for_the_first_time_is_not_removed() -> None:
    facts = seen()
    found = orphans(
        {facts.name: facts},
        {(1, 1): 1},
        current_names=frozenset(),
        known_since={},
        now=later(9999),
        grace_seconds=60,
    )
    assert found == []
