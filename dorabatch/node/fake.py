"""Keeps a node in memory that obeys the driver's interface and fails on cue.

Never opens a connection, never reads a clock of its own and never decides anything
that a real node would not.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from dorabatch.errors import (
    DorabatchError,
    ImagePullFailed,
    InvariantError,
    NodeError,
    NodeUnreachable,
    StartFailed,
)
from dorabatch.node.container_spec import (
    WHOLE_GPU_MILLI,
    ContainerRequest,
    MountRequest,
    check_mount,
    create_body,
)
from dorabatch.node.docker_streams import write_tail
from dorabatch.node.driver import (
    DockerVersion,
    PullProgress,
    RegistryAuth,
    SavedLog,
)
from dorabatch.node.facts import (
    Circumstances,
    ContainerEvent,
    ContainerFacts,
    ContainerState,
    ImageFacts,
    NodeFacts,
)
from dorabatch.node.fake_container import FakeContainer, is_adoptable, summary_of
from dorabatch.node.fake_streams import FakeEventStream, FakeLogStream
from dorabatch.node.identity import CLUSTER_LABEL

ANY_IMAGE = "*"
LOST_EXIT_CODE = 255
_EMPTY_NODE = NodeFacts(
    hostname="fake",
    boot_id="boot-1",
    cores=(0, 1, 2, 3),
    cpu_model="none",
    memory_mib=16384,
    docker_version="fake",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedFailure:
    error: DorabatchError
    is_after: bool


class FakeNode:
    """A NodeDriver in memory; the plain methods at the end are for tests."""

    def __init__(
        self,
        name: str = "fake",
        *,
        now: Callable[[], datetime],
        facts: NodeFacts | None = None,
        images: tuple[str, ...] = (ANY_IMAGE,),
    ) -> None:
        self._name = name
        self._now = now
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._failures: dict[int, _PlannedFailure] = {}
        self._is_cut = False
        self._is_closed = False
        self._streams: list[FakeEventStream] = []
        self._boots = 1
        self._booted_at = self._docker_began_at = now()
        self._is_going_down = False
        self._made = 0
        self.facts = facts or replace(_EMPTY_NODE, hostname=name)
        self.images = set(images)
        self.registry = {ANY_IMAGE}
        self.volumes: dict[str, MountRequest] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[int, str, str]] = []
        self.violations: list[str] = []
        self.refuses = self.no_registry = ""
        self.hang: threading.Event | None = None
        self.when_started: Callable[[FakeNode, str], None] | None = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self._name

    def ping(self) -> None:
        """Return when the node can be reached."""
        with self._call("ping"):
            pass

    def version(self) -> DockerVersion:
        """Made-up versions."""
        with self._call("version"):
            return DockerVersion(
                version=self.facts.docker_version,
                api_version="1.41",
                os="linux",
                architecture="amd64",
            )

    def probe(self) -> NodeFacts:
        """What the test says the node has."""
        with self._call("probe"):
            return self.facts

    def has_image(self, image: str) -> bool:
        """True for an image that is there, and for all where "*" is."""
        with self._call("has_image", image):
            return bool({image, ANY_IMAGE} & self.images)

    def list_images(self) -> tuple[ImageFacts, ...]:
        """The images that are there."""
        with self._call("list_images"):
            return tuple(
                ImageFacts(image_id=f"sha256:{name}", references=(name,), size_bytes=1)
                for name in sorted(self.images - {ANY_IMAGE})
            )

    def pull(
        self,
        image: str,
        on_progress: Callable[[PullProgress], None] | None = None,
        auth: RegistryAuth | None = None,
    ) -> None:
        """Take the image from the fake registry."""
        del auth
        with self._call("pull", image):
            if self.no_registry:
                raise ImagePullFailed(f"image {image}: {self.no_registry}")
            if not {image, ANY_IMAGE} & self.registry:
                raise ImagePullFailed(f"image {image}: manifest unknown")
            if on_progress is not None:
                on_progress(PullProgress(status="Pull complete", layer="1"))
            self.images.add(image)

    def ensure_volume(self, mount: MountRequest) -> None:
        """Remember the volume."""
        check_mount(mount)
        with self._call("ensure_volume", mount.volume):
            found = self.volumes.get(mount.volume)
            is_other = found is not None and dict(found.driver_opts) != dict(
                mount.driver_opts
            )
            if is_other and self._users_of(mount.volume):
                raise NodeError(
                    f"node {self.name}: volume {mount.volume} has changed options, but "
                    "a container still uses the old ones"
                )
            self.volumes[mount.volume] = mount

    def remove_volume(self, name: str) -> None:
        """Forget the volume."""
        with self._call("remove_volume", name):
            if self._users_of(name):
                raise NodeError(f"node {self.name}: volume {name} is in use")
            self.volumes.pop(name, None)

    def create(self, wish: ContainerRequest) -> str:
        """Create the run's container, or adopt it; return its id."""
        labels = create_body(wish)["Labels"]
        name = wish.identity.name
        with self._call("create", name):
            if not {wish.image, ANY_IMAGE} & self.images:
                raise StartFailed(
                    f"node {self.name}: create {name}: No such image: {wish.image}"
                )
            holder = self.containers.get(name)
            if holder is not None and is_adoptable(self.name, wish, holder.facts):
                return holder.facts.container_id
            self._made += 1
            facts = ContainerFacts(
                name=name,
                container_id=f"{self._made:064x}",
                labels=dict(labels) if isinstance(labels, dict) else {},
                state=ContainerState.CREATED,
            )
            self.containers[name] = FakeContainer(wish, facts)
            self._tell("create", facts)
            return facts.container_id

    def start(self, name: str) -> None:
        """Start the container unless it was started before, ended or not."""
        with self._call("start", name):
            container = self.containers.get(name)
            if container is None:
                raise StartFailed(f"node {self.name}: start {name}: no such container")
            if container.facts.state is not ContainerState.CREATED:
                return
            if self.refuses:
                raise StartFailed(f"node {self.name}: start {name}: {self.refuses}")
            self._check_gpus(container)
            self._change(
                container,
                "start",
                state=ContainerState.RUNNING,
                started_at=self._now(),
                pid=1000 + self._made,
            )
            if self.when_started is not None:
                self.when_started(self, name)

    def inspect(self, name: str) -> ContainerFacts | None:
        """Everything about one container; None when there is none."""
        with self._call("inspect", name):
            container = self.containers.get(name)
            return None if container is None else container.facts

    def boot_id(self) -> str:
        """Which boot this is."""
        with self._call("boot_id"):
            return self.facts.boot_id

    def circumstances(self, ended: ContainerFacts | None) -> Circumstances:
        """What to judge an end by; NodeUnreachable while dockerd is going down."""
        with self._call("circumstances"):
            if self._is_going_down:
                raise NodeUnreachable(f"node {self.name}: dockerd is going down")
            one = self.containers.get(ended.name) if ended else None
            return Circumstances(
                boot_id=self.facts.boot_id,
                now=self._now(),
                booted_at=self._booted_at,
                docker_began_at=self._docker_began_at,
                was_signalled=one is not None and one.was_signalled,
            )

    def list_ours(self, cluster_id: str) -> tuple[ContainerFacts, ...]:
        """Summaries of all containers with the cluster's label."""
        with self._call("list_ours"):
            return tuple(
                summary_of(container.facts)
                for container in self.containers.values()
                if container.facts.labels.get(CLUSTER_LABEL) == cluster_id
            )

    def stop(self, name: str, grace_seconds: int) -> None:
        """End it; the fake job always obeys its stop signal."""
        del grace_seconds
        with self._call("stop", name):
            self._end(name, 143, signalled=True)

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """End it, except by signals that jobs only listen to."""
        with self._call("kill", name):
            if signal in ("SIGKILL", "SIGTERM", "SIGINT"):
                code = 137 if signal == "SIGKILL" else 143
                self._end(name, code, signalled=True)

    def remove(self, name: str) -> None:
        """End and delete it."""
        with self._call("remove", name):
            self._end(name, 137)
            container = self.containers.pop(name, None)
            if container is not None:
                self._tell("destroy", container.facts)

    def update_cpuset(self, name: str, cores: tuple[int, ...]) -> None:
        """Remember the cores."""
        with self._call("update_cpuset", name):
            self._get(name).cores = cores

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: datetime | None = None,
    ) -> FakeLogStream:
        """Read what tests wrote; a fake line knows no time."""
        del since
        with self._call("logs", name):
            container = self._get(name)
            start = 0
            if tail is not None:
                lines = bytes(container.output).splitlines(keepends=True)
                start = sum(map(len, lines[: max(0, len(lines) - tail)]))
            return FakeLogStream(
                self._changed,
                container.output,
                start,
                is_over=lambda: not follow or self._has_stopped(name, container),
                check=self._check_link,
            )

    def save_log(self, name: str, path: Path, max_bytes: int) -> SavedLog:
        """Write the last max_bytes of the output to a file, all or nothing."""
        with self.logs(name) as stream:
            return write_tail(stream, path, max_bytes)

    def events(self, cluster_id: str, since: datetime | None = None) -> FakeEventStream:
        """Follow what happens to the cluster's containers from here on."""
        del since
        with self._call("events"):
            stream = FakeEventStream(self._changed, cluster_id, self._check_link)
            self._streams.append(stream)
            return stream

    def is_alive(self) -> bool:
        """True unless cut or closed."""
        return not (self._is_cut or self._is_closed)

    def disconnect(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Refuse every later call."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def fail_call(
        self, number: int, error: DorabatchError, *, after: bool = False
    ) -> None:
        """Let the number-th call from here fail, before or after its effect."""
        with self._lock:
            planned = _PlannedFailure(error=error, is_after=after)
            self._failures[len(self.calls) + number] = planned

    def cut(self) -> None:
        """Lose the node; its containers run on."""
        with self._changed:
            self._is_cut = True
            self._changed.notify_all()

    def mend(self) -> None:
        """Find the node again."""
        with self._changed:
            self._is_cut = False

    def reboot(self) -> None:
        """Restart the machine: a new boot id, and nothing runs any more."""
        with self._changed:
            self._boots += 1
            self.facts = replace(self.facts, boot_id=f"boot-{self._boots}")
            for name in list(self.containers):
                self._end(name, LOST_EXIT_CODE)
            self.start_docker()
            self._booted_at = self._docker_began_at

    def stop_docker(self) -> None:
        """Tell dockerd to end: it stops what runs, and answers old channels yet."""
        with self._changed:
            self._is_going_down = True
            self._backdate()
            for name in list(self.containers):
                self._end(name, 143, signalled=True)

    def start_docker(self) -> None:
        """Another dockerd comes up, stops what still runs, and knows no signals."""
        with self._changed:
            self._is_going_down = False
            for name in list(self.containers):
                self._end(name, 137)
            self._backdate()
            self._docker_began_at = self._now()
            for one in self.containers.values():
                one.was_signalled = False

    def exit(self, name: str, code: int, *, oom: bool = False) -> None:
        """Let the job end by itself."""
        with self._changed:
            self._end(name, code, oom=oom)

    def write(self, name: str, data: bytes) -> None:
        """Let the job write to its output."""
        with self._changed:
            self._get(name).output.extend(data)
            self._changed.notify_all()

    @contextmanager
    def _call(self, operation: str, subject: str = "") -> Iterator[None]:
        """The one place where calls are counted and made to fail."""
        with self._lock:
            number = len(self.calls) + 1
            self.calls.append((number, operation, subject))
            failure = self._failures.pop(number, None)
            hang = self.hang
        if hang is not None:
            hang.wait()
        with self._lock:
            self._check_link()
            if failure is not None and not failure.is_after:
                raise failure.error
            yield
            if failure is not None:
                raise failure.error

    def _check_link(self) -> None:
        if self._is_closed:
            raise NodeUnreachable(f"node {self.name}: its driver is closed")
        if self._is_cut:
            raise NodeUnreachable(f"node {self.name}: connection lost")

    def _get(self, name: str) -> FakeContainer:
        container = self.containers.get(name)
        if container is None:
            raise NodeError(f"node {self.name}: No such container: {name}")
        return container

    def _users_of(self, volume: str) -> list[str]:
        return [
            name
            for name, container in self.containers.items()
            if any(mount.volume == volume for mount in container.wish.mounts)
        ]

    def _has_stopped(self, name: str, container: FakeContainer) -> bool:
        is_there = self.containers.get(name) is container
        return not is_there or container.facts.has_ended

    def _check_gpus(self, starting: FakeContainer) -> None:
        """Giving a GPU away more than once is what must never happen."""
        known = {gpu.uuid for gpu in self.facts.gpus}
        for uuid in starting.wish.gpu_uuids:
            if known and uuid not in known:
                name = starting.facts.name
                raise StartFailed(f"node {self.name}: start {name}: no GPU {uuid}")
            users = [
                other
                for other in self.containers.values()
                if other.facts.state is ContainerState.RUNNING
                and uuid in other.wish.gpu_uuids
            ]
            given = starting.wish.gpu_milli + sum(u.wish.gpu_milli for u in users)
            if given > WHOLE_GPU_MILLI:
                self.violations += [
                    f"GPU {uuid} is given to {starting.facts.name} while "
                    f"{user.facts.name} has it"
                    for user in users
                ]

    def _end(
        self, name: str, code: int, *, oom: bool = False, signalled: bool = False
    ) -> None:
        container = self.containers.get(name)
        if container is None or container.facts.state is not ContainerState.RUNNING:
            return
        container.was_signalled = signalled
        if oom:
            self._tell("oom", container.facts)
        self._change(
            container,
            "die",
            state=ContainerState.EXITED,
            exit_code=code,
            finished_at=self._now(),
            oom_killed=oom,
            pid=None,
        )

    def _backdate(self) -> None:
        """They began before the next dockerd, also on a clock that stands still."""
        before = self._now() - timedelta(microseconds=1)
        for one in self.containers.values():
            if one.facts.started_at is not None and one.facts.started_at > before:
                one.facts = replace(one.facts, started_at=before)

    def _change(self, container: FakeContainer, action: str, **fields: object) -> None:
        container.facts = replace(container.facts, **fields)  # type: ignore[arg-type]
        self._tell(action, container.facts)

    def _tell(self, action: str, facts: ContainerFacts) -> None:
        event = ContainerEvent(
            action=action,
            name=facts.name,
            container_id=facts.container_id,
            labels=facts.labels,
            exit_code=facts.exit_code if action == "die" else None,
            at=self._now(),
        )
        self._streams = [stream for stream in self._streams if stream.offer(event)]
        self._changed.notify_all()


def check_no_violation(node: FakeNode) -> None:
    """Stop with InvariantError when the node saw what must never happen."""
    if node.violations:
        raise InvariantError("; ".join(node.violations))
