"""The interface of one node that the daemon works with, and its small values.

Does nothing itself: docker_driver drives a real node, fake keeps one in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

from dorabatch.node.container_spec import ContainerRequest, MountRequest
from dorabatch.node.facts import (
    Circumstances,
    ContainerEvent,
    ContainerFacts,
    ImageFacts,
    NodeFacts,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerVersion:
    """Which dockerd a node runs and which API is spoken with it."""

    version: str
    api_version: str
    os: str
    architecture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """One line of a pull, for one layer; bytes are known while it downloads."""

    status: str
    layer: str = ""
    current_bytes: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """How to log in at a registry."""

    username: str
    password: str
    server: str = ""

    def __repr__(self) -> str:
        """The password stays out of logs and tracebacks."""
        return f"RegistryAuth(username={self.username!r}, server={self.server!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLog:
    """How much of a log was kept; the start is missing when it was too long."""

    byte_count: int
    is_truncated: bool


class LogStream(Protocol):
    """A container's output as it comes; close() works from any thread."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...
    def close(self) -> None:
        """End the iteration."""


class EventStream(Protocol):
    """Events of our containers as they happen; close() works from any thread."""

    def __iter__(self) -> Iterator[ContainerEvent]: ...
    def __next__(self) -> ContainerEvent: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...
    def close(self) -> None:
        """End the iteration."""


class NodeDriver(Protocol):
    """One node. Thread-safe; every method may be repeated without harm.

    After NodeUnreachable nobody knows whether the call took effect: repeat it.
    """

    @property
    def name(self) -> str:
        """The node's name."""

    def ping(self) -> None:
        """Return when dockerd answers."""

    def version(self) -> DockerVersion:
        """Which dockerd answers."""

    def probe(self) -> NodeFacts:
        """Look at processors, memory, GPUs and the clock."""

    def has_image(self, image: str) -> bool:
        """True when the image is on the node."""

    def list_images(self) -> tuple[ImageFacts, ...]:
        """All images on the node."""

    def pull(
        self,
        image: str,
        on_progress: Callable[[PullProgress], None] | None = None,
        auth: RegistryAuth | None = None,
    ) -> None:
        """Fetch the image from its registry."""

    def ensure_volume(self, mount: MountRequest) -> None:
        """Make the volume, or make it anew when its options have changed."""

    def remove_volume(self, name: str) -> None:
        """Forget the volume; its files stay where they are stored."""

    def create(self, wish: ContainerRequest) -> str:
        """Create the run's container, or adopt it; return its id."""

    def start(self, name: str) -> None:
        """Start the container unless it was started before, ended or not."""

    def inspect(self, name: str) -> ContainerFacts | None:
        """Everything about one container; None when there is none."""

    def boot_id(self) -> str:
        """Which boot of the machine the kept connection reaches."""

    def circumstances(self, ended: ContainerFacts | None) -> Circumstances:
        """What to judge an end by; NodeUnreachable while dockerd is going down."""

    def list_ours(self, cluster_id: str) -> tuple[ContainerFacts, ...]:
        """Summaries of all containers with the cluster's label."""

    def stop(self, name: str, grace_seconds: int) -> None:
        """End it by signal, after the grace by force; return when it has ended."""

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """Send a signal; a container that does not run is left alone."""

    def remove(self, name: str) -> None:
        """End and delete it; return when it is gone."""

    def update_cpuset(self, name: str, cores: tuple[int, ...]) -> None:
        """Give a running container other cores."""

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: datetime | None = None,
    ) -> LogStream:
        """Read the container's output, both streams in one."""

    def save_log(self, name: str, path: Path, max_bytes: int) -> SavedLog:
        """Write the last max_bytes of the output to a file, all or nothing."""

    def events(self, cluster_id: str, since: datetime | None = None) -> EventStream:
        """Follow what happens to the cluster's containers."""

    def is_alive(self) -> bool:
        """True while the kept connection stands; asks nobody."""

    def disconnect(self) -> None:
        """Drop the kept connection; the next call makes a new one."""

    def close(self) -> None:
        """Drop the kept connection for good."""
