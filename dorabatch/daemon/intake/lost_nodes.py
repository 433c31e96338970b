"""A node that never comes back, declared lost by somebody who knows.

Says what that would end, refuses it for a node that answers, and puts into the history
who did it. What becomes of each run is decided in `runs`.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dorabatch.clock import Clock
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.lost_runs import Declared, LostRuns, last_known
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import ANSWERING, NodeState, NodeView
from dorabatch.daemon.views.cell_texts import moment_field
from dorabatch.daemon.views.table_layout import Row
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, NotFound
from dorabatch.fairshare.store.share_store import add_changes
from dorabatch.fairshare.turn.changes import Change, document_key
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Workload, WorkloadId
from dorabatch.queue.states import AfterStop
from dorabatch.units import microseconds_of

REQUEUED = "queued again"


@dataclass(frozen=True, slots=True, kw_only=True)
class LostNodes:
    """Declares nodes of one zone lost."""

    zone: str
    board: Board
    fleet: Fleet
    lost_runs: LostRuns
    clock: Clock
    cycle_wanted: threading.Event

    def preview(self, name: str) -> Row:
        """What declaring it would end; raises where it may not be declared lost."""
        view, runs = self._silent(name), self.board.on_node(name)
        rows = self._rows(view, runs, self.board.workloads)
        return _record(view, rows, f"declaring node {name} lost would end")

    def declare(self, caller: Caller, name: str) -> Row:
        """End what the node holds without its word; what was ended."""
        view, workloads = self._silent(name), dict(self.board.workloads)
        declared = Declared(
            node=name,
            by=caller.user,
            words=f"node {name} was declared lost by {caller.user}",
        )
        remembered = replace(
            declared, also=lambda tx, ended: self._remember(tx, view, declared, ended)
        )
        ended = self.lost_runs.end(remembered)
        if ended is None:
            # It has answered in this very moment.
            raise _answers(self._known(name))
        self.cycle_wanted.set()
        rows = self._rows(view, ended, workloads)
        return _record(view, rows, f"node {name} is lost; ended")

    def _known(self, name: str) -> NodeView:
        view = self.fleet.get(name)
        if view is None:
            names = ", ".join(one.name for one in self.fleet.views()) or "none"
            raise NotFound(f"no node {name!r} (known: {names})")
        return view

    def _silent(self, name: str) -> NodeView:
        """A node that does not answer; ConflictError for one that does."""
        view = self._known(name)
        if view.is_heard or view.state is NodeState.CONNECTING:
            raise _answers(view)
        return view

    def _remember(
        self, tx: Tx, view: NodeView, declared: Declared, ended: list[Container]
    ) -> None:
        """The history says who declared it lost, and which runs that ended."""
        if view.lost is not None and not ended:
            return
        runs = [f"{one.workload_id}.{one.replica}/{one.attempt}" for one in ended]
        change = Change(
            at=microseconds_of(self.clock.now()),
            actor=declared.by,
            key=document_key("Node", view.name),
            old=json.dumps({"state": str(view.state)}),
            new=json.dumps({"state": str(NodeState.LOST), "ended": runs}),
        )
        add_changes(tx.connection, self.zone, [change])

    def _rows(
        self,
        view: NodeView,
        runs: list[Container],
        workloads: Mapping[WorkloadId, Workload],
    ) -> list[Row]:
        rows = [self._row(view, one, workloads[one.workload_id]) for one in runs]
        return sorted(rows, key=lambda row: (row["id"], row["replica"]))

    def _row(self, view: NodeView, one: Container, workload: Workload) -> Row:
        ended_at = last_known(one, view, self.clock.now())
        verdict = self.lost_runs.verdict_on(one, workload, "", ended_at)
        is_again = verdict.after is AfterStop.REQUEUE
        then = REQUEUED if is_again else str(verdict.outcome).replace("_", " ")
        hold = one.hold
        return {
            "id": workload.workload_id,
            "workspace": workload.workspace,
            "name": workload.name,
            "user": workload.submitter.user,
            "replica": one.replica,
            "attempt": one.attempt,
            "state": str(one.state),
            "gpus": len(hold.gpus) * hold.gpu_milli / 1000 if hold else 0,
            "then": then,
        }


def _record(view: NodeView, rows: list[Row], verb: str) -> Row:
    again = sum(row["then"] == REQUEUED for row in rows)
    gpus = sum(row["gpus"] for row in rows)
    return {
        "name": view.name,
        "silent_since": moment_field(view.silent_since),
        "runs": rows,
        "message": (
            f"{verb} {len(rows)} runs, {again} of them queued again; {gpus:g} GPUs let "
            "go. When it answers, what is left there is removed and it is used again"
        ),
    }


def _answers(view: NodeView) -> ConflictError:
    if view.state not in ANSWERING:
        return ConflictError(
            f"node {view.name} has not been looked at yet by this daemon, or is about "
            "to be used again; ask again in a few seconds (dnode list)"
        )
    return ConflictError(
        f"node {view.name} answers, so its runs are not lost; to take it out of use, "
        f"cordon it (dnode cordon {view.name}) and wait, or cancel what runs there"
    )
