"""One container's way to RUNNING on its node: image, intent, create, start, record.

Does the steps in the order in which a crash between any two is harmless: each is safe
to repeat. Sees to it that the image is there, and that containers without cores of
their own leave those that a new one was given. Picks no node, and decides nothing about
a refusal (see `start_records`).
"""

from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.image_pulls import ImagePulls
from dorabatch.daemon.runs.start_records import StartRecords
from dorabatch.daemon.state.registries import Registries, registry_of
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.steps import Step, Steps
from dorabatch.errors import (
    ImagePullFailed,
    NodeError,
    NodeUnreachable,
    Refused,
    RegistrySilent,
    StartFailed,
)
from dorabatch.node.container_spec import ContainerRequest
from dorabatch.node.driver import NodeDriver
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId, Workload
from dorabatch.queue.states import State


class NodeImages:
    """The images of one node, as far as launches have seen them."""

    def __init__(
        self,
        node: str,
        driver: NodeDriver,
        registries: Registries,
        pulls: ImagePulls,
    ) -> None:
        self._node = node
        self._driver = driver
        self._registries = registries
        self._seen: set[str] = set()
        self.pulls = pulls

    def is_ready(self, container: Container, workload: Workload) -> bool:
        """Whether the workload's image is there; False while it is being fetched.

        Raises ImagePullFailed where it cannot be had. A registry that is known not to
        answer is not asked: RegistrySilent.
        """
        wanted = spec_of(workload).image
        image, policy = wanted.image, wanted.pull_policy
        is_known = image in self._seen or self._driver.has_image(image)
        if policy == "Always" or (policy == "IfNotPresent" and not is_known):
            attempt = (container.container_id, container.attempt)
            if not self.pulls.has(image, attempt):
                self._check_registry(image)
            if not self.pulls.is_done(image, attempt):
                return False
        elif not is_known:
            raise ImagePullFailed(
                f"image {image!r} is not on node {self._node} and pullPolicy is Never"
            )
        self._seen.add(image)
        return True

    def _check_registry(self, image: str) -> None:
        silent = self._registries.silent.get(registry_of(image))
        if silent is not None:
            raise RegistrySilent(silent.reason)

    def distrust(self, image: str) -> None:
        """An image may have been removed from the node behind our back."""
        self._seen.discard(image)


class SharedCores:
    """Which cores the sharing containers of one node were told to use."""

    def __init__(
        self, node: str, driver: NodeDriver, board: Board, requests: ContainerRequests
    ) -> None:
        self._node = node
        self._driver = driver
        self._board = board
        self._requests = requests
        self._told: dict[str, tuple[int, ...]] = {}

    def clear_for(self, container: Container) -> None:
        """Move containers without cores of their own off the newly pinned ones."""
        hold = container.hold
        if hold is None or not hold.cores:
            return
        cores = self._requests.shared_cores(self._node)
        for other in self._board.on_node(self._node):
            is_shared = other.hold is not None and not other.hold.cores
            if not is_shared or other.state is not State.RUNNING or not cores:
                continue
            name = self._requests.name_of(other)
            if self._told.get(name) != cores:
                self._driver.update_cpuset(name, cores)
                self._told[name] = cores

    def forget(self, name: str) -> None:
        """A container is gone."""
        self._told.pop(name, None)


class Launcher:
    """Starts the containers of one node."""

    def __init__(
        self,
        driver: NodeDriver,
        requests: ContainerRequests,
        images: NodeImages,
        cores: SharedCores,
        records: StartRecords,
        steps: Steps,
    ) -> None:
        self._driver = driver
        self._requests = requests
        self._images = images
        self._cores = cores
        self._records = records
        self._steps = steps

    def launch(self, container_id: ContainerId) -> bool:
        """PLACED or STARTING -> RUNNING; on refusal -> STOPPING with the sentence.

        It stays PLACED while its image is fetched, and holds no worker meanwhile:
        False, and whoever fetches asks for the next look.
        """
        container = self._records.to_start(container_id, self._driver.name)
        if container is None:
            return True
        if container.state is State.STARTING:
            self._start_again(container)
            return True
        try:
            is_ready = self._has_image(container)
        except ImagePullFailed as refusal:
            self._records.refused(container, refusal)
            return True
        if is_ready:
            intended = self._records.intend(container)
            if intended is not None:
                self._start(intended, self._requests.request(intended))
        return is_ready

    def _start_again(self, container: Container) -> None:
        """Go on with a start that was interrupted, where its container is there.

        Whether one that is not there has run nobody knows: the same attempt never
        starts again.
        """
        request = self._requests.request(container)
        if self._driver.inspect(request.identity.name) is None:
            self._records.start_lost(container)
        else:
            self._start(container, request)

    def _has_image(self, container: Container) -> bool:
        workload = self._requests.workload_of(container)
        is_ready = self._images.is_ready(container, workload)
        if is_ready:
            self._steps.reach(Step.IMAGE_READY)
        return is_ready

    def _start(self, container: Container, request: ContainerRequest) -> None:
        try:
            docker_id = self._create(request)
            self._cores.clear_for(container)
            boot_id = self._driver.boot_id()
            self._driver.start(request.identity.name)
        except (StartFailed, Refused) as refusal:
            self._records.refused(container, refusal)
            return
        self._steps.reach(Step.STARTED)
        self._records.started(container, docker_id, boot_id)

    def stop(self) -> None:
        """Fetch nothing more."""
        self._images.pulls.stop()

    def _create(self, request: ContainerRequest) -> str:
        self._make_volumes_ready(request)
        try:
            docker_id = self._driver.create(request)
        except StartFailed:
            self._images.distrust(request.image)
            raise
        self._steps.reach(Step.CREATED)
        return docker_id

    def _make_volumes_ready(self, request: ContainerRequest) -> None:
        for mount in request.mounts:
            try:
                self._driver.ensure_volume(mount)
            except NodeUnreachable:
                raise
            except NodeError as error:
                raise StartFailed(f"volume {mount.volume}: {error.message}") from error
