"""`apply` and `delete` of Workloads: create, scale, change or end what is declared.

Compares the declared with the stored and writes the difference; the keepers then act
on it. A re-ordering of keys changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dorabatch.clock import Clock
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.dependencies import check_no_circle, note_awaited
from dorabatch.daemon.intake.hand_over import HandOver
from dorabatch.daemon.intake.kind_table import Applied
from dorabatch.daemon.intake.submissions import Submissions
from dorabatch.daemon.rights import Caller, may_act_as
from dorabatch.daemon.runs.settle import end_containers, end_workloads
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.summary import workload_label
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError, NotAllowed
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Happening, NewWorkload, Workload
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.queue.transitions import requeued, stopping, untried
from dorabatch.resources.workload import WorkloadDocument, load_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadApplier:
    """Applies Workload documents."""

    intake: Intake
    submissions: Submissions
    board: Board
    writer: Writer
    clock: Clock
    hand_over: HandOver

    def apply(self, caller: Caller, document: WorkloadDocument) -> Applied:
        """Create, scale or update; waits until it is on disk."""
        new, warnings = self.intake.admit(caller, document)
        workload = self._live(new)
        if workload is None:
            submitted = self.submissions.submit(new).result()
            label = f"{submitted.workspace}/{submitted.name}"
            text = f"{label} created (id {submitted.workload_id})"
            return _applied(new, "created", text, warnings)
        _check_login(caller, workload)
        return replace(self._change(workload, new), warnings=tuple(warnings))

    def _live(self, new: NewWorkload) -> Workload | None:
        """The live workload of this name; None: there is none, or it has just ended."""
        key = self.board.live_names.get((new.workspace, new.name))
        return None if key is None else self.board.workloads.get(key)

    def _change(self, workload: Workload, new: NewWorkload) -> Applied:
        same_spec = workload.spec_digest == new.spec_digest
        same_count = workload.replicas == new.replicas
        asked, before = load_spec(new.spec_json), spec_of(workload)
        # The same words mean what they meant when they were first said.
        same_wait = asked.dependency == before.dependency
        same_turn = same_wait and asked.priority == before.priority
        same_loss = asked.config.on_lost == before.config.on_lost
        if same_spec and same_count and same_turn and same_loss:
            return _applied(new, "not changed", f"{new.workspace}/{new.name}")
        now = self.clock.now()
        wanted = replace(
            workload,
            spec_json=new.spec_json,
            spec_digest=new.spec_digest,
            replicas=new.replicas,
            version=workload.version + (0 if same_spec else 1),
            dependency=workload.dependency if same_wait else new.dependency,
        )

        def write(tx: Tx) -> list[Container]:
            if store.get_workload(tx, workload.workload_id) != workload:
                raise ConflictError(
                    f"workload {workload_label(workload)} was changed in the same "
                    "moment; apply again"
                )
            store.save_workload(tx, wanted)
            if wanted.dependency != workload.dependency:
                _wait_otherwise(tx, wanted, now)
            if not same_spec:
                store.insert_versions(tx, [replace(wanted, submitted_at=now)])
            is_turn_only = same_spec and same_count
            # First those that go on: ending the last one would end the workload.
            changed = [] if same_spec else _renew(tx, wanted, now)
            return changed if is_turn_only else changed + _rescale(tx, wanted, now)

        changed = self.writer.do(write)
        self.hand_over.changed(changed)
        if same_spec and same_count:
            what = "its turn in the queue" if same_wait else "what it waits for"
            if same_turn:
                what = "what follows when its node is silent"
            return _applied(new, "updated", f"{new.name}: {what}")
        if same_spec:
            text = f"{new.name}: {workload.replicas} -> {new.replicas} containers"
            return _applied(new, "scaled", text)
        return _applied(new, "updated", f"{new.name}: version {wanted.version}")

    def delete(self, caller: Caller, workload: Workload) -> str:
        """End a workload; "deleted" or, while containers stop, "draining"."""
        now = self.clock.now()

        def write(tx: Tx) -> list[Container]:
            reason = f"deleted by {caller.user}"
            return end_workloads(tx, [workload.workload_id], reason=reason, now=now)

        changed = self.writer.do(write)
        self.hand_over.changed(changed)
        is_draining = any(one.state is State.STOPPING for one in changed)
        return "draining" if is_draining else "deleted"


def _check_login(caller: Caller, workload: Workload) -> None:
    """Raise NotAllowed where a change would run under somebody else's login."""
    owner = workload.submitter.user
    if not may_act_as(caller, owner):
        raise NotAllowed(
            f"workload {workload_label(workload)} runs under the login of {owner}, "
            "and what runs there only they may change; delete it and submit your own"
        )


