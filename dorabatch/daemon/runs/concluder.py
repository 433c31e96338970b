"""One container's way out: stopped, its log kept, removed, confirmed gone, settled.

Does the steps in the order in which a crash between any two is harmless: each is safe
to repeat. Gathers the facts by which an end is judged, and does nothing while they are
not to be had. Decides no outcome (see `EndRecords` in `start_records`).
"""

from dorabatch import log
from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.end_verdict import is_the_jobs
from dorabatch.daemon.runs.launcher import SharedCores
from dorabatch.daemon.runs.reconcile import ENDED_STATES
from dorabatch.daemon.runs.start_records import EndRecords
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.daemon.steps import Step, Steps
from dorabatch.errors import NodeError, NodeUnreachable
from dorabatch.node.driver import NodeDriver
from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State


class Concluder:
    """Ends the containers of one node."""

    def __init__(
        self,
        driver: NodeDriver,
        requests: ContainerRequests,
        cores: SharedCores,
        records: EndRecords,
        log_files: LogFiles,
        steps: Steps,
    ) -> None:
        self._driver = driver
        self._requests = requests
        self._cores = cores
        self._records = records
        self._log_files = log_files
        self._steps = steps

    def conclude(self, container_id: ContainerId) -> bool:
        """RUNNING but ended, or STOPPING -> confirmed gone and settled; whether it is.

        Nothing is done for one that runs on, or that has no place, or that nobody
        knows yet who ended: a later look finds it again. Nor for one that has another
        place by now, because it was ended without this node's word.
        """
        container = self._records.present(container_id)
        is_here = container.hold and container.hold.node == self._driver.name
        if not is_here or container.state not in (State.RUNNING, State.STOPPING):
            return False
        name = self._requests.name_of(container)
        facts = self._driver.inspect(name)
        if container.state is State.RUNNING:
            if facts is not None and facts.state not in ENDED_STATES:
                return False
            self._steps.reach(Step.END_SEEN)
            ended = self._ended(container, facts)
            if ended is None:
                return False
            container = ended
        else:
            facts = self._stop(name, container, facts)
            container = self._records.stopped(container, facts)
        self._steps.reach(Step.END_RECORDED)
        self._save_log(name, container, facts)
        self._driver.remove(name)
        self._steps.reach(Step.REMOVED)
        self._confirm_gone(name, container)
        self._records.gone(container)
        self._cores.forget(name)
        self._steps.reach(Step.END_CONFIRMED)
        return True

    def _ended(
        self, container: Container, facts: ContainerFacts | None
    ) -> Container | None:
        around = None
        if not is_the_jobs(facts):
            try:
                around = self._driver.circumstances(facts)
            except NodeUnreachable as error:
                # An old channel may answer on while dockerd goes down: not yet known.
                log.detail("end-not-known", node=self._driver.name, error=error)
                return None
        return self._records.ended(container, facts, around)

    def remove_orphan(self, name: str) -> None:
        """Stop and remove a container whose attempt is over."""
        self._driver.stop(name, self._requests.grace_seconds())
        self._driver.remove(name)

    def _stop(
        self, name: str, container: Container, facts: ContainerFacts | None
    ) -> ContainerFacts | None:
        if facts is None or facts.state in ENDED_STATES:
            return facts
        if facts.state is not ContainerState.CREATED:
            self._driver.stop(name, self._requests.grace_seconds(container))
            facts = self._driver.inspect(name)
        self._steps.reach(Step.STOPPED)
        return facts

    def _save_log(
        self, name: str, container: Container, facts: ContainerFacts | None
    ) -> None:
        if facts is not None and facts.started_at is not None:
            path = self._log_files.path(
                container.workload_id, container.replica, container.attempt
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            self._driver.save_log(name, path, self._requests.log_bytes_max)
        self._steps.reach(Step.LOG_SAVED)

    def _confirm_gone(self, name: str, container: Container) -> None:
        if self._driver.inspect(name) is not None:
            node = container.hold.node if container.hold else ""
            raise NodeError(f"node {node}: container {name} is still there")
