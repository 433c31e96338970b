"""One node's keeper, and the keepers of all nodes by name.

A keeper has two threads of its own: one looks at the node every few seconds and marks
in the fleet whether it may be used, one listens to Docker's events. Both hand out work
to the node's pool. Decides nothing about a container: `node_work` knows what is open
and has it done.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.runs.node_work import ExpectedRuns, NodeWork
from dorabatch.daemon.runs.reconcile import Correction, Duty, Orphan
from dorabatch.daemon.runs.refusing_nodes import RefusingNodes
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import (
    ANSWERING,
    DeclaredNode,
    NodeState,
    NodeView,
    with_missing,
    with_others_use,
)
from dorabatch.daemon.state.object_store import save_facts, save_loss, save_seen
from dorabatch.daemon.state.threads import WatchedThreads
from dorabatch.db import Tx, Writer
from dorabatch.errors import (
    DorabatchError,
    HostKeyChanged,
    NodeAuthRefused,
    NodeError,
    NodeUnreachable,
)
from dorabatch.node.driver import EventStream, NodeDriver
from dorabatch.node.facts import NodeFacts
from dorabatch.queue.records import Container, ContainerId


class NodeHealth:
    """One node's place in the fleet."""

    def __init__(
        self,
        node: str,
        driver: NodeDriver,
        fleet: Fleet,
        writer: Writer,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._node = node
        self._driver = driver
        self._fleet = fleet
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._probed_at: float | None = None
        self._noted_at: float | None = None

    def is_ready(self) -> bool:
        """Whether the node is in use."""
        view = self._fleet.get(self._node)
        return view is not None and view.state is NodeState.READY

    def probe_again(self) -> None:
        """The node's facts are due."""
        self._probed_at = None

    def probe_when_due(self) -> NodeFacts | None:
        """The node's facts, read afresh; None while those that are known will do."""
        view, now = self._fleet.get(self._node), self._clock.monotonic()
        due_after = self._settings.node.probe_seconds
        answers = view is not None and view.state in ANSWERING
        is_fresh = self._probed_at is not None and now - self._probed_at < due_after
        if answers and is_fresh:
            return None
        facts = with_missing(view.facts if view else None, self._driver.probe())
        self._probed_at = now
        text = facts_to_json(facts)
        if view is None or view.facts is None or text != facts_to_json(view.facts):
            moment = self._clock.now()
            self._write(lambda tx, zone: save_facts(tx, zone, self._node, text, moment))
        return facts

    def answered(
        self, facts: NodeFacts | None, looked_at: datetime, *, is_clean: bool
    ) -> bool:
        """The node has answered a look; whether it may be used again by this."""
        before, now = self._fleet.get(self._node), self._clock.now()
        is_news = self._fleet.seen(
            self._node, now, facts, looked_at=looked_at, is_clean=is_clean
        )
        after = self._fleet.get(self._node)
        if is_news:
            log.event("node-ready", node=self._node)
        if before and after and before.lost is not None and after.lost is None:
            self._write(lambda tx, zone: save_loss(tx, zone, self._node, None))
        self._note_seen(now, is_news=is_news)
        self._log_reason(before, after)
        return is_news

    def _log_reason(self, before: NodeView | None, now: NodeView | None) -> None:
        """A node that answers may be aside, or without some of its GPUs."""
        if before is None or now is None or now.state not in ANSWERING:
            return
        if now.reason and (now.state, now.reason) != (before.state, before.reason):
            log.warning(
                "node-trouble", node=self._node, state=now.state, reason=now.reason
            )
        elif before.state is now.state and before.reason and not now.reason:
            log.event("node-whole", node=self._node)

    def failed(self, state: NodeState, error: DorabatchError) -> None:
        """The node cannot be used, and why."""
        view = self._fleet.get(self._node)
        if self._fleet.fault(self._node, state, error.message):
            log.warning("node-fault", node=self._node, state=state, error=error)
            if view is not None and view.last_seen is not None:
                self._note_seen(view.last_seen, is_news=True)

    def _note_seen(self, moment: datetime, *, is_news: bool) -> None:
        """Keep on disk when it was up: at each change, and now and then between."""
        now, seldom = self._clock.monotonic(), self._settings.node.probe_seconds
        is_due = self._noted_at is None or now - self._noted_at >= seldom
        if is_news or is_due:
            self._noted_at = now
            self._write(lambda tx, zone: save_seen(tx, zone, self._node, moment))

    def _write(self, action: Callable[[Tx, str], None]) -> None:
        self._writer.do(lambda tx: action(tx, self._settings.zone))


_LISTEN_AGAIN_SECONDS = 1.0


class NodeKeeper:
    """Looks after one node until it is told to stop."""

    def __init__(
        self,
        driver: NodeDriver,
        health: NodeHealth,
        expected: ExpectedRuns,
        work: NodeWork,
        cycle_wanted: threading.Event,
        threads: WatchedThreads,
    ) -> None:
        self.node = expected.node
        self.driver = driver
        self._health = health
        self._expected = expected
        self._work = work
        self._cycle_wanted = cycle_wanted
        self._stopping = threading.Event()
        self._stream: EventStream | None = None
        self._watched = threads
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to look after the node."""
        self._threads = [
            self._watched.start(f"{name}-{self.node}", one_round, self._stopping)
            for name, one_round in (("keep", self._keep), ("listen", self._listen))
        ]

    def stop(self) -> None:
        """Let go of the node; its containers go on."""
        self._stopping.set()
        self._work.wake.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._work.stop()
        self.driver.close()

    def join(self, seconds: float) -> None:
        """Wait for the keeper's own threads to end."""
        for thread in self._threads:
            thread.join(seconds)

    def probe_again(self) -> None:
        """Read the node's facts afresh at the next look, which is now."""
        self._health.probe_again()
        self._work.wake.set()

    def launch(self, container_id: ContainerId) -> None:
        """Start a placed container as soon as a worker is free."""
        self._work.assign(Correction(container_id=container_id, duty=Duty.LAUNCH))

    def conclude(self, container_id: ContainerId) -> None:
        """Stop or bury a container as soon as a worker is free."""
        self._work.conclude(container_id)

    # -- the look ------------------------------------------------------------

    def _keep(self) -> None:
        self._work.wake.clear()
        self.look()
        self._work.wake.wait(self._work.seconds_to_next_look())

    def look(self) -> None:
        """Look once; a node that cannot be looked at is marked with its reason.

        Raises what is not the node's doing, such as a database error.
        """
        try:
            self._look()
        except HostKeyChanged as error:
            self._fault(NodeState.QUARANTINED, error)
        except NodeAuthRefused as error:
            self._fault(NodeState.REFUSED, error)
        except NodeError as error:
            self._fault(NodeState.UNREACHABLE, error)

    def _look(self) -> None:
        looked_at, was_ready = self._expected.now(), self._health.is_ready()
        held = self._expected.held_gpus()
        facts = self._health.probe_when_due()
        if facts is not None:
            facts = with_others_use(facts, held | self._expected.held_gpus())
        # In this order: whoever works on after the listing is not a stray.
        has_strays, idle = self._work.has_strays(), self._work.idle()
        listed = self.driver.list_ours(self._expected.cluster_id)
        observed = {facts.name: facts for facts in listed}
        orphans = self._expected.orphans(observed, at_once=not was_ready)
        is_clean = not orphans and not has_strays
        if self._health.answered(facts, looked_at, is_clean=is_clean):
            self._cycle_wanted.set()
        for correction in self._expected.corrections(idle, observed):
            self._work.assign(correction)
        self._work.try_registry()
        self._remove(orphans)
        if not was_ready and orphans:
            # What was in the way is gone.
            self._work.wake.set()

    def _fault(self, state: NodeState, error: DorabatchError) -> None:
        if not self._stopping.is_set():
            self._health.failed(state, error)

    def _remove(self, orphans: Sequence[Orphan]) -> None:
        for orphan in orphans:
            log.warning("orphan", node=self.node, container=orphan.name, why=orphan.why)
            self._work.remove_orphan(orphan.name)

    # -- the events ----------------------------------------------------------

    def _listen(self) -> None:
        try:
            self._follow_events()
        except NodeUnreachable:
            self.link_lost()
        except NodeError as error:
            log.detail("listen-failed", node=self.node, error=error)
        self._stopping.wait(_LISTEN_AGAIN_SECONDS)

    def link_lost(self) -> None:
        """Docker is away or came back: look at once."""
        self._work.wake.set()

    def _follow_events(self) -> None:
        with self.driver.events(self._expected.cluster_id) as stream:
            self._stream = stream
            # What happened before the stream stood is found by a look.
            self._work.wake.set()
            for event in stream:
                if event.action == "die":
                    self.saw_end(event.labels)

    def saw_end(self, labels: Mapping[str, str]) -> None:
        """The container with these labels has ended: conclude it if it is ours."""
        container_id = self._expected.present_attempt(labels)
        # Of a machine with two names only one holds it.
        if container_id is not None and self._expected.find(container_id):
            self.conclude(container_id)


class Keepers:
    """The keepers of all nodes, by name.

    Written by whoever adds, changes or removes a node, read by the cycle's thread and
    by those of the API; `make` puts a node's keeper together. `refusing` has the nodes
    that refuse starts.
    """

    def __init__(
        self,
        fleet: Fleet,
        open_driver: Callable[[DeclaredNode], NodeDriver],
        make: Callable[[str, NodeDriver], NodeKeeper],
        refusing: RefusingNodes,
    ) -> None:
        self.refusing = refusing
        self._fleet = fleet
        self._open_driver = open_driver
        self._make = make
        self._keepers: dict[str, NodeKeeper] = {}
        self._lock = threading.Lock()

    def get(self, node: str) -> NodeKeeper | None:
        """The keeper of a node, or None."""
        return self._keepers.get(node)

    def restart(self, node: str) -> None:
        """(Re)connect to a node with its present settings."""
        view = self._fleet.get(node)
        if view is None:
            return
        keeper = self._make(node, self._open_driver(view.settings))
        with self._lock:
            before = self._keepers.get(node)
            self._keepers[node] = keeper
        if before is not None:
            before.stop()
        keeper.start()

    def drop(self, node: str) -> None:
        """Let go of a removed node."""
        with self._lock:
            keeper = self._keepers.pop(node, None)
        if keeper is not None:
            keeper.stop()

    def launch(self, container: Container) -> None:
        """Hand a placed container to its node."""
        keeper = self._keepers.get(container.hold.node) if container.hold else None
        if keeper is not None:
            keeper.launch(container.container_id)

    def conclude(self, container: Container) -> None:
        """Hand a stopping container to its node."""
        keeper = self._keepers.get(container.hold.node) if container.hold else None
        if keeper is not None:
            keeper.conclude(container.container_id)

    def stop(self) -> None:
        """Let go of every node; containers go on."""
        with self._lock:
            keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.stop()
        for keeper in keepers:
            keeper.join(2.0)