def _applied(
    new: NewWorkload, result: str, message: str, warnings: Sequence[str] = ()
) -> Applied:
    return Applied(
        kind="Workload",
        name=new.name,
        result=result,
        message=message,
        warnings=tuple(warnings),
    )


def _wait_otherwise(tx: Tx, workload: Workload, now: datetime) -> None:
    """From now on it waits for others than before; what runs goes on."""
    check_no_circle(tx, workload)
    note_awaited(tx, [workload])
    queued = [
        one
        for one in store.containers_of(tx, workload.workload_id)
        if one.state is State.QUEUED
    ]
    # A place that was planned before is out of date.
    again = [(one, replace(one, rev=one.rev + 1)) for one in queued]
    store.save_containers(tx, again)
    text = f"starts {workload.dependency or 'without waiting for others'}"
    store.insert_events(tx, [_event(workload, now, "update", text)])


def _rescale(tx: Tx, workload: Workload, now: datetime) -> list[Container]:
    """Make or end containers until as many are left as are wanted."""
    existing = store.containers_of(tx, workload.workload_id)
    surplus = [c for c in existing if c.replica > workload.replicas and not c.removed]
    marked = [replace(one, removed=True, rev=one.rev + 1) for one in surplus]
    store.save_containers(tx, list(zip(surplus, marked, strict=True)))
    reason = f"scaled down to {workload.replicas}"
    changed = end_containers(
        tx, marked, outcome=Outcome.CANCELLED, reason=reason, now=now
    )
    back = [c for c in existing if c.replica <= workload.replicas and c.removed]
    again = [(one, _wanted_again(one, workload.version, now)) for one in back]
    store.save_containers(tx, again)
    known = {c.replica for c in existing}
    missing = [n for n in range(1, workload.replicas + 1) if n not in known]
    store.insert_containers(tx, [(workload, n) for n in missing], now=now)
    text = f"{workload.replicas} containers wanted"
    store.insert_events(tx, [_event(workload, now, "scale", text)])
    return changed


def _wanted_again(container: Container, version: int, now: datetime) -> Container:
    """A replica that was scaled away and is wanted after all."""
    if container.state is State.FINISHED:
        return replace(requeued(container, now), version=version)
    # It is still being stopped: it goes back to the queue once it is gone.
    return replace(
        container,
        rev=container.rev + 1,
        removed=False,
        after_stop=AfterStop.REQUEUE,
        outcome=None,
        reason="scaled down and up again",
    )


def _renew(tx: Tx, workload: Workload, now: datetime) -> list[Container]:
    """Let every container that is wanted start anew with the present spec."""
    pairs = []
    for one in store.containers_of(tx, workload.workload_id):
        if one.removed or one.replica > workload.replicas:
            continue
        if one.state is State.FINISHED:
            pairs.append((one, requeued(one, now)))
        elif one.state is State.QUEUED:
            pairs.append((one, untried(replace(one, rev=one.rev + 1))))
        else:
            reason = f"spec changed to version {workload.version}"
            after = stopping(one, AfterStop.REQUEUE, None, reason)
            pairs.append((one, one if after is one else untried(after)))
    changed = [(before, after) for before, after in pairs if after is not before]
    store.save_containers(tx, changed)
    text = f"version {workload.version} applied"
    store.insert_events(tx, [_event(workload, now, "update", text)])
    return [after for _, after in changed]


def _event(workload: Workload, at: datetime, kind: str, text: str) -> Happening:
    return Happening(
        workload_id=workload.workload_id, at=at, replica=None, kind=kind, text=text
    )
