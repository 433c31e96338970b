"""Runs whose node has been silent for longer than their workloads wait.

Looks in memory at nodes that do not answer; says when it is time, and nothing of what
follows a loss.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.daemon.runs.lost_runs import Declared, LostRuns
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeState, NodeView
from dorabatch.errors import ConflictError
from dorabatch.queue.board import Board
from dorabatch.queue.records import Workload

_BY = "dorad"
_SILENT = (NodeState.UNREACHABLE, NodeState.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentRuns:
    """Ends what waited long enough for its node; `began`: when this daemon did.

    Silence counts from there on: nobody listened before.
    """

    board: Board
    fleet: Fleet
    clock: Clock
    lost_runs: LostRuns
    began: datetime

    def end_overdue(self) -> int:
        """End them; how many runs."""
        ended = 0
        for view in self.fleet.views():
            silence = self._silence(view)
            if silence is None:
                continue
            overdue = [
                one.container_id
                for one in self.board.on_node(view.name)
                if self._is_over(self.board.workloads[one.workload_id], silence)
            ]
            if overdue:
                ended += self._end(view, silence)
        return ended

    def _silence(self, view: NodeView) -> timedelta | None:
        """How long a node has not answered; None: it does, or is another matter."""
        if view.is_heard or view.state not in _SILENT:
            return None
        return self.clock.now() - max(view.last_seen or self.began, self.began)

    def _is_over(self, workload: Workload, silence: timedelta) -> bool:
        policy = self.lost_runs.policy_of(workload)
        seconds: float | None = policy.seconds
        if policy.action != "wait":
            seconds = self.lost_runs.settings.node.lost_after_seconds
        return seconds is not None and silence >= timedelta(seconds=seconds)

    def _end(self, view: NodeView, silence: timedelta) -> int:
        minutes = silence.total_seconds() / 60
        declared = Declared(
            node=view.name,
            by=_BY,
            words=f"node {view.name} has not answered for {minutes:.0f} min",
            is_meant=lambda _one, of: self._is_over(of, silence),
        )
        try:
            return len(self.lost_runs.end(declared) or ())
        except ConflictError as error:
            # Somebody changed one of them in the same moment: tried again.
            log.detail("silent-runs-overtaken", node=view.name, error=error)
            return 0
