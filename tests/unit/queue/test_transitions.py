"""Transitions: every legal change is possible, every other raises."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from dorabatch.errors import InvariantError
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container
from dorabatch.queue.states import HOLDING, LEGAL_MOVES, AfterStop, Outcome, State
from tests.checkers import misplaced_holds
from tests.makers import START, container, hold, later

MOVES: dict[str, tuple[Callable[[Container], Container], State]] = {
    "placed": (lambda c: to.placed(c, hold(), 3), State.PLACED),
    "starting": (to.starting, State.STARTING),
    "running": (lambda c: to.running(c, "d1", START), State.RUNNING),
    "stopping": (
        lambda c: to.stopping(c, AfterStop.FINISH, Outcome.FAILED, "why"),
        State.STOPPING,
    ),
    "finished": (lambda c: to.finished(c, START), State.FINISHED),
    "requeued": (lambda c: to.requeued(c, START), State.QUEUED),
    "restarted": (to.restarted, State.PLACED),
}


def at(state: State, **changes: object) -> Container:
    """A container in a state, holding what that state holds."""
    held = hold() if state in HOLDING else None
    return container(state=state, rev=7, attempt=2, hold=held, **changes)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", MOVES)
def test_a_change_is_possible_exactly_when_the_move_is_legal(
    name: str, state: State
) -> None:
    change, target = MOVES[name]
    before = at(state)
    if name == "stopping" and state is State.STOPPING:
        assert change(before).rev == 8
        return
    if target not in LEGAL_MOVES[state]:
        with pytest.raises(InvariantError, match=f"{state} -> {target}"):
            change(before)
        return
    after = change(before)
    assert (after.state, after.rev) == (target, 8)
    if name != "restarted" or state is State.STOPPING:
        assert misplaced_holds([after]) == []


def test_placed_begins_a_fresh_attempt() -> None:
    before = at(
        State.QUEUED, ready_at=START, reason="old", outcome=Outcome.FAILED, exit_code=3
    )
    after = to.placed(before, hold(), 3)
    assert (after.attempt, after.version, after.hold) == (3, 3, hold())
    assert (after.ready_at, after.reason, after.outcome) == (None, "", None)
    assert after.exit_code is None
    run = to.new_run(after, later(5))
    assert (run.attempt, run.version, run.hold) == (3, 3, hold())
    assert run.placed_at == later(5)


def test_a_run_needs_a_hold() -> None:
    with pytest.raises(InvariantError, match="holds something"):
        to.new_run(at(State.QUEUED), START)


def test_the_first_outcome_of_a_stop_stays() -> None:
    first = to.stopping(
        at(State.RUNNING), AfterStop.FINISH, Outcome.TIMEOUT, "too long"
    )
    again = to.stopping(first, AfterStop.FINISH, Outcome.CANCELLED, "cancelled")
    assert again is first


@pytest.mark.parametrize("wish", [AfterStop.REQUEUE, AfterStop.RESTART])
def test_a_wish_to_finish_overrides_a_wish_to_run_again(wish: AfterStop) -> None:
    first = to.stopping(at(State.RUNNING), wish, Outcome.NODE_LOST, "rebooted")
    ended = to.stopping(first, AfterStop.FINISH, Outcome.CANCELLED, "cancelled")
    assert (ended.after_stop, ended.outcome) == (AfterStop.FINISH, Outcome.CANCELLED)
    assert ended.rev == first.rev + 1
    assert to.stopping(ended, wish, None, "again") is ended


def test_told_to_end() -> None:
    waiting = to.told_to_end(at(State.QUEUED), Outcome.CANCELLED, "bye", later(1))
    assert (waiting.state, waiting.ended_at) == (State.FINISHED, later(1))
    assert (waiting.outcome, waiting.reason) == (Outcome.CANCELLED, "bye")
    for state in HOLDING - {State.STOPPING}:
        told = to.told_to_end(at(state), Outcome.CANCELLED, "bye", later(1))
        assert (told.state, told.hold) == (State.STOPPING, hold())
        assert told.after_stop is AfterStop.FINISH
    over = at(State.FINISHED)
    assert to.told_to_end(over, Outcome.CANCELLED, "bye", later(1)) is over


def test_finished_lets_go_and_keeps_the_time_docker_told() -> None:
    stops = at(State.STOPPING, after_stop=AfterStop.FINISH, outcome=Outcome.DONE)
    ended = to.exited(stops, exit_code=0, started_at=later(1), ended_at=later(2))
    after = to.finished(ended, later(9))
    assert (after.ended_at, after.hold) == (later(2), None)
    assert (after.outcome, after.exit_code) == (Outcome.DONE, 0)
    assert after.after_stop is None


@pytest.mark.parametrize("told", [later(9), None])
def test_no_end_is_before_its_start(told: datetime | None) -> None:
    stops = replace(at(State.STOPPING), started_at=later(8))
    ended = to.exited(stops, exit_code=0, started_at=told, ended_at=later(2))
    assert ended.ended_at == ended.started_at == (told or later(8))


def test_an_end_without_outcome_counts_as_cancelled() -> None:
    after = to.finished(at(State.STOPPING), later(9))
    assert (after.outcome, after.ended_at) == (Outcome.CANCELLED, later(9))


def test_restarted_keeps_the_hold_and_the_back_off() -> None:
    before = at(
        State.STOPPING, after_stop=AfterStop.RESTART, ready_at=later(4), fast_failures=2
    )
    after = to.restarted(before)
    assert (after.state, after.hold, after.attempt) == (State.PLACED, hold(), 3)
    assert (after.ready_at, after.fast_failures) == (later(4), 2)


def test_requeued_keeps_its_place_in_line_and_its_reason() -> None:
    before = at(State.STOPPING, reason="node lost", fast_failures=1, lost_requeues=2)
    after = to.requeued(before, later(60))
    assert (after.queued_at, after.reason) == (START, "node lost")
    assert (after.hold, after.fast_failures, after.lost_requeues) == (None, 1, 2)


def test_requeued_after_the_end_is_as_new() -> None:
    before = at(
        State.FINISHED, reason="x", fast_failures=1, lost_requeues=2, removed=True
    )
    after = to.requeued(before, later(60))
    assert (after.queued_at, after.reason, after.removed) == (later(60), "", False)
    assert (after.fast_failures, after.lost_requeues) == (0, 0)
    assert after.attempt == before.attempt


def test_counters_and_exit_belong_to_what_stops() -> None:
    stops = at(State.STOPPING)
    changed = to.with_failures(stops, fast=1, lost=2, ready_at=later(3))
    assert (changed.fast_failures, changed.lost_requeues) == (1, 2)
    with pytest.raises(InvariantError):
        to.with_failures(at(State.RUNNING), fast=0, lost=0, ready_at=None)
    with pytest.raises(InvariantError):
        to.exited(at(State.RUNNING), exit_code=0, started_at=None, ended_at=START)
