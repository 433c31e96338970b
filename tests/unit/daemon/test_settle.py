"""The end of an attempt and of a workload: once, and nothing is let go too early."""

import pytest

from dorabatch.daemon.runs.settle import end_containers, settle_gone
from dorabatch.daemon.views.describe import describe_workload
from dorabatch.queue import history
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.makers import hold, later
from tests.unit.daemon.conftest import Parts


def stop(parts: Parts, one: Container, after: AfterStop, outcome: Outcome) -> Container:
    """A container that stops."""
    return parts.change(one, lambda c: to.stopping(c, after, outcome, "why"))


def settle(parts: Parts, one: Container) -> Container:
    """Its attempt is confirmed gone."""
    now = parts.clock.now()
    return parts.effects.writer.do(
        lambda tx: settle_gone(tx, parts.books.billing, one, now)
    )


def end_of(parts: Parts, workload_id: int) -> object:
    """When a workload ended."""
    return parts.books.board.workloads[workload_id].ended_at


def test_a_workload_ends_with_its_last_container_and_once(parts: Parts) -> None:
    parts.submit("a", replicas=2)
    for replica, seconds in ((1, 10), (2, 20)):
        runs = parts.run(parts.container(1, replica), hold(node=f"n{replica}"))
        stops = stop(parts, runs, AfterStop.FINISH, Outcome.DONE)
        assert parts.books.board.on_node(f"n{replica}") == [stops]
        parts.clock.advance(10)
        after = settle(parts, stops)
        assert (after.state, after.hold) == (State.FINISHED, None)
        assert after.ended_at == later(seconds)
        assert end_of(parts, 1) == (None if replica == 1 else later(20))
    assert parts.books.board.nodes_in_use() == set()
    parts.clock.advance(99)
    over = parts.books.board.containers_of(1)
    parts.effects.writer.do(
        lambda tx: end_containers(
            tx, over, outcome=Outcome.CANCELLED, reason="x", now=parts.clock.now()
        )
    )
    assert end_of(parts, 1) == later(20)


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (0, "", ["exit code 0"]),
        (5, "exit code 5", ["exit code 5"]),
        (
            0,
            "exit code 0; restartPolicy Always",
            ["exit code 0; restartPolicy Always"],
        ),
        (137, "cancelled by root", ["exit code 137", "cancelled by root"]),
        (None, "the node was restarted", ["the node was restarted"]),
        (None, "", []),
    ],
)
def test_an_exit_code_is_told_once(
    parts: Parts, code: int | None, reason: str, told: list[str]
) -> None:
    parts.submit("a", replicas=2)
    now = parts.clock.now()

    def exits(one: Container) -> Container:
        stops = to.stopping(one, AfterStop.FINISH, Outcome.FAILED, reason)
        return to.exited(stops, exit_code=code, started_at=None, ended_at=now)

    for replica in (1, 2):
        one = parts.run(parts.container(1, replica), hold(node=f"n{replica}"))
        settle(parts, parts.change(one, exits))
    record = parts.views.records.record(parts.books.board.workloads[1])
    ends_told = [one["text"] for one in record["events"] if one["kind"] == "end"]
    assert ends_told == [", ".join(["attempt 1", "failed", *told])] * 2
    text = describe_workload(record)
    lines = text[text.index("Containers:") : text.index("Spec:")].splitlines()[1:3]
    assert all(
        line.endswith(", ".join(["0:00", "GPUs GPU-0", *told])) for line in lines
    ), lines


def test_a_restart_keeps_the_hold_and_begins_another_attempt(parts: Parts) -> None:
    parts.submit("a")
    runs = parts.run(parts.container(1))
    after = settle(parts, stop(parts, runs, AfterStop.RESTART, Outcome.FAILED))
    assert (after.state, after.attempt, after.hold) == (State.PLACED, 2, hold())
    assert parts.books.board.on_node("n1") == [after]
    assert len(parts.books.board.pending) == 0
    with parts.effects.engine.connect() as connection:
        first, second = history.runs_of(connection, [runs.container_id])
    assert (first.outcome, second.outcome) == (Outcome.FAILED, None)
    assert first.ended_at is not None
    assert second.hold == hold()
    assert end_of(parts, 1) is None


def test_a_requeue_lets_go_and_waits_again(parts: Parts) -> None:
    parts.submit("a")
    runs = parts.run(parts.container(1))
    after = settle(parts, stop(parts, runs, AfterStop.REQUEUE, Outcome.NODE_LOST))
    assert (after.state, after.attempt, after.hold) == (State.QUEUED, 1, None)
    assert parts.books.board.nodes_in_use() == set()
    assert parts.books.board.pending.arrays().key.tolist() == [1]
    with parts.effects.engine.connect() as connection:
        (run,) = history.runs_of(connection, [runs.container_id])
        last = history.events_of(connection, 1)[-1]
    assert (run.outcome, run.reason) == (Outcome.NODE_LOST, "why")
    assert (last.kind, last.text) == ("requeue", "attempt 1, node_lost, why")
    assert end_of(parts, 1) is None
