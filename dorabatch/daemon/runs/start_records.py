"""What is written down of a run on its node: its start, a refusal, its end.

Asks `end_verdict` what follows an end, and writes it in one transaction guarded by the
container's `rev`. Acts on no node, and tells nobody what to do next.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import LaunchSettings
from dorabatch.daemon.runs.end_verdict import (
    Verdict,
    is_open,
    verdict_on_exit,
    verdict_on_lost_start,
    verdict_on_start_failure,
)
from dorabatch.daemon.runs.reconcile import ENDED_STATES
from dorabatch.daemon.runs.refusing_nodes import RefusingNodes
from dorabatch.daemon.runs.run_span import run_span
from dorabatch.daemon.runs.settle import Settlement, change_told
from dorabatch.daemon.runs.start_fault import Fault, fault_of
from dorabatch.daemon.state.avoided_nodes import AvoidedNodes
from dorabatch.daemon.state.registries import Registries
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.steps import Step, Steps
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError, DorabatchError, RegistrySilent
from dorabatch.node.facts import Circumstances, ContainerFacts
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import AfterStop, State
from dorabatch.queue.transitions import (
    exited,
    running,
    starting,
    stopping,
    with_failures,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedStarts:
    """What refused starts teach: registries, nodes, and who keeps away from which."""

    registries: Registries
    avoided: AvoidedNodes
    nodes: RefusingNodes
    clock: Clock
    launch: LaunchSettings

    def keep(self, container: Container, image: str, words: str) -> str:
        """Let a container wait for its registry, which gave no answer; the reason."""
        found = self.registries.keep(container, image, words, self.clock.now())
        key = container.container_id
        log.event("registry-silent", registry=found.name, container=key, reason=words)
        return f"registry {found.name} does not answer: {words}"

    def note(self, container: Container, fault: Fault, words: str) -> None:
        """Keep its workload away from the node for a while, and suspect the node."""
        if container.hold is None:
            return
        # The network of this one node may be what is broken.
        is_registrys = fault is Fault.REGISTRY
        launch = self.launch
        self.avoided.avoid(
            container.workload_id,
            container.hold.node,
            words,
            seconds=launch.registry_retry_seconds
            if is_registrys
            else launch.avoid_node_seconds,
            now=self.clock.now(),
        )
        if fault is Fault.NODE:
            self.nodes.refused(container, words)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecords:
    """The starts of a zone's containers."""

    board: Board
    writer: Writer
    clock: Clock
    steps: Steps
    refused_starts: RefusedStarts
    launch: LaunchSettings

    def to_start(self, container_id: ContainerId, node: str) -> Container | None:
        """A container that is PLACED or STARTING there; None: it is not to be started.

        It may have another place by now: it was ended without this node's word.
        """
        container = self.board.containers[container_id]
        is_open = container.state in (State.PLACED, State.STARTING)
        is_here = container.hold is not None and container.hold.node == node
        return container if is_open and is_here else None

    def intend(self, wanted: Container) -> Container | None:
        """PLACED -> STARTING, once; None where it is not to be started any more.

        Nor is another attempt than was looked at: that one may be elsewhere.
        """
        container = self.board.containers[wanted.container_id]
        is_same = container.attempt == wanted.attempt
        if container.state is not State.PLACED or not is_same:
            return None
        after = starting(container)
        self.writer.do(lambda tx: store.save_containers(tx, [(container, after)]))
        self.steps.reach(Step.START_INTENDED)
        return after

    def started(self, container: Container, docker_id: str, boot_id: str) -> None:
        """STARTING -> RUNNING, on this boot of its node."""
        now = self.clock.now()
        after = running(container, docker_id, now)
        if after.hold is not None:
            after = replace(after, hold=replace(after.hold, boot_id=boot_id))
        node = after.hold.node if after.hold else ""
        text = f"attempt {after.attempt} started on {node}"

        def write(tx: Tx) -> None:
            change_told(tx, container, after, kind="start", text=text, now=now)
            store.save_run_end(tx, after)

        self.writer.do(write)
        if self.refused_starts.nodes.suspects:
            self.refused_starts.nodes.started(after)
        self.steps.reach(Step.START_RECORDED)

    def refused(self, container: Container, refusal: DorabatchError) -> None:
        """PLACED or STARTING -> STOPPING, with the sentence and what follows."""
        mounts = self._mounts(container)
        fault, words = fault_of(refusal, mounts), refusal.message
        if fault is Fault.REGISTRY:
            words = self.refused_starts.keep(container, self._image(container), words)
        verdict = verdict_on_start_failure(container, words, fault, self.launch)
        self._stop(container, verdict)
        # What was not even tried says nothing of its node.
        is_tried = not isinstance(refusal, RegistrySilent)
        if is_tried and verdict.after is AfterStop.REQUEUE:
            self.refused_starts.note(container, fault, words)

    def start_lost(self, container: Container) -> None:
        """STARTING -> STOPPING: its start was begun and its container is not there."""
        self._stop(container, verdict_on_lost_start(container, self.launch))

    def _stop(self, container: Container, verdict: Verdict) -> None:
        now = self.clock.now()
        after = stopping(container, verdict.after, verdict.outcome, verdict.reason)
        after = with_failures(
            after,
            fast=container.fast_failures,
            lost=verdict.lost_requeues,
            ready_at=verdict.next_try_at(now),
        )
        self.writer.do(
            lambda tx: change_told(
                tx, container, after, kind="refused", text=verdict.told, now=now
            )
        )

    def _mounts(self, container: Container) -> list[str]:
        workload = self.board.workloads[container.workload_id]
        return [one.target for one in spec_of(workload).volumes]

    def _image(self, container: Container) -> str:
        return spec_of(self.board.workloads[container.workload_id]).image.image


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecords:
    """The ends of a zone's runs."""

    board: Board
    writer: Writer
    clock: Clock
    settlement: Settlement
    launch: LaunchSettings

    def present(self, container_id: ContainerId) -> Container:
        """A container as it stands now."""
        return self.board.containers[container_id]

    def ended(
        self,
        container: Container,
        facts: ContainerFacts | None,
        around: Circumstances | None,
    ) -> Container | None:
        """RUNNING -> STOPPING: it ended without being asked to.

        None, and nothing is written, while it is not known who ended it.
        """
        if is_open(facts, around):
            return None
        now = self.clock.now()
        workload = self.board.workloads[container.workload_id]
        verdict = verdict_on_exit(
            container,
            facts,
            restarts_always=spec_of(workload).config.restart_policy == "Always",
            around=around,
            launch=self.launch,
        )
        after = stopping(container, verdict.after, verdict.outcome, verdict.reason)
        after = with_failures(
            after,
            fast=verdict.fast_failures,
            lost=verdict.lost_requeues,
            ready_at=verdict.next_try_at(now),
        )
        after = self._with_exit(after, facts, now)
        text = verdict.told or f"exit code {after.exit_code}"
        self.writer.do(
            lambda tx: change_told(
                tx, container, after, kind="exit", text=text, now=now
            )
        )
        return after

    def stopped(self, container: Container, facts: ContainerFacts | None) -> Container:
        """One that was asked to stop has: when, and with which exit code."""
        if container.ended_at is not None:
            return container
        after = self._with_exit(container, facts, self.clock.now())
        self.writer.do(lambda tx: store.save_containers(tx, [(container, after)]))
        return after

    def gone(self, container: Container) -> None:
        """Nothing is left of the attempt on its node: settled, and what follows.

        Raises ConflictError for one that was ended without its node meanwhile.
        """
        now = self.clock.now()
        current = self.present(container.container_id)
        is_same = current.attempt == container.attempt
        if not is_same or current.state is not State.STOPPING:
            raise ConflictError(
                f"attempt {container.attempt} was ended without its node meanwhile"
            )
        self.writer.do(lambda tx: self.settlement.settle(tx, current, now))

    def _with_exit(
        self, container: Container, facts: ContainerFacts | None, now: datetime
    ) -> Container:
        if facts is None or facts.state not in ENDED_STATES:
            return exited(container, exit_code=None, started_at=None, ended_at=now)
        started, ended = run_span(container.started_at, facts, now)
        return exited(
            container,
            exit_code=facts.exit_code if facts.started_at else None,
            started_at=started,
            ended_at=ended,
        )
