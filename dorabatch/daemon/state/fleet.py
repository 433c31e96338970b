"""The nodes as the daemon sees them now: a table of frozen views.

Written, under its lock, by the keepers' threads and by whoever declares nodes; read by
everybody. Whatever is kept for a revision of the capacity is made of what `capacity`
gave together with it. Talks to no node and writes no row.
"""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

from dorabatch.daemon.state.node_view import (
    ANSWERING,
    NO_ANSWER,
    DeclaredNode,
    Loss,
    NodeState,
    NodeView,
    Refusal,
    gpu_trouble,
)
from dorabatch.node.facts import NodeFacts


def machine_marks(facts: NodeFacts) -> dict[str, str]:
    """What only one machine can have -> in words."""
    marks = {gpu.uuid: f"GPU {gpu.uuid}" for gpu in facts.gpus + facts.missing_gpus}
    if facts.docker_id and facts.boot_id:
        mark = f"{facts.boot_id} {facts.docker_id}"
        marks[mark] = f"Docker {facts.docker_id} since the same boot"
    return marks


class Machines:
    """Which nodes are one machine, whatever they are called: who has which mark.

    A GPU is in one machine, so two nodes with a GPU in common are one. So are two whose
    boot and dockerd are the same: a copied disk has the same dockerd's name but a boot
    of its own, and containers on one host share its boot but not a dockerd. Addresses,
    host names, host keys and machine ids say nothing: they are copied and shared.
    """

    def __init__(self) -> None:
        self._nodes_of: dict[str, list[str]] = {}
        self._marks_of: dict[str, dict[str, str]] = {}

    def tell(self, node: str, facts: NodeFacts | None) -> None:
        """A node has these facts now; None: it is no node any more."""
        marks = machine_marks(facts) if facts else {}
        before = self._marks_of.pop(node, {})
        for mark in before.keys() - marks.keys():
            nodes = self._nodes_of[mark]
            nodes.remove(node)
            if not nodes:
                del self._nodes_of[mark]
        for mark in marks.keys() - before.keys():
            self._nodes_of.setdefault(mark, []).append(node)
        if marks:
            self._marks_of[node] = marks

    def first(self, node: str) -> tuple[str, str] | None:
        """(the node that this machine was before, what both have), or None."""
        for mark, words in self._marks_of.get(node, {}).items():
            first = self._nodes_of[mark][0]
            if first != node:
                return first, words
        return None


