"""Cancelling: which workloads are meant, and the writes that end them.

A waiting container ends at once; a live one is stopped on its node and keeps what it
holds until it is confirmed gone. Never talks to a node itself.
"""

from dataclasses import dataclass
from functools import partial

from dorabatch.clock import Clock
from dorabatch.daemon.intake.hand_over import HandOver
from dorabatch.daemon.rights import Caller, require_run
from dorabatch.daemon.runs.settle import end_workloads
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.views.summary import (
    WorkloadFinder,
    summarize,
    summarize_containers,
    workload_label,
)
from dorabatch.db import Writer
from dorabatch.errors import AlreadyFinished, DaemonUnavailable, UserError
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import parse_state_filter
from dorabatch.resources.verbs import Verb

AT_ONCE = 50
"""Workloads that one transaction ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a user asked to cancel; filters are joined by "and"."""

    refs: tuple[str, ...] = ()
    is_all: bool = False
    states: tuple[str, ...] = ()
    user: str | None = None
    workspace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelling:
    """Ends workloads that people name."""

    board: Board
    users: DeclaredUsers
    finder: WorkloadFinder
    writer: Writer
    clock: Clock
    hand_over: HandOver

    def selected(self, caller: Caller, wanted: Selection) -> list[Workload]:
        """Live workloads the selection means; raises when it means none on purpose.

        Of those that are named, what has ended is left out, unless all have.
        """
        if wanted.refs:
            found = [self._by_ref(caller, ref, wanted) for ref in wanted.refs]
            live = {w.workload_id: w for w in found if w.ended_at is None}
            if not live:
                raise self._has_ended(found[0])
            return list(live.values())
        if not (wanted.is_all or wanted.states or wanted.user or wanted.workspace):
            raise UserError(
                "nothing to cancel: name ids or workloads, or use --all, --state, "
                "--user or --workspace"
            )
        user = wanted.user or (None if wanted.workspace else caller.user)
        codes = _codes(wanted.states)
        matched = []
        for workload in list(self.board.workloads.values()):
            if workload.ended_at is not None:
                continue
            if user is not None and workload.submitter.user != user:
                continue
            if wanted.workspace and workload.workspace != wanted.workspace:
                continue
            if codes and summarize(self.board, workload).code not in codes:
                continue
            require_run(caller, Verb.DELETE, workload)
            matched.append(workload)
        return sorted(matched, key=lambda w: w.workload_id)

    def cancel(self, caller: Caller, chosen: list[Workload]) -> int:
        """End these workloads, some at a time; how many were still live.

        What others write comes in between. Raises DaemonUnavailable, with how many are
        cancelled, where the daemon ends meanwhile: the rest can be cancelled again.
        """
        reason, now = f"cancelled by {caller.user}", self.clock.now()
        changed: list[Container] = []
        try:
            for begin in range(0, len(chosen), AT_ONCE):
                ids = [one.workload_id for one in chosen[begin : begin + AT_ONCE]]
                end = partial(end_workloads, ids=ids, reason=reason, now=now)
                changed += self.writer.do(end)
        except DaemonUnavailable as error:
            raise DaemonUnavailable(
                f"{error.message}; {begin} of {len(chosen)} workloads are cancelled: "
                "cancel the rest again"
            ) from error
        finally:
            self.hand_over.changed(changed)
        return len({container.workload_id for container in changed})

    def _by_ref(self, caller: Caller, ref: str, wanted: Selection) -> Workload:
        home = self.users.default_workspace(caller.user)
        workload = self.finder.find(caller, ref, wanted.workspace or home)
        require_run(caller, Verb.DELETE, workload)
        return workload

    def _has_ended(self, workload: Workload) -> AlreadyFinished:
        code = summarize_containers(self.finder.containers_of(workload)).code
        label = workload_label(workload)
        return AlreadyFinished(f"workload {label} has ended already ({code})")


def _codes(states: tuple[str, ...]) -> frozenset[str]:
    try:
        return frozenset().union(*(parse_state_filter(word) for word in states))
    except ValueError as error:
        raise UserError(f"--state: {error}") from error
