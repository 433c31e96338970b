"""One container's way on its node: intent, image, create, start, record; and its end.

Does the steps in the order in which a crash between any two is harmless: each is safe
to repeat. Decides no outcome itself (see `ending`) and picks no node.
"""

from datetime import datetime, timedelta

from dorabatch import log
from dorabatch.daemon.runs.container_request import (
    container_wish,
    docker_name,
    shared_cores,
)
from dorabatch.daemon.runs.end_verdict import (
    EndCircumstances,
    Verdict,
    is_users_fault,
    verdict_on_exit,
    verdict_on_start_failure,
)
from dorabatch.daemon.runs.reconcile import ENDED_STATES
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.steps import Step
from dorabatch.db import Tx
from dorabatch.errors import (
    DorabatchError,
    ImagePullFailed,
    NodeError,
    Refused,
    StartFailed,
)
from dorabatch.node.container_spec import ContainerRequest
from dorabatch.node.driver import NodeDriver
from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId, Happening
from dorabatch.queue.states import State
from dorabatch.queue.transitions import (
    exited,
    running,
    starting,
    stopping,
    with_failures,
)


class Launcher:
    """Starts and ends the containers of one node."""

    def __init__(self, services: Services, node: str, driver: NodeDriver) -> None:
        self._services = services
        self._node = node
        self._driver = driver
        self._pools: dict[str, tuple[int, ...]] = {}
        self._images_seen: set[str] = set()

    def launch(self, container_id: ContainerId) -> None:
        """PLACED or STARTING -> RUNNING; on refusal -> STOPPING with the sentence."""
        container = self._intend_start(container_id)
        if container is None:
            return
        wish = container_wish(self._services, container, self._node)
        try:
            self._prepare_image(wish, container)
            docker_id = self._create(wish)
            self._clear_cores(container)
            self._driver.start(wish.identity.name)
        except (ImagePullFailed, StartFailed, Refused) as refusal:
            self._record_refusal(container, refusal)
            return
        self._services.steps.reach(Step.STARTED)
        self._record_start(container, docker_id)

    def conclude(self, container_id: ContainerId, *, was_docker_away: bool) -> None:
        """RUNNING but ended, or STOPPING -> confirmed gone and settled."""
        container = self._services.board.containers[container_id]
        if container.state not in (State.RUNNING, State.STOPPING):
            return
        name = docker_name(self._services, container)
        facts = self._driver.inspect(name)
        if container.state is State.RUNNING:
            if facts is not None and facts.state not in ENDED_STATES:
                return
            self._services.steps.reach(Step.END_SEEN)
            container = self._record_end(container, facts, was_docker_away)
        else:
            facts = self._stop(name, container, facts)
            container = self._record_stopped(container, facts)
        self._services.steps.reach(Step.END_RECORDED)
        self._save_log(name, container, facts)
        self._driver.remove(name)
        self._services.steps.reach(Step.REMOVED)
        self._confirm_gone(name)
        self._record_gone(container)

    def remove_orphan(self, name: str) -> None:
        """Stop and remove a container whose attempt is over."""
        grace = int(self._services.settings.launch.stop_grace_seconds)
        self._driver.stop(name, grace)
        self._driver.remove(name)

    def _intend_start(self, container_id: ContainerId) -> Container | None:
        container = self._services.board.containers[container_id]
        if container.state is State.STARTING:
            return container
        if container.state is not State.PLACED:
            return None
        after = starting(container)
        self._services.writer.do(
            lambda tx: store.save_containers(tx, [(container, after)])
        )
        self._services.steps.reach(Step.START_INTENDED)
        return after

    def _prepare_image(self, wish: ContainerRequest, container: Container) -> None:
        workload = self._services.board.workloads[container.workload_id]
        policy = spec_of(workload).image.pull_policy
        is_known = wish.image in self._images_seen or self._driver.has_image(wish.image)
        if policy == "Always" or (policy == "IfNotPresent" and not is_known):
            log.event("image-pull", node=self._node, image=wish.image)
            self._driver.pull(wish.image)
        elif not is_known:
            raise ImagePullFailed(
                f"image {wish.image!r} is not on node {self._node} and pullPolicy "
                "is Never"
            )
        self._images_seen.add(wish.image)
        self._services.steps.reach(Step.IMAGE_READY)

    def _create(self, wish: ContainerRequest) -> str:
        for mount in wish.mounts:
            self._driver.ensure_volume(mount)
        try:
            docker_id = self._driver.create(wish)
        except StartFailed:
            # The image may have been removed from the node behind our back.
            self._images_seen.discard(wish.image)
            raise
        self._services.steps.reach(Step.CREATED)
        return docker_id

    def _clear_cores(self, container: Container) -> None:
        """Move containers without cores of their own off the newly pinned ones."""
        hold = container.hold
        if hold is None or not hold.cores:
            return
        pool = shared_cores(self._services, self._node)
        for other in self._services.board.on_node(self._node):
            is_shared = other.hold is not None and not other.hold.cores
            if not is_shared or other.state is not State.RUNNING or not pool:
                continue
            name = docker_name(self._services, other)
            if self._pools.get(name) != pool:
                self._driver.update_cpuset(name, pool)
                self._pools[name] = pool

    def _record_start(self, container: Container, docker_id: str) -> None:
        now = self._services.clock.now()
        after = running(container, docker_id, now)

        def write(tx: Tx) -> None:
            store.save_containers(tx, [(container, after)])
            store.save_run_end(tx, after)
            text = f"attempt {after.attempt} started on {self._node}"
            store.insert_events(tx, [_event(after, now, "start", text)])

        self._services.writer.do(write)
        self._services.steps.reach(Step.START_RECORDED)

    def _record_refusal(self, container: Container, refusal: DorabatchError) -> None:
        now = self._services.clock.now()
        verdict = verdict_on_start_failure(
            container,
            refusal.message,
            is_final=isinstance(refusal, Refused) or is_users_fault(refusal.message),
            launch=self._services.settings.launch,
        )
        after = stopping(container, verdict.after, verdict.outcome, verdict.reason)
        after = with_failures(
            after,
            fast=container.fast_failures,
            start=container.start_failures + 1,
            ready_at=_ready_at(verdict, now),
        )
        self._write(container, after, "refused", verdict.reason)

    def _record_end(
        self, container: Container, facts: ContainerFacts | None, was_docker_away: bool
    ) -> Container:
        now = self._services.clock.now()
        workload = self._services.board.workloads[container.workload_id]
        verdict = verdict_on_exit(
            container,
            facts,
            restarts_always=spec_of(workload).config.restart_policy == "Always",
            circumstances=EndCircumstances(
                is_rebooted=self._is_rebooted(container),
                was_docker_away=was_docker_away,
            ),
            launch=self._services.settings.launch,
        )
        after = stopping(container, verdict.after, verdict.outcome, verdict.reason)
        after = with_failures(
            after,
            fast=verdict.fast_failures,
            start=0,
            ready_at=_ready_at(verdict, now),
        )
        after = self._with_exit(after, facts, now)
        self._write(container, after, "exit", verdict.reason)
        return after

    def _record_stopped(
        self, container: Container, facts: ContainerFacts | None
    ) -> Container:
        if container.ended_at is not None:
            return container
        now = self._services.clock.now()
        after = self._with_exit(container, facts, now)
        self._services.writer.do(
            lambda tx: store.save_containers(tx, [(container, after)])
        )
        return after

    def _with_exit(
        self, container: Container, facts: ContainerFacts | None, now: datetime
    ) -> Container:
        if facts is None or facts.state not in ENDED_STATES:
            return exited(container, exit_code=None, started_at=None, ended_at=now)
        shift = self._clock_shift()
        started = facts.started_at - shift if facts.started_at else None
        ended = facts.finished_at - shift if facts.finished_at else now
        return exited(
            container,
            exit_code=facts.exit_code if facts.started_at else None,
            started_at=started,
            ended_at=max(ended, started) if started else ended,
        )

    def _clock_shift(self) -> timedelta:
        view = self._services.fleet.get(self._node)
        facts = view.facts if view else None
        return timedelta(seconds=facts.clock_offset_seconds if facts else 0.0)

    def _is_rebooted(self, container: Container) -> bool:
        view = self._services.fleet.get(self._node)
        if container.hold is None or view is None or view.facts is None:
            return False
        then = container.hold.boot_id
        return bool(then) and then != view.facts.boot_id

    def _stop(
        self, name: str, container: Container, facts: ContainerFacts | None
    ) -> ContainerFacts | None:
        if facts is None or facts.state in ENDED_STATES:
            return facts
        if facts.state is not ContainerState.CREATED:
            workload = self._services.board.workloads[container.workload_id]
            grace = spec_of(workload).config.stop_grace_seconds
            default = self._services.settings.launch.stop_grace_seconds
            self._driver.stop(name, int(default if grace is None else grace))
            facts = self._driver.inspect(name)
        self._services.steps.reach(Step.STOPPED)
        return facts

    def _save_log(
        self, name: str, container: Container, facts: ContainerFacts | None
    ) -> None:
        if facts is not None and facts.started_at is not None:
            path = self._services.log_path(
                container.workload_id, container.replica, container.attempt
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            bound = self._services.settings.containers.log_bytes_max
            self._driver.save_log(name, path, bound)
        self._services.steps.reach(Step.LOG_SAVED)

    def _confirm_gone(self, name: str) -> None:
        if self._driver.inspect(name) is not None:
            raise NodeError(f"node {self._node}: container {name} is still there")

    def _record_gone(self, container: Container) -> None:
        now = self._services.clock.now()
        current = self._services.board.containers[container.container_id]

        def write(tx: Tx) -> None:
            settle_gone(tx, self._services.billing, current, now)
            self._services.usage.count_end(tx, current, now)

        self._services.writer.do(write)
        self._pools.pop(docker_name(self._services, container), None)
        self._services.steps.reach(Step.END_CONFIRMED)
        self._services.cycle_wanted.set()

    def _write(self, before: Container, after: Container, kind: str, text: str) -> None:
        now = self._services.clock.now()
        text = text or f"exit code {after.exit_code}"

        def write(tx: Tx) -> None:
            store.save_containers(tx, [(before, after)])
            store.insert_events(tx, [_event(after, now, kind, text)])

        self._services.writer.do(write)


def _ready_at(verdict: Verdict, now: datetime) -> datetime | None:
    if not verdict.wait_seconds:
        return None
    return now + timedelta(seconds=verdict.wait_seconds)


def _event(container: Container, at: datetime, kind: str, text: str) -> Happening:
    return Happening(
        workload_id=container.workload_id,
        at=at,
        replica=container.replica,
        kind=kind,
        text=text,
    )