class Fleet:
    """All nodes of the zone.

    A GPU that others use gets nothing new where `skips_used_gpus`.
    """

    def __init__(self, *, skips_used_gpus: bool = False) -> None:
        self._skips_used_gpus = skips_used_gpus
        self._views: dict[str, NodeView] = {}
        self._machines = Machines()
        self._lock = threading.Lock()
        self._revision = 0

    @property
    def capacity_revision(self) -> int:
        """Another number whenever nodes or what they have are others."""
        return self._revision

    def views(self) -> list[NodeView]:
        """Every node, by name."""
        views = dict(self._views)
        return [views[name] for name in sorted(views)]

    def capacity(self) -> tuple[int, list[NodeView]]:
        """(revision, every node by name), both of one moment."""
        with self._lock:
            return self._revision, self.views()

    def get(self, name: str) -> NodeView | None:
        """One node, or None."""
        return self._views.get(name)

    def put(
        self,
        settings: DeclaredNode,
        facts: NodeFacts | None = None,
        *,
        last_seen: datetime | None = None,
        lost: Loss | None = None,
    ) -> None:
        """Add a node with what is known of it, or take over its changed settings."""
        with self._lock:
            known = self._views.get(settings.name)
            if known is None:
                view = NodeView(
                    settings=settings,
                    facts=facts,
                    last_seen=last_seen,
                    lost=lost,
                    state=NodeState.LOST if lost else NodeState.CONNECTING,
                )
                self._machines.tell(settings.name, facts)
            else:
                view = replace(known, settings=settings)
            self._views[settings.name] = view
            self._revision += 1

    def put_back(self, view: NodeView) -> None:
        """A node that was dropped is as it was."""
        with self._lock:
            self._views[view.name] = view
            self._machines.tell(view.name, view.facts)
            self._revision += 1

    def drop(self, name: str) -> None:
        """Forget a node."""
        with self._lock:
            self._views.pop(name, None)
            self._machines.tell(name, None)
            self._revision += 1

    def seen(
        self,
        name: str,
        now: datetime,
        facts: NodeFacts | None = None,
        *,
        looked_at: datetime | None = None,
        is_clean: bool = True,
    ) -> bool:
        """The node has answered; whether it became READY by this.

        One that was away takes nothing new while a look finds something left on it of
        attempts that are over; after a loss, a look that began (`looked_at`) after it.
        """
        with self._lock:
            view = self._views.get(name)
            if view is None:
                return False
            news = facts or view.facts
            if news is not view.facts:
                self._machines.tell(name, news)
            was_ready = view.state is NodeState.READY
            why = _why_not_yet(view, news, looked_at, is_clean=is_clean or was_ready)
            state, reason = self._judged(view, news, why)
            self._views[name] = replace(
                view,
                facts=news,
                last_seen=now,
                is_heard=True,
                state=state,
                reason=reason,
                lost=view.lost if state is NodeState.LOST else None,
                kept_out=self._kept_out(news),
            )
            if news is not view.facts:
                self._revision += 1
            return state is NodeState.READY and not was_ready

    def _judged(
        self, view: NodeView, facts: NodeFacts | None, why_not_yet: str
    ) -> tuple[NodeState, str]:
        """How a node stands that has just answered."""
        if why_not_yet and view.lost is not None:
            return NodeState.LOST, why_not_yet
        first = self._machines.first(view.name)
        if first is not None:
            return NodeState.ASIDE, (
                f"the same machine as node {first[0]} ({first[1]} on both), so it "
                f"takes nothing new; remove one of the two: dora delete node "
                f"{view.name}"
            )
        if why_not_yet or facts is None:
            return NodeState.CONNECTING, why_not_yet
        return NodeState.READY, gpu_trouble(facts)

    def _kept_out(self, facts: NodeFacts | None) -> frozenset[str]:
        if facts is None:
            return frozenset()
        used = (
            gpu.uuid
            for gpu in facts.gpus
            if self._skips_used_gpus and gpu.is_used_by_others
        )
        return frozenset(used).union(gpu.uuid for gpu in facts.missing_gpus)

    def fault(self, name: str, state: NodeState, reason: str) -> bool:
        """The node cannot be used; whether this is news."""
        with self._lock:
            view = self._views.get(name)
            if view is None:
                return False
            kept = NodeState.LOST if view.lost else state
            is_news = (view.state, view.reason) != (kept, reason)
            if is_news:
                self._views[name] = replace(
                    view,
                    state=kept,
                    reason=reason,
                    is_heard=False,
                )
            return is_news and view.state is not kept

    def lose(self, name: str, by: str, now: datetime) -> Loss | None:
        """Keep a node that does not answer out of use; None: it answers.

        Nothing is placed there and no look makes it READY until `settle_loss` is given
        what this returns, or somebody else's, who came later.
        """
        with self._lock:
            view = self._views.get(name)
            if view is None or view.is_heard or view.state is NodeState.CONNECTING:
                return None
            loss = replace(view.lost or Loss(by=by, at=now), settled_at=None)
            self._views[name] = replace(view, state=NodeState.LOST, lost=loss)
            return loss

    def is_losing(self, name: str, loss: Loss) -> bool:
        """Whether the node is out of use for this loss, and nobody came later."""
        view = self._views.get(name)
        return view is not None and view.lost is loss

    def settle_loss(
        self, name: str, loss: Loss, now: datetime, instead: NodeView | None = None
    ) -> None:
        """What the loss ends is on disk; or nothing was ended, and it is as `instead`.

        A node that was lost before stays so.
        """
        with self._lock:
            view = self._views.get(name)
            if view is None or view.lost is not loss:
                return
            if instead is not None and instead.lost is None:
                self._views[name] = replace(view, state=instead.state, lost=None)
            else:
                settled = replace(loss, settled_at=now)
                self._views[name] = replace(view, lost=settled)

    def refuses(self, name: str, refusal: Refusal | None) -> None:
        """The node refuses starts, or takes them again."""
        with self._lock:
            view = self._views.get(name)
            if view is not None and view.refusal != refusal:
                self._views[name] = replace(view, refusal=refusal)

    def offer(self, name: str, is_offered: bool) -> None:
        """A node that refuses starts may be tried by one start, or not now."""
        with self._lock:
            view = self._views.get(name)
            if view is None or view.refusal is None:
                return
            if view.refusal.is_offered != is_offered:
                refusal = replace(view.refusal, is_offered=is_offered)
                self._views[name] = replace(view, refusal=refusal)

    def silent(self, now: datetime, patience: timedelta) -> list[str]:
        """Mark nodes that answered and are not heard of for too long; their names."""
        late = []
        with self._lock:
            for name, view in self._views.items():
                if view.state not in ANSWERING or view.last_seen is None:
                    continue
                silence = now - view.last_seen
                if silence > patience:
                    self._views[name] = replace(
                        view,
                        state=NodeState.UNREACHABLE,
                        reason=NO_ANSWER,
                        is_heard=False,
                    )
                    late.append(name)
        return late

    def known_cpus(self) -> set[str]:
        """CPU models of all nodes, also of those that are away."""
        models = {view.facts.cpu_model for view in self.views() if view.facts}
        return models - {""}

    def known_models(self) -> set[str]:
        """GPU models of all nodes, also of those that are away."""
        return {gpu.model for view in self.views() for gpu in view.all_gpus}


def _why_not_yet(
    view: NodeView,
    facts: NodeFacts | None,
    looked_at: datetime | None,
    *,
    is_clean: bool,
) -> str:
    """Why a node that answers may not be used yet; empty where it may."""
    if facts is None:
        return "not probed yet"
    if not is_clean:
        return "answers; what is left there of ended runs is being removed"
    if view.lost is not None and not view.lost.counts(looked_at):
        return "answers; looked at once more before it is used"
    return ""
