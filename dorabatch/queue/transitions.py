"""(container, what happened) -> container: every legal move from state to state.

Pure: takes the moment, returns a new record, writes nothing. Whoever stores the
result guards it with the record's `rev`. What is marked beside a move (removed, tried,
another version) is set where that is decided: in `runs.settle`, `intake.workload_kind`.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from dorabatch.errors import invariant
from dorabatch.queue.records import Container, Hold, Run
from dorabatch.queue.states import LEGAL_MOVES, AfterStop, Outcome, State


def _move(container: Container, state: State, **changes: Any) -> Container:
    allowed = state in LEGAL_MOVES[container.state]
    invariant(allowed, f"{container.state} -> {state} is no legal move")
    return replace(container, state=state, rev=container.rev + 1, **changes)


def placed(
    container: Container, hold: Hold, version: int, trial_seconds: int | None = None
) -> Container:
    """A new attempt has a place; nothing has been done on the node yet."""
    return _move(
        container,
        State.PLACED,
        hold=hold,
        version=version,
        attempt=container.attempt + 1,
        ready_at=None,
        docker_id=None,
        started_at=None,
        ended_at=None,
        exit_code=None,
        outcome=None,
        reason="",
        after_stop=None,
        trial_seconds=trial_seconds,
    )


def new_run(container: Container, now: datetime) -> Run:
    """The history's row of the attempt that was just placed."""
    invariant(container.hold is not None, "a placed container holds something")
    assert container.hold is not None
    return Run(
        container_id=container.container_id,
        attempt=container.attempt,
        version=container.version,
        hold=container.hold,
        placed_at=now,
    )


def starting(container: Container) -> Container:
    """The intent to start is on record; from here on Docker may know the name."""
    return _move(container, State.STARTING)


def running(container: Container, docker_id: str, started_at: datetime) -> Container:
    """Docker has started it."""
    moved = _move(container, State.RUNNING)
    return replace(moved, docker_id=docker_id, started_at=started_at)


def stopping(
    container: Container, after: AfterStop, outcome: Outcome | None, reason: str
) -> Container:
    """It is to be stopped (or has ended) and removed; what follows is `after`.

    A container that stops already keeps its first outcome, but a wish to finish
    overrides a wish to run again.
    """
    if container.state is State.STOPPING:
        if after is not AfterStop.FINISH or container.after_stop is AfterStop.FINISH:
            return container
        moved = replace(container, rev=container.rev + 1)
    else:
        moved = _move(container, State.STOPPING)
    return replace(
        moved, after_stop=after, outcome=outcome, reason=reason, ready_at=None
    )


def promoted(container: Container) -> Container:
    """A run on trial goes on as an ordinary one, in place."""
    invariant(container.trial_seconds is not None, "only a trial can be promoted")
    return replace(container, rev=container.rev + 1, trial_seconds=None)


def trial_stopped(
    container: Container, reason: str, *, has_outlived: bool
) -> Container:
    """A run on trial is to be stopped and queued again; after its time for good."""
    return replace(
        stopping(container, AfterStop.REQUEUE, None, reason),
        trial_stops=container.trial_stops + 1,
        tried=has_outlived or container.tried,
    )


def is_stopped_trial(container: Container) -> bool:
    """Whether an attempt on trial did not end by itself and goes back to the queue."""
    return (
        container.trial_seconds is not None
        and container.after_stop is AfterStop.REQUEUE
        and container.outcome is None
    )


def untried(container: Container) -> Container:
    """With another spec it is another program: it may be tried as if it were new."""
    return replace(container, trial_stops=0, tried=False)


def with_failures(
    container: Container, *, fast: int, lost: int, ready_at: datetime | None
) -> Container:
    """A stopping container with its counters and the back-off of the next attempt."""
    invariant(container.state is State.STOPPING, "counters change at the end only")
    return replace(container, fast_failures=fast, lost_requeues=lost, ready_at=ready_at)


def exited(
    container: Container,
    *,
    exit_code: int | None,
    started_at: datetime | None,
    ended_at: datetime,
) -> Container:
    """The end of the attempt as Docker tells it; still to be removed.

    Never before its start, whatever was done to the clocks in between.
    """
    invariant(container.state is State.STOPPING, "only what stops can have ended")
    began = started_at or container.started_at
    return replace(
        container,
        rev=container.rev + 1,
        exit_code=exit_code,
        started_at=began,
        ended_at=max(ended_at, began) if began else ended_at,
    )


def given_up(
    container: Container,
    after: AfterStop,
    outcome: Outcome | None,
    reason: str,
    *,
    ended_at: datetime,
    lost: int,
) -> Container:
    """It has ended as far as anybody knows: its node will not tell.

    What has ended before keeps its end. `lost` is how often it was queued again after
    lost attempts, this one included.
    """
    if container.state is State.STOPPING:
        moved = replace(container, rev=container.rev + 1, after_stop=after)
    else:
        moved = stopping(container, after, outcome, reason)
    return replace(moved, ended_at=container.ended_at or ended_at, lost_requeues=lost)


def finished(container: Container, now: datetime) -> Container:
    """Confirmed gone: what it held is free."""
    moved = _move(container, State.FINISHED)
    return replace(
        moved,
        hold=None,
        ended_at=container.ended_at or now,
        outcome=container.outcome or Outcome.CANCELLED,
        after_stop=None,
        trial_seconds=None,
    )


def told_to_end(
    container: Container, outcome: Outcome, reason: str, now: datetime
) -> Container:
    """Somebody wants it ended for good: at once if it waits, else by stopping it.

    The same record comes back when it has finished or is being finished already.
    """
    if container.state is State.FINISHED:
        return container
    if container.state is not State.QUEUED:
        return stopping(container, AfterStop.FINISH, outcome, reason)
    moved = _move(container, State.FINISHED)
    return replace(moved, ended_at=now, outcome=outcome, reason=reason)


def requeued(container: Container, now: datetime) -> Container:
    """Back to the queue for another attempt, nothing held.

    The reason of the last attempt's end is kept until the next one is placed.
    """
    moved = _move(container, State.QUEUED)
    is_new = container.state is State.FINISHED
    return replace(
        moved,
        hold=None,
        after_stop=None,
        queued_at=now if is_new else container.queued_at,
        ready_at=None if is_new else container.ready_at,
        reason="" if is_new else container.reason,
        fast_failures=0 if is_new else container.fast_failures,
        lost_requeues=0 if is_new else container.lost_requeues,
        trial_seconds=None,
        trial_stops=0 if is_new else container.trial_stops,
        tried=False if is_new else container.tried,
        docker_id=None,
        started_at=None,
        ended_at=None,
        exit_code=None,
        outcome=None,
        removed=False,
    )


def restarted(container: Container) -> Container:
    """The next attempt on the same place: the hold is never let go in between."""
    moved = _move(container, State.PLACED)
    return replace(
        moved,
        attempt=container.attempt + 1,
        after_stop=None,
        docker_id=None,
        started_at=None,
        ended_at=None,
        exit_code=None,
        outcome=None,
        reason="",
    )
