"""Cancelling: which workloads are meant, and the writes that end them.

A waiting container ends at once; a live one is stopped on its node and keeps what it
holds until it is confirmed gone. Never talks to a node itself.
"""

from dataclasses import dataclass

from dorabatch.daemon.rights import Caller, check_owner
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import end_workload
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.summary import find_workload, summarize, workload_label
from dorabatch.db import Tx
from dorabatch.errors import AlreadyFinished, UserError
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State, parse_state_filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a user asked to cancel; filters are joined by "and"."""

    refs: tuple[str, ...] = ()
    is_all: bool = False
    states: tuple[str, ...] = ()
    user: str | None = None
    workspace: str | None = None


def selected(services: Services, caller: Caller, wanted: Selection) -> list[Workload]:
    """Live workloads the selection means; raises when it means none on purpose."""
    if wanted.refs:
        found = [_by_ref(services, caller, ref, wanted) for ref in wanted.refs]
        return list({w.workload_id: w for w in found}.values())
    if not (wanted.is_all or wanted.states or wanted.user or wanted.workspace):
        raise UserError(
            "nothing to cancel: name ids or workloads, or use --all, --state, "
            "--user or --workspace"
        )
    user = wanted.user or (None if wanted.workspace else caller.user)
    codes = _codes(wanted.states)
    matched = []
    for workload in list(services.board.workloads.values()):
        if workload.ended_at is not None:
            continue
        if user is not None and workload.submitter.user != user:
            continue
        if wanted.workspace and workload.workspace != wanted.workspace:
            continue
        if codes and summarize(services.board, workload).code not in codes:
            continue
        check_owner(caller, workload.submitter.user, workload_label(workload))
        matched.append(workload)
    return sorted(matched, key=lambda w: w.workload_id)


def cancel(
    services: Services, keepers: Keepers, caller: Caller, workloads: list[Workload]
) -> int:
    """End these workloads; how many were still live."""
    reason = f"cancelled by {caller.user}"
    now = services.clock.now()

    def write(tx: Tx) -> list[Container]:
        changed: list[Container] = []
        for workload in workloads:
            changed += end_workload(tx, workload.workload_id, reason=reason, now=now)
        return changed

    changed = services.writer.do(write)
    for container in changed:
        if container.state is State.STOPPING:
            keepers.conclude(container)
    return len({container.workload_id for container in changed})


def _by_ref(
    services: Services, caller: Caller, ref: str, wanted: Selection
) -> Workload:
    home = services.people.default_workspace(caller.user)
    workload = find_workload(services, ref, wanted.workspace or home)
    check_owner(caller, workload.submitter.user, f"workload {workload_label(workload)}")
    if workload.ended_at is not None:
        code = summarize(services.board, workload).code
        raise AlreadyFinished(
            f"workload {workload_label(workload)} has ended already ({code})"
        )
    return workload


def _codes(states: tuple[str, ...]) -> frozenset[str]:
    try:
        return frozenset().union(*(parse_state_filter(word) for word in states))
    except ValueError as error:
        raise UserError(f"--state: {error}") from error
