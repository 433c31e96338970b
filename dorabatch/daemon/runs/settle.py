"""The end of an attempt, once: history, next state and the workload's own end.

Every function runs inside the writer's transaction and leaves nothing half-done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue.awaited import ending_of
from dorabatch.queue.records import Container, Happening, WorkloadId
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.queue.transitions import (
    finished,
    new_run,
    requeued,
    restarted,
    stopping,
    told_to_end,
    trial_stopped,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Settles an end in every book that counts runs."""

    billing: Billing
    usage: UsageBook

    def settle(self, tx: Tx, container: Container, now: datetime) -> Container:
        """The stopped attempt is confirmed gone; as which it goes on."""
        after = settle_gone(tx, self.billing, container, now)
        self.usage.count_end(tx, container, now)
        return after


def settle_gone(
    tx: Tx, billing: Billing, container: Container, now: datetime
) -> Container:
    """The stopped attempt is confirmed gone: release what it held, or go again."""
    if container.ended_at is None:
        container = replace(container, ended_at=now)
    store.save_run_end(tx, container)
    billing.settle(tx, container, now)
    after = _next(tx, billing, container, now)
    store.save_containers(tx, [(container, after)])
    if after.state is State.PLACED:
        store.insert_runs(tx, [new_run(after, now)])
    store.insert_events(tx, [_event(container, after, now)])
    if after.state is State.FINISHED:
        end_workload_if_over(tx, after.workload_id, now)
    return after


def _next(tx: Tx, billing: Billing, container: Container, now: datetime) -> Container:
    if container.after_stop is AfterStop.RESTART and container.trial_seconds:
        # The lane is for what is short: its next attempt waits for its turn.
        return replace(requeued(container, now), tried=True)
    if container.after_stop is AfterStop.RESTART:
        after, workload = (
            restarted(container),
            store.get_workload(tx, container.workload_id),
        )
        assert workload is not None
        # Nothing of it starts while it is held: the next attempt waits too.
        is_held = workload.start_hold is not None
        if not is_held and billing.admit_again(tx, after, workload, now):
            return after
        return requeued(container, now)
    if container.after_stop is AfterStop.REQUEUE:
        return requeued(container, now)
    return finished(container, now)


def _event(before: Container, after: Container, now: datetime) -> Happening:
    kind = {
        State.FINISHED: "end",
        State.QUEUED: "requeue",
        State.PLACED: "restart",
    }[after.state]
    outcome = after.outcome or before.outcome
    parts = [f"attempt {before.attempt}", f"{outcome}" if outcome else "stopped"]
    parts += exit_words(before.exit_code, before.reason)
    return event_of(before, kind, ", ".join(parts), now)


def exit_words(exit_code: int | None, reason: str) -> list[str]:
    """An exit code and a reason, the code once where the reason says it too."""
    code = "" if exit_code is None else f"exit code {exit_code}"
    return [one for one in (code if code not in reason else "", reason) if one]


def end_workload_if_over(tx: Tx, workload_id: WorkloadId, now: datetime) -> None:
    """Date the workload's end when its last container has finished.

    A workload scaled to 0 goes on without containers until nobody wants it.
    """
    siblings = store.containers_of(tx, workload_id)
    if any(one.state is not State.FINISHED for one in siblings):
        return
    workload = store.get_workload(tx, workload_id)
    if workload is None or workload.ended_at is not None:
        return
    is_cancelled = any(not one.removed for one in siblings)
    if workload.replicas or is_cancelled:
        store.save_workload(tx, replace(workload, ended_at=now))
        tx.note(ending_of(workload_id, siblings))


def end_workloads(
    tx: Tx, ids: Sequence[WorkloadId], *, reason: str, now: datetime
) -> list[Container]:
    """Nobody wants these workloads any more: their containers that changed by it.

    One statement a table, so some hundred workloads at most. What was scaled away and
    still stops is its workload's again, so that it ends with the last of them.
    """
    found = store.containers_by_workload(tx.connection, ids)
    pairs: list[tuple[Container, Container]] = []
    told: list[Container] = []
    over: dict[WorkloadId, list[Container]] = {}
    for key, siblings in found.items():
        wanted = [_taken_back(one) for one in siblings]
        after = [told_to_end(one, Outcome.CANCELLED, reason, now) for one in wanted]
        both = zip(siblings, after, strict=True)
        pairs += [(one, end) for one, end in both if end is not one]
        both = zip(wanted, after, strict=True)
        told += [end for one, end in both if end is not one]
        if all(end.state is State.FINISHED for end in after):
            over[key] = after
    store.save_containers(tx, pairs)
    store.insert_events(tx, [event_of(one, "stop", reason, now) for one in told])
    _end_those(tx, over, now)
    return told


def _end_those(
    tx: Tx, over: Mapping[WorkloadId, Sequence[Container]], now: datetime
) -> None:
    found = store.get_workloads(tx, list(over))
    live = [one for one in found if one.ended_at is None]
    store.date_ends(tx, [replace(one, ended_at=now) for one in live])
    for one in live:
        tx.note(ending_of(one.workload_id, over[one.workload_id]))


def _taken_back(container: Container) -> Container:
    if not container.removed or container.state is State.FINISHED:
        return container
    return replace(container, removed=False, rev=container.rev + 1)


def stop_to_requeue(
    tx: Tx, container: Container, *, kind: str, reason: str, now: datetime
) -> Container:
    """Stop a live container that goes back to the queue; `kind` is the event's."""
    after = stopping(container, AfterStop.REQUEUE, None, reason)
    return change_told(tx, container, after, kind=kind, text=reason, now=now)


def stop_trial(
    tx: Tx, container: Container, *, reason: str, has_outlived: bool, now: datetime
) -> Container:
    """Stop a live container that is on trial; it goes back to the queue."""
    after = trial_stopped(container, reason, has_outlived=has_outlived)
    return change_told(tx, container, after, kind="trial", text=reason, now=now)


def change_told(
    tx: Tx, before: Container, after: Container, *, kind: str, text: str, now: datetime
) -> Container:
    """Write a changed container together with the event that tells of it."""
    store.save_containers(tx, [(before, after)])
    store.insert_events(tx, [event_of(after, kind, text, now)])
    return after


def event_of(container: Container, kind: str, text: str, now: datetime) -> Happening:
    """An event of one container, for the history of its workload."""
    return Happening(
        workload_id=container.workload_id,
        at=now,
        replica=container.replica,
        kind=kind,
        text=text,
    )


def end_containers(
    tx: Tx,
    containers: Sequence[Container],
    *,
    outcome: Outcome,
    reason: str,
    now: datetime,
) -> list[Container]:
    """Tell containers to end; those that changed by it, as they stand now.

    All belong to one workload. Waiting ones are over at once; live ones are STOPPING
    and have to be handed to their node after the commit.
    """
    pairs = [(one, told_to_end(one, outcome, reason, now)) for one in containers]
    changed = [(before, after) for before, after in pairs if after is not before]
    store.save_containers(tx, changed)
    events = [event_of(after, "stop", reason, now) for _, after in changed]
    store.insert_events(tx, events)
    over = [after for _, after in changed if after.state is State.FINISHED]
    if over:
        end_workload_if_over(tx, over[0].workload_id, now)
    return [after for _, after in changed]
