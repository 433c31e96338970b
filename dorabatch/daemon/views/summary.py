"""A workload in a few words: state code, reason, place, times.

Reads the board and the latest plan; changes nothing. One rule for all commands, so
that a table, a record and a filter never disagree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.daemon.views.sight import Sight
from dorabatch.daemon.views.silence import NODE_SILENT, silence, silent_words
from dorabatch.errors import NotFound
from dorabatch.queue import history, store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Happening, Workload, WorkloadId
from dorabatch.queue.states import (
    LIVE,
    Outcome,
    State,
    joint_outcome,
    joint_state,
    state_code,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One workload at one moment."""

    code: str
    state: State
    outcome: Outcome | None
    running: int
    containers: tuple[Container, ...]
    started_at: datetime | None
    exit_code: int | None
    nodes: tuple[str, ...]


def summarize(board: Board, workload: Workload) -> Summary:
    """The workload's state as its containers make it."""
    return summarize_containers(board.containers_of(workload.workload_id))


def summarize_containers(containers: Iterable[Container]) -> Summary:
    """The state that some containers of one workload add up to.

    Live: the most advanced state, and the nodes that are in use. Ended: the worst
    outcome, and the nodes of all.
    """
    shown = tuple(containers)
    live = [c for c in shown if c.state is not State.FINISHED]
    state = joint_state(c.state for c in live)
    outcome = None if live else joint_outcome(c.outcome for c in shown)
    starts = [c.started_at for c in shown if c.started_at is not None]
    codes = [c.exit_code for c in shown if c.exit_code is not None]
    nodes = sorted({c.hold.node for c in live or shown if c.hold is not None})
    return Summary(
        code=state_code(state, outcome),
        state=state,
        outcome=outcome,
        running=sum(c.state is State.RUNNING for c in shown),
        containers=shown,
        started_at=min(starts, default=None),
        exit_code=max(codes, default=None) if not live else None,
        nodes=tuple(nodes),
    )


def trial_until(container: Container) -> datetime | None:
    """When the time of a run on trial is over; None: it is none, or has not begun."""
    if container.trial_seconds is None or container.started_at is None:
        return None
    return container.started_at + timedelta(seconds=container.trial_seconds)


def trial_words(container: Container) -> str:
    """What a live run on trial is; empty for an ordinary one."""
    if container.trial_seconds is None or container.state not in LIVE:
        return ""
    until = trial_until(container)
    if until is None:
        return f"on trial for {container.trial_seconds} s from its start"
    return f"on trial until {until:%H:%M:%S} UTC"


def place_words(last: LastPlan, container: Container) -> str:
    """Why a container that has a place stops, is on trial, or is not heard of."""
    words = silent_words(last, container), container.reason or trial_words(container)
    return "; ".join(one for one in words if one)


def reason_of(last: LastPlan, summary: Summary) -> WaitReason:
    """For a workload: why it waits, stops, is not heard of or has failed."""
    for container in summary.containers:
        if container.state is State.QUEUED and summary.state is State.QUEUED:
            return waiting_reason(last, container)
    if silence(last, summary.containers):
        first = next(one for one in summary.containers if silent_words(last, one))
        return WaitReason(NODE_SILENT, place_words(last, first))
    for container in summary.containers:
        if container.reason and container.state is summary.state:
            code = str(container.outcome or container.state)
            return WaitReason(code, container.reason)
        if container.state is summary.state and trial_words(container):
            return WaitReason("Trial", trial_words(container))
    return WaitReason("", "")


def workload_label(workload: Workload) -> str:
    """How messages name a workload."""
    return f"{workload.workspace}/{workload.name} (id {workload.workload_id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFinder:
    """Which workload is meant, and what its containers are: from memory or history."""

    board: Board
    engine: Engine
    zone: str
    see_others: str

    def find(self, caller: Caller, ref: str, workspace: str) -> Workload:
        """The workload an id, a name or workspace/name means, live ones first.

        Raises NotFound with the next step, also for a name that lists hide from the
        caller: nobody learns by trying which names others have given.
        """
        if ref.isdecimal() and len(ref) < 19:
            known = self.board.workloads.get(WorkloadId(int(ref)))
            found = known or self._from_history(None, ref)
            if not self.sight(caller).lists(found):
                raise _no_workload(None, ref)
            return found
        place, _, name = ref.rpartition("/")
        workspace = place or workspace
        found = self._called(workspace, name)
        if "name" in self.sight(caller).hidden(found):
            raise _no_workload(workspace, name)
        return found

    def sight(self, caller: Caller, kind: str = "Workload") -> Sight:
        """What the caller sees of workloads, or of their containers."""
        return Sight(caller, self.see_others, kind)

    def _called(self, workspace: str, name: str) -> Workload:
        key = self.board.live_names.get((workspace, name))
        if key is not None:
            return self.board.workloads[key]
        return self._from_history(workspace, name)

    def containers_of(self, workload: Workload) -> list[Container]:
        """A workload's containers that are not removed, by replica number."""
        if workload.workload_id in self.board.workloads:
            return self.board.containers_of(workload.workload_id)
        found = self._ended(None, str(workload.workload_id))
        return [c for c in found if isinstance(c, Container) and not c.removed]

    def events_of(self, workload: Workload) -> list[Happening]:
        """What has happened to a workload."""
        with self.engine.connect() as connection:
            return history.events_of(connection, workload.workload_id)

    def latest(self, workload: Workload) -> Workload:
        """The workload as it is now, or as it was given where memory has it no more."""
        return self.board.workloads.get(workload.workload_id, workload)

    def users(self) -> set[str]:
        """Everybody of whom a workload is in memory."""
        return {one.submitter.user for one in list(self.board.workloads.values())}

    def _from_history(self, workspace: str | None, name: str) -> Workload:
        for record in self._ended(workspace, name):
            if isinstance(record, Workload):
                return record
        raise _no_workload(workspace, name)

    def _ended(self, workspace: str | None, name: str) -> list[object]:
        with self.engine.connect() as connection:
            return list(store.find_ended(connection, self.zone, workspace, name))


def _no_workload(workspace: str | None, name: str) -> NotFound:
    where = f" in workspace {workspace!r}" if workspace else ""
    return NotFound(f"no workload {name!r}{where}; see dstat --all")
