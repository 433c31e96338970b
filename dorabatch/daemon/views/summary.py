"""A workload in a few words: state code, reason, place, times.

Reads the board and the latest plan; changes nothing. One rule for all commands, so
that a table, a record and a filter never disagree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.daemon.state.books import LastPlan
from dorabatch.daemon.state.services import Services
from dorabatch.errors import NotFound
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Workload, WorkloadId
from dorabatch.queue.states import LIVE, Outcome, State, state_code

_OUTCOME_ORDER = (
    Outcome.FAILED,
    Outcome.TIMEOUT,
    Outcome.NODE_LOST,
    Outcome.CANCELLED,
    Outcome.DONE,
)
_STATE_ORDER = (
    State.RUNNING,
    State.STARTING,
    State.PLACED,
    State.STOPPING,
    State.QUEUED,
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

    Live: the most advanced state. Ended: the worst outcome.
    """
    shown = tuple(containers)
    live = [c for c in shown if c.state is not State.FINISHED]
    if live:
        state = min((c.state for c in live), key=_STATE_ORDER.index)
        outcome = None
    else:
        state = State.FINISHED
        outcomes = {c.outcome for c in shown if c.outcome is not None}
        outcome = min(outcomes, key=_OUTCOME_ORDER.index, default=Outcome.CANCELLED)
    starts = [c.started_at for c in shown if c.started_at is not None]
    codes = [c.exit_code for c in shown if c.exit_code is not None]
    nodes = sorted({c.hold.node for c in shown if c.hold is not None})
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


def waiting_reason(last: LastPlan, container: Container) -> tuple[str, str]:
    """(code, sentence) why a queued container waits."""
    held = last.held.get(container.container_id)
    if held is not None:
        return "OutOfCredit", held
    plan = last.plan
    index = plan.waiting.get(container.container_id) if plan else None
    if plan is not None and index is not None:
        explanation = plan.explanations[index]
        kept = last.reserved.get(container.container_id)
        told = f"; {kept}" if kept else ""
        if container.reason:
            told += f"; attempt {container.attempt}: {container.reason}"
        return explanation.reason, explanation.sentence + told
    if container.reason:
        return "Requeued", f"waits for another attempt: {container.reason}"
    return "NotPlannedYet", "the next scheduling cycle looks at it"


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


def reason_of(last: LastPlan, summary: Summary) -> tuple[str, str]:
    """(code, sentence) for a workload: why it waits, stops or has failed."""
    for container in summary.containers:
        if container.state is State.QUEUED and summary.state is State.QUEUED:
            return waiting_reason(last, container)
    for container in summary.containers:
        if container.reason and container.state is summary.state:
            return str(container.outcome or container.state), container.reason
        if container.state is summary.state and trial_words(container):
            return "Trial", trial_words(container)
    return "", ""


def workload_label(workload: Workload) -> str:
    """How messages name a workload."""
    return f"{workload.workspace}/{workload.name} (id {workload.workload_id})"


def find_workload(services: Services, ref: str, workspace: str) -> Workload:
    """The workload an id, a name or workspace/name means, live ones first.

    Raises NotFound with the next step.
    """
    board = services.board
    if ref.isdecimal() and len(ref) < 19:
        found = board.workloads.get(WorkloadId(int(ref)))
        return found or _from_history(services, None, ref)
    place, _, name = ref.rpartition("/")
    key = board.live_names.get((place or workspace, name))
    if key is not None:
        return board.workloads[key]
    return _from_history(services, place or workspace, name)


def _from_history(services: Services, workspace: str | None, name: str) -> Workload:
    with services.engine.connect() as connection:
        found = list(
            store.find_ended(connection, services.settings.zone, workspace, name)
        )
    for record in found:
        if isinstance(record, Workload):
            return record
    where = f" in workspace {workspace!r}" if workspace else ""
    raise NotFound(f"no workload {name!r}{where}; see dstat --all")


def containers_of(services: Services, workload: Workload) -> list[Container]:
    """A workload's containers, from memory or from history."""
    if workload.workload_id in services.board.workloads:
        return services.board.containers_of(workload.workload_id)
    with services.engine.connect() as connection:
        found = store.find_ended(
            connection, services.settings.zone, None, str(workload.workload_id)
        )
        return [c for c in found if isinstance(c, Container) and not c.removed]
