"""Runs of a node that does not answer, ended without its word: in one transaction.

The node is kept out of use before anything is written, and stays so until it has
answered and nothing of these attempts is left there (see `fleet`, `node_keeper`).
Talks to no node; who may ask for it, and when it is time, is decided elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.runs.end_verdict import Verdict, verdict_on_loss
from dorabatch.daemon.runs.settle import Settlement, change_told
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import Loss, NodeView
from dorabatch.daemon.state.object_store import save_loss
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError, DorabatchError
from dorabatch.queue import store
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import HOLDING, AfterStop, State
from dorabatch.queue.transitions import given_up
from dorabatch.resources.workload import OnLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A node is lost, and why: `by` whom, `words` for those whose runs it ends.

    `is_meant` says which of its runs; `also` writes in the same transaction, and is
    given the runs as they stood before it.
    """

    node: str
    by: str
    words: str
    is_meant: Callable[[Container, Workload], bool] = lambda _one, _of: True
    also: Callable[[Tx, list[Container]], None] = lambda _tx, _ended: None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRuns:
    """Ends runs without their node's word."""

    fleet: Fleet
    writer: Writer
    clock: Clock
    settings: Settings
    settlement: Settlement

    def policy_of(self, workload: Workload) -> OnLost:
        """What follows when a run's node is silent: as said, or the site's rule."""
        said = spec_of(workload).config.on_lost
        return said or OnLost(self.settings.node.on_lost)

    def verdict_on(
        self, container: Container, workload: Workload, why: str, ended_at: datetime
    ) -> Verdict:
        """What follows the loss of a run; what was being ended goes on to its end."""
        if container.state is State.STOPPING:
            is_over = container.after_stop is AfterStop.FINISH
            after = AfterStop.FINISH if is_over else AfterStop.REQUEUE
            return Verdict(
                after=after,
                outcome=container.outcome,
                reason=container.reason,
                lost_requeues=container.lost_requeues,
            )
        policy = self.policy_of(workload)
        # Who waits for a while is queued again after it.
        action = "requeue" if policy.seconds else policy.action
        launch = self.settings.launch
        return verdict_on_loss(container, action, why, ended_at, launch)

    def end(self, declared: Declared) -> list[Container] | None:
        """End them; as they stood before it. None: the node answers, nothing is done.

        May be repeated: what was ended is not ended again.
        """
        node, now = declared.node, self.clock.now
        before = self.fleet.get(node)
        loss = self.fleet.lose(node, declared.by, now())
        if before is None or loss is None:
            return None
        try:
            ended = self.writer.do(lambda tx: self._write(tx, declared, before, loss))
        except (SQLAlchemyError, DorabatchError):
            self.fleet.settle_loss(node, loss, now(), instead=before)
            raise
        self.fleet.settle_loss(node, loss, now())
        log.warning("node-lost", node=node, by=declared.by, runs=len(ended))
        return ended

    def _write(
        self, tx: Tx, declared: Declared, view: NodeView, loss: Loss
    ) -> list[Container]:
        if not self.fleet.is_losing(declared.node, loss):
            # Who came later does all of it, and waits for nobody.
            raise ConflictError(
                f"node {declared.node} was declared lost twice in one moment; look at "
                "dnode list, and ask again if something is left there"
            )
        zone, ended = self.settings.zone, []
        for one in store.running_in(tx, zone, HOLDING):
            workload = store.get_workload(tx, one.workload_id)
            is_here = one.hold is not None and one.hold.node == declared.node
            if is_here and workload and declared.is_meant(one, workload):
                self._end(tx, one, workload, declared.words, view)
                ended.append(one)
        save_loss(tx, zone, declared.node, loss)
        declared.also(tx, ended)
        return ended

    def _end(
        self, tx: Tx, one: Container, workload: Workload, why: str, view: NodeView
    ) -> None:
        now = self.clock.now()
        ended_at = last_known(one, view, now)
        verdict = self.verdict_on(one, workload, why, ended_at)
        after = given_up(
            one,
            verdict.after,
            verdict.outcome,
            verdict.reason,
            ended_at=ended_at,
            lost=verdict.lost_requeues,
        )
        text = why if one.state is State.STOPPING else verdict.told
        change_told(tx, one, after, kind="lost", text=text, now=now)
        self.settlement.settle(tx, after, now)


def last_known(one: Container, view: NodeView, now: datetime) -> datetime:
    """When a run was last known to go on; what came after is nobody's time."""
    seen = min(view.last_seen or now, now)
    return max(seen, one.started_at) if one.started_at else seen
