"""Holding a workload and releasing it: events, refusals, and what runs goes on."""

import pytest

from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.errors import AlreadyFinished, ConflictError, NotAllowed
from dorabatch.queue import history, store
from dorabatch.queue import transitions as to
from dorabatch.queue.records import StartHold, Workload
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.makers import facts, node_settings
from tests.unit.daemon.conftest import Parts, caller


def workload_of(parts: Parts, workload_id: int) -> Workload:
    return parts.books.board.workloads[workload_id]


def events(parts: Parts, workload_id: int) -> list[tuple[str, str]]:
    with parts.effects.engine.connect() as connection:
        found = history.events_of(connection, workload_id)
    return [(one.kind, one.text) for one in found]


def add_node(parts: Parts) -> None:
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), facts())


def test_a_held_workload_starts_once_it_is_released(parts: Parts) -> None:
    add_node(parts)
    key = parts.submit("a").workload_id
    parts.effects.cycle_wanted.clear()
    after = parts.daemon.intake.holds.hold("ana", workload_of(parts, key), "data first")
    assert after.start_hold == StartHold(by="ana", reason="data first")
    assert workload_of(parts, key) == after
    assert parts.effects.cycle_wanted.is_set()
    assert parts.cycle.run().placed == 0
    (one,) = parts.books.latest.last.waits.values()
    assert one == WaitReason("Held", "held by ana: data first")
    parts.daemon.intake.holds.release("ana", after)
    assert workload_of(parts, key).start_hold is None
    assert parts.cycle.run().placed == 1
    assert [one for one in events(parts, key) if one[0] in ("hold", "release")] == [
        ("hold", "held by ana: data first"),
        ("release", "released by ana"),
    ]


def test_a_submission_can_be_held_from_its_beginning(parts: Parts) -> None:
    hold = StartHold(by="alice", reason="later")
    key = parts.submit("a", start_hold=hold).workload_id
    assert workload_of(parts, key).start_hold == hold
    told = ("submit", "submitted by alice, held by alice: later")
    assert events(parts, key) == [told]
    with parts.effects.engine.connect() as connection:
        (stored, _) = store.load_live(connection, "dc-rov-01")
    assert stored == workload_of(parts, key)


def test_a_hold_is_not_put_over_another_and_not_lifted_twice(parts: Parts) -> None:
    key = parts.submit("a").workload_id
    parts.daemon.intake.holds.hold("root", workload_of(parts, key), "audit")
    with pytest.raises(ConflictError, match="is held by root: audit already; release"):
        parts.daemon.intake.holds.hold("alice", workload_of(parts, key))
    with pytest.raises(NotAllowed, match="is held by root: audit; root or an admin"):
        parts.daemon.intake.holds.release("alice", workload_of(parts, key))
    parts.daemon.intake.holds.release("ben", workload_of(parts, key), of_all=True)
    with pytest.raises(ConflictError, match="is not held"):
        parts.daemon.intake.holds.release("root", workload_of(parts, key))


def test_what_has_ended_is_neither_held_nor_released(parts: Parts) -> None:
    key = parts.submit("a").workload_id
    parts.daemon.intake.cancelling.cancel(caller(), [workload_of(parts, key)])
    with pytest.raises(AlreadyFinished):
        parts.daemon.intake.holds.hold("alice", workload_of(parts, key))
    with pytest.raises(AlreadyFinished):
        parts.daemon.intake.holds.release("alice", workload_of(parts, key))


def test_what_runs_goes_on_and_its_next_attempt_waits(parts: Parts) -> None:
    key = parts.submit("a", options={"restart": "Always"}).workload_id
    one = parts.run(parts.container(key))
    parts.daemon.intake.holds.hold("alice", workload_of(parts, key))
    assert parts.container(key) == one
    stops = parts.change(
        one, lambda c: to.stopping(c, AfterStop.RESTART, Outcome.DONE, "exit code 0")
    )
    now = parts.clock.now()
    after = parts.effects.writer.do(
        lambda tx: settle_gone(tx, parts.books.billing, stops, now)
    )
    assert after.state is State.QUEUED
    assert after.hold is None
