"""One node's keeper: keeps the connection, compares expected with observed, acts.

Three kinds of threads a node: one looks every few seconds, one listens to Docker's
events, a bounded pool works on containers, never two at once on the same container.
Decides nothing: `reconcile` says what is open, `Launcher` does it.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime

from dorabatch import log
from dorabatch.daemon.runs.container_request import docker_name
from dorabatch.daemon.runs.launcher import Launcher
from dorabatch.daemon.runs.reconcile import Correction, Duty, orphans, reconcile
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.state.object_store import save_facts
from dorabatch.daemon.state.services import Services
from dorabatch.errors import (
    ConflictError,
    DorabatchError,
    HostKeyChanged,
    NodeAuthRefused,
    NodeError,
    NodeUnreachable,
)
from dorabatch.node.driver import EventStream, NodeDriver
from dorabatch.node.facts import ContainerFacts, NodeFacts
from dorabatch.node.identity import parse_identity
from dorabatch.queue.records import Container, ContainerId, WorkloadId
from dorabatch.queue.states import State

_LISTEN_AGAIN_SECONDS = 1.0


class NodeKeeper:
    """Looks after one node until it is told to stop."""

    def __init__(
        self,
        services: Services,
        node: str,
        driver: NodeDriver,
        workers: Executor | None = None,
    ) -> None:
        self._services = services
        self._node = node
        self.driver = driver
        self._launcher = Launcher(services, node, driver)
        self._pool = workers or ThreadPoolExecutor(
            max_workers=services.settings.node.launches_at_once,
            thread_name_prefix=f"work-{node}",
        )
        self._lock = threading.Lock()
        self._busy: set[ContainerId] = set()
        self._ended_while_busy: set[ContainerId] = set()
        self._suspects = {c.container_id for c in services.board.on_node(node)}
        self._ownerless_since: dict[str, datetime] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stream: EventStream | None = None
        self._probed_at: float | None = None
        self._threads = [
            threading.Thread(target=self._keep, name=f"keep-{node}", daemon=True),
            threading.Thread(target=self._listen, name=f"listen-{node}", daemon=True),
        ]

    def start(self) -> None:
        """Begin to look after the node."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let go of the node; its containers go on."""
        self._stopping.set()
        self._wake.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.driver.close()

    def join(self, seconds: float) -> None:
        """Wait for the keeper's own threads to end."""
        for thread in self._threads:
            thread.join(seconds)

    def probe_again(self) -> None:
        """Read the node's facts afresh at the next look, which is now."""
        self._probed_at = None
        self._wake.set()

    def launch(self, container_id: ContainerId) -> None:
        """Start a placed container as soon as a worker is free."""
        self._assign(Correction(container_id=container_id, duty=Duty.LAUNCH))

    def conclude(self, container_id: ContainerId) -> None:
        """Stop or bury a container as soon as a worker is free."""
        self._assign(Correction(container_id=container_id, duty=Duty.CONCLUDE))

    # -- the look ------------------------------------------------------------

    def _keep(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self.look()
            self._wake.wait(self._seconds_to_next_look())

    def look(self) -> None:
        """Look once; a node that cannot be looked at is marked, whatever the reason."""
        try:
            self._look()
        except HostKeyChanged as error:
            self._fault(NodeState.QUARANTINED, error)
        except NodeAuthRefused as error:
            self._fault(NodeState.REFUSED, error)
        except NodeError as error:
            self._fault(NodeState.UNREACHABLE, error)
        except DorabatchError as error:
            log.failure("keeper-failed", error, node=self._node)

    def _look(self) -> None:
        facts = self._probe_when_due()
        expected = self._expected()
        names = {c.container_id: docker_name(self._services, c) for c in expected}
        listed = self.driver.list_ours(self._services.cluster_id)
        observed = {facts.name: facts for facts in listed}
        now = self._services.clock.now()
        if self._services.fleet.seen(self._node, now, facts):
            log.event("node-ready", node=self._node)
            self._services.cycle_wanted.set()
        for correction in reconcile(expected, observed, names, now):
            self._assign(correction)
        self._trust_again(expected, observed, names)
        self._remove_orphans(observed, now)

    def _probe_when_due(self) -> NodeFacts | None:
        view = self._services.fleet.get(self._node)
        now = self._services.clock.monotonic()
        due_after = self._services.settings.node.probe_seconds
        is_ready = view is not None and view.state is NodeState.READY
        is_fresh = self._probed_at is not None and now - self._probed_at < due_after
        if is_ready and is_fresh:
            return None
        facts = self.driver.probe()
        self._probed_at = now
        text = facts_to_json(facts)
        if view is None or view.facts is None or text != facts_to_json(view.facts):
            zone, moment = self._services.settings.zone, self._services.clock.now()
            self._services.writer.do(
                lambda tx: save_facts(tx, zone, self._node, text, moment)
            )
        return facts

    def _expected(self) -> list[Container]:
        with self._lock:
            busy = set(self._busy)
        on_node = self._services.board.on_node(self._node)
        return [c for c in on_node if c.container_id not in busy]

    def _seconds_to_next_look(self) -> float:
        seconds = self._services.settings.node.poll_seconds
        now = self._services.clock.now()
        for container in self._services.board.on_node(self._node):
            if container.state is State.PLACED and container.ready_at is not None:
                wait = (container.ready_at - now).total_seconds()
                seconds = min(seconds, max(wait, 0.05))
        return seconds

    def _fault(self, state: NodeState, error: DorabatchError) -> None:
        if self._stopping.is_set():
            return
        if self._services.fleet.fault(self._node, state, error.message):
            log.warning("node-fault", node=self._node, state=state, error=error)
        self._suspect_all()

    def _suspect_all(self) -> None:
        """Whatever runs here now may be ended by the node, not by itself."""
        for container in self._services.board.on_node(self._node):
            if container.state in (State.STARTING, State.RUNNING):
                self._suspects.add(container.container_id)

    def _trust_again(
        self,
        expected: list[Container],
        observed: Mapping[str, ContainerFacts],
        names: Mapping[ContainerId, str],
    ) -> None:
        for container in expected:
            facts = observed.get(names[container.container_id])
            is_up = facts is not None and facts.state.value == "running"
            if is_up and container.state is State.RUNNING:
                self._suspects.discard(container.container_id)

    def _remove_orphans(
        self, observed: Mapping[str, ContainerFacts], now: datetime
    ) -> None:
        board = self._services.board
        current = frozenset(
            docker_name(self._services, held) for held in board.on_node(self._node)
        )
        known = self._attempts_on_record(observed)
        for name in observed:
            if name not in current:
                self._ownerless_since.setdefault(name, now)
        self._ownerless_since = {
            name: since
            for name, since in self._ownerless_since.items()
            if name in observed and name not in current
        }
        for orphan in orphans(
            observed,
            known,
            current_names=current,
            known_since=self._ownerless_since,
            now=now,
            grace_seconds=self._services.settings.node.orphan_grace_seconds,
        ):
            log.warning(
                "orphan", node=self._node, container=orphan.name, why=orphan.why
            )
            self._launcher.remove_orphan(orphan.name)

    def _attempts_on_record(
        self, observed: Mapping[str, ContainerFacts]
    ) -> dict[tuple[int, int], int]:
        board = self._services.board
        known = {}
        for facts in observed.values():
            identity = parse_identity(facts.labels)
            if identity is None:
                continue
            replicas = board.replicas.get(WorkloadId(identity.workload_id), {})
            container_id = replicas.get(identity.replica)
            if container_id is not None:
                attempt = board.containers[container_id].attempt
                known[identity.workload_id, identity.replica] = attempt
        return known

    # -- the events ----------------------------------------------------------

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow_events()
            except NodeUnreachable:
                self.link_lost()
            except NodeError as error:
                log.detail("listen-failed", node=self._node, error=error)
            self._stopping.wait(_LISTEN_AGAIN_SECONDS)

    def link_lost(self) -> None:
        """Docker is away or came back: look at once, suspect what runs."""
        self._suspect_all()
        self._wake.set()

    def _follow_events(self) -> None:
        with self.driver.events(self._services.cluster_id) as stream:
            self._stream = stream
            # What happened before the stream stood is found by a look.
            self._wake.set()
            for event in stream:
                if event.action == "die":
                    self.saw_end(event.labels)

    def saw_end(self, labels: Mapping[str, str]) -> None:
        """The container with these labels has ended: conclude it if it is ours."""
        identity = parse_identity(labels)
        if identity is None:
            return
        workload_id = WorkloadId(identity.workload_id)
        replicas = self._services.board.replicas.get(workload_id, {})
        container_id = replicas.get(identity.replica)
        if container_id is None:
            return
        if self._services.board.containers[container_id].attempt == identity.attempt:
            self.conclude(container_id)

    # -- the work ------------------------------------------------------------

    def _assign(self, correction: Correction) -> None:
        key = correction.container_id
        with self._lock:
            if self._stopping.is_set():
                return
            if key in self._busy:
                if correction.duty is Duty.CONCLUDE:
                    self._ended_while_busy.add(key)
                return
            self._busy.add(key)
            self._pool.submit(self._work, correction)

    def _work(self, correction: Correction) -> None:
        key = correction.container_id
        is_done = False
        try:
            if correction.duty is Duty.LAUNCH:
                self._launcher.launch(key)
                self._suspects.discard(key)
            else:
                suspect = key in self._suspects
                self._launcher.conclude(key, was_docker_away=suspect)
            is_done = True
        except ConflictError as error:
            # Somebody changed the record meanwhile: the follow-up sees what is left.
            log.detail("work-overtaken", node=self._node, container=key, error=error)
            is_done = True
        except NodeError as error:
            if not self._stopping.is_set():
                log.warning("work-failed", node=self._node, container=key, error=error)
            self._wake.set()
        # A pool's thread would swallow anything else without a word.
        except Exception as error:
            log.failure("work-bug", error, node=self._node, container=key)
        finally:
            with self._lock:
                self._busy.discard(key)
                was_ended = key in self._ended_while_busy
                self._ended_while_busy.discard(key)
        if is_done:
            self._follow_up(key, was_ended)

    def _follow_up(self, key: ContainerId, was_ended: bool) -> None:
        container = self._services.board.containers.get(key)
        if container is None or container.hold is None:
            return
        if container.hold.node != self._node:
            return
        if container.state is State.STOPPING or (
            was_ended and container.state is State.RUNNING
        ):
            self.conclude(key)
        elif container.state is State.PLACED:
            self._wake.set()


class Keepers:
    """The keepers of all nodes, by name."""

    def __init__(
        self,
        services: Services,
        make: Callable[[Services, str, NodeDriver], NodeKeeper] = NodeKeeper,
    ) -> None:
        self._services = services
        self._make = make
        self._keepers: dict[str, NodeKeeper] = {}
        self._lock = threading.Lock()

    def get(self, node: str) -> NodeKeeper | None:
        """The keeper of a node, or None."""
        return self._keepers.get(node)

    def restart(self, node: str) -> None:
        """(Re)connect to a node with its present settings."""
        view = self._services.fleet.get(node)
        if view is None:
            return
        driver = self._services.open_driver(view.settings)
        keeper = self._make(self._services, node, driver)
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
