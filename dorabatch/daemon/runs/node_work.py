"""What one node should run, what is open there, and the work on it.

A bounded pool, never two at once on one container. What is worked on is written and
read under a lock, by the keeper's threads and by the workers. Decides nothing:
`reconcile` says what is open, `Launcher` and `Concluder` do it.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import NodeSettings
from dorabatch.daemon.runs.concluder import Concluder
from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.launcher import Launcher
from dorabatch.daemon.runs.reconcile import Correction, Duty, Orphan, orphans, reconcile
from dorabatch.daemon.runs.registry_trials import RegistryTrials
from dorabatch.daemon.state.registries import SilentRegistry
from dorabatch.daemon.state.threads import outlived
from dorabatch.errors import ConflictError, NodeError
from dorabatch.node.facts import ContainerFacts
from dorabatch.node.identity import parse_identity
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId, WorkloadId
from dorabatch.queue.states import State

_WAIT_SECONDS_MIN = 0.05


PastAttempts = Callable[[Collection[int]], Mapping[tuple[int, int], int]]
"""The latest attempt of each (workload, replica) of these workloads on disk."""


class ExpectedRuns:
    """The containers of one node as the board has them.

    `past_attempts` tells of workloads that the board forgot, long after their end.
    """

    def __init__(
        self,
        node: str,
        board: Board,
        requests: ContainerRequests,
        clock: Clock,
        settings: NodeSettings,
        past_attempts: PastAttempts,
    ) -> None:
        self.node = node
        self._board = board
        self._past_attempts = past_attempts
        self._requests = requests
        self._clock = clock
        self._settings = settings
        self._ownerless_since: dict[str, datetime] = {}

    @property
    def cluster_id(self) -> str:
        """Whose containers are looked for on the node."""
        return self._requests.identity.cluster_id

    def now(self) -> datetime:
        """This moment."""
        return self._clock.now()

    def here(self) -> list[Container]:
        """Everything that holds something on the node."""
        return self._board.on_node(self.node)

    def held_gpus(self) -> frozenset[str]:
        """The GPUs that something holds on the node."""
        holds = (one.hold for one in self.here())
        return frozenset(uuid for hold in holds if hold for uuid in hold.gpus)

    def find(self, container_id: ContainerId) -> Container | None:
        """A container, where it is the node's now."""
        container = self._board.containers.get(container_id)
        if container is None or container.hold is None:
            return None
        return container if container.hold.node == self.node else None

    def corrections(
        self, some: Sequence[Container], observed: Mapping[str, ContainerFacts]
    ) -> list[Correction]:
        """What is open for some of its containers, by what was seen."""
        names = {c.container_id: self._requests.name_of(c) for c in some}
        return reconcile(some, observed, names, self._clock.now())

    def orphans(
        self, observed: Mapping[str, ContainerFacts], *, at_once: bool = False
    ) -> list[Orphan]:
        """What was seen, belongs to nobody any more, and did so for long enough.

        All of it `at_once` where the node is not used before it is gone.
        """
        now = self._clock.now()
        current = frozenset(self._requests.name_of(one) for one in self.here())
        current |= {name for name, facts in observed.items() if self._is_held(facts)}
        ownerless = [name for name in observed if name not in current]
        since = self._ownerless_since
        self._ownerless_since = {name: since.get(name, now) for name in ownerless}
        return orphans(
            observed,
            self._attempts_on_record(observed),
            current_names=current,
            known_since=self._ownerless_since,
            now=now,
            grace_seconds=0 if at_once else self._settings.orphan_grace_seconds,
        )

    def present_attempt(self, labels: Mapping[str, str]) -> ContainerId | None:
        """The container whose present attempt has these labels."""
        identity = parse_identity(labels)
        if identity is None:
            return None
        found = self._on_record(identity.workload_id, identity.replica)
        is_present = found is not None and found.attempt == identity.attempt
        return found.container_id if found is not None and is_present else None

    def seconds_to_next_look(self, due: datetime | None = None) -> float:
        """At most the usual time; less where something is due before."""
        seconds, now = self._settings.poll_seconds, self._clock.now()
        if due is not None:
            seconds = min(seconds, max((due - now).total_seconds(), _WAIT_SECONDS_MIN))
        for one in self.here():
            if one.state is State.PLACED and one.ready_at is not None:
                wait = (one.ready_at - now).total_seconds()
                seconds = min(seconds, max(wait, _WAIT_SECONDS_MIN))
        return seconds

    def _attempts_on_record(
        self, observed: Mapping[str, ContainerFacts]
    ) -> dict[tuple[int, int], int]:
        known, forgotten = {}, set()
        for facts in observed.values():
            identity = parse_identity(facts.labels)
            if identity is None:
                continue
            found = self._on_record(identity.workload_id, identity.replica)
            if found is not None:
                known[identity.workload_id, identity.replica] = found.attempt
            else:
                forgotten.add(identity.workload_id)
        return {**known, **self._past_attempts(forgotten)} if forgotten else known

    def _is_held(self, facts: ContainerFacts) -> bool:
        """Whether it is what an attempt holds now, be it by another node's name.

        An attempt is on one machine only, so that node is this machine.
        """
        container_id = self.present_attempt(facts.labels)
        found = self._board.containers.get(container_id) if container_id else None
        return found is not None and found.hold is not None

    def _on_record(self, workload_id: int, replica: int) -> Container | None:
        replicas = self._board.replicas.get(WorkloadId(workload_id), {})
        container_id = replicas.get(replica)
        return None if container_id is None else self._board.containers[container_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakeups:
    """What a node's work asks of others: a cycle, and a look at the node."""

    cycle: threading.Event
    look: threading.Event


class NodeWork:
    """The work on the containers of one node; `wake` asks for a look at the node."""

    def __init__(
        self,
        expected: ExpectedRuns,
        launcher: Launcher,
        concluder: Concluder,
        trials: RegistryTrials,
        workers: Executor,
        wanted: Wakeups,
    ) -> None:
        self._expected = expected
        self._trials = trials
        self._launcher = launcher
        self._concluder = concluder
        self.workers = workers
        self.wake = wanted.look
        self._cycle_wanted = wanted.cycle
        self._lock = threading.Lock()
        self._busy: set[ContainerId] = set()
        self._ended_while_busy: set[ContainerId] = set()
        self._asked_while_busy: set[ContainerId] = set()
        self._is_over = False

    def seconds_to_next_look(self) -> float:
        """How long to wait for a look at the node where nobody asks for one."""
        return self._expected.seconds_to_next_look(self._trials.next_at())

    def assign(self, correction: Correction) -> None:
        """Do it as soon as a worker is free, unless the container is worked on."""
        key = correction.container_id
        with self._lock:
            if self._is_over:
                return
            if key in self._busy:
                is_end = correction.duty is Duty.CONCLUDE
                missed = self._ended_while_busy if is_end else self._asked_while_busy
                missed.add(key)
                return
            # In this order: what could not be handed over is not worked on. The lock
            # keeps its worker from being done before it is known to be busy.
            self.workers.submit(self._work, correction)
            self._busy.add(key)

    def conclude(self, container_id: ContainerId) -> None:
        """Stop or bury a container as soon as a worker is free."""
        self.assign(Correction(container_id=container_id, duty=Duty.CONCLUDE))

    def try_registry(self) -> None:
        """Try one that is due, as soon as a worker is free."""
        found = self._trials.take_due()
        if found is None:
            return
        with self._lock:
            if not self._is_over:
                self.workers.submit(self._try, found)
                return
        self._trials.give_back(found)

    def idle(self) -> list[Container]:
        """The node's containers that nobody works on."""
        with self._lock:
            busy = set(self._busy)
        return [one for one in self._expected.here() if one.container_id not in busy]

    def has_strays(self) -> bool:
        """Whether somebody works on a container that is not the node's any more."""
        with self._lock:
            busy = set(self._busy)
        return any(self._expected.find(key) is None for key in busy)

    def remove_orphan(self, name: str) -> None:
        """Stop and remove a container whose attempt is over, at once."""
        self._concluder.remove_orphan(name)

    def stop(self) -> None:
        """Begin nothing more; what is being done is finished."""
        with self._lock:
            self._is_over = True
        self.workers.shutdown(wait=False, cancel_futures=True)
        self._launcher.stop()

    def _try(self, silent: SilentRegistry) -> None:
        outlived(
            "work-bug",
            partial(self._trials.try_again, silent),
            node=self._expected.node,
            registry=silent.name,
        )

    def _work(self, correction: Correction) -> None:
        # A pool's thread would swallow an error without a word.
        outlived(
            "work-bug",
            partial(self._work_on, correction),
            node=self._expected.node,
            container=correction.container_id,
        )

    def _work_on(self, correction: Correction) -> None:
        key = correction.container_id
        is_done = waits = False
        try:
            is_done = self._do(correction)
            waits = not is_done
        except ConflictError as error:
            # Somebody changed the record meanwhile: the follow-up sees what is left.
            node = self._expected.node
            log.detail("work-overtaken", node=node, container=key, error=error)
            is_done = True
        except NodeError as error:
            # The next look sees what is left, and not at once: a node that is going
            # down still answers looks while it refuses work.
            if not self._is_over:
                node = self._expected.node
                log.warning("work-failed", node=node, container=key, error=error)
        finally:
            with self._lock:
                self._busy.discard(key)
                was_ended = key in self._ended_while_busy
                was_asked = key in self._asked_while_busy
                self._ended_while_busy.discard(key)
                self._asked_while_busy.discard(key)
        if is_done:
            self._follow_up(key, was_ended)
        elif waits and was_asked:
            # What it waits for may have come while nobody could tell it.
            self.wake.set()

    def _do(self, correction: Correction) -> bool:
        """Whether the next step may be done at once; else it is waited for."""
        key = correction.container_id
        if correction.duty is Duty.LAUNCH:
            return self._launcher.launch(key)
        if self._concluder.conclude(key):
            self._cycle_wanted.set()
        return True

    def _follow_up(self, key: ContainerId, was_ended: bool) -> None:
        container = self._expected.find(key)
        if container is None:
            return
        if container.state is State.STOPPING or (
            was_ended and container.state is State.RUNNING
        ):
            self.conclude(key)
        elif container.state is State.PLACED:
            self.wake.set()
