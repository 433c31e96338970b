"""Drives one real node: the Docker SDK and the probe over one kept SSH connection.

Never decides what should run, never starts a container twice, and keeps Docker's own
sentence in every refusal.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import docker
import orjson
from docker.utils import parse_repository_tag

from dorabatch.clock import Clock
from dorabatch.errors import (
    ImagePullFailed,
    NodeError,
    NodeUnreachable,
    StartFailed,
)
from dorabatch.node import gpu_probe
from dorabatch.node.container_spec import (
    ContainerRequest,
    MountRequest,
    check_mount,
    core_list,
    create_body,
    spec_digest,
)
from dorabatch.node.docker_circumstances import read_circumstances
from dorabatch.node.docker_link import (
    DockerSession,
    DriverLimits,
    NodeLink,
    OnCall,
    plain_words,
    words_of_answer,
)
from dorabatch.node.docker_streams import (
    DockerEventStream,
    DockerLogStream,
    read_pull,
    registry_header,
    write_tail,
)
from dorabatch.node.docker_volumes import ensure_volume
from dorabatch.node.driver import (
    DockerVersion,
    PullProgress,
    RegistryAuth,
    SavedLog,
)
from dorabatch.node.facts import (
    Circumstances,
    ContainerFacts,
    ContainerState,
    ImageFacts,
    NodeFacts,
    parse_image,
    parse_inspect,
    parse_probe,
    parse_summary,
)
from dorabatch.node.identity import CLUSTER_LABEL, DIGEST_LABEL, parse_identity
from dorabatch.node.ssh import NodeAddress, SshTimeouts

CREATE_TRIES = 3
POLL_SECONDS = 0.05
FRESH_NAMES_MAX = 10_000


def open_node(
    address: NodeAddress,
    *,
    timeouts: SshTimeouts | None = None,
    limits: DriverLimits | None = None,
    on_call: OnCall | None = None,
    clock: Clock | None = None,
) -> "DockerDriver":
    """Return the driver of a node; the first call connects."""
    link = NodeLink(
        address,
        timeouts=timeouts or SshTimeouts(),
        limits=limits or DriverLimits(),
        on_call=on_call,
        clock=clock,
    )
    return DockerDriver(link)


class DockerDriver:
    """A NodeDriver for a node with sshd and dockerd."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link
        # Containers that this driver itself made and nobody has started: only for
        # these may the look before the start be left out.
        self._fresh: dict[str, None] = {}
        self._fresh_lock = threading.Lock()

    @property
    def name(self) -> str:
        """The node's name."""
        return self._link.address.name

    def ping(self) -> None:
        """Return when dockerd answers."""
        with self._link.call("ping") as session:
            session.api.ping()

    def version(self) -> DockerVersion:
        """Which dockerd answers."""
        with self._link.call("version") as session:
            document = session.api.version()
            return DockerVersion(
                version=str(document.get("Version", "")),
                api_version=session.api_version,
                os=str(document.get("Os", "")),
                architecture=str(document.get("Arch", "")),
            )

    def probe(self) -> NodeFacts:
        """Look at processors, memory, GPUs and the clock."""
        with self._link.call("probe") as session:
            docker_info = session.api.info()
            asked_at = self._link.clock.now().timestamp()
            text = self._probe_text(session)
            answered_at = self._link.clock.now().timestamp()
        try:
            return parse_probe(
                text,
                docker_version=str(docker_info.get("ServerVersion", "")),
                docker_id=str(docker_info.get("ID", "")),
                asked_at=asked_at,
                answered_at=answered_at,
            )
        except NodeError as error:
            raise NodeError(f"node {self.name}: {error.message}") from error

    def has_image(self, image: str) -> bool:
        """True when the image is on the node."""
        with self._link.call("has_image", image) as session:
            try:
                session.api.inspect_image(image)
            except docker.errors.NotFound:
                return False
            return True

    def list_images(self) -> tuple[ImageFacts, ...]:
        """All images on the node."""
        with self._link.call("list_images") as session:
            return tuple(parse_image(entry) for entry in session.api.images())

    def pull(
        self,
        image: str,
        on_progress: Callable[[PullProgress], None] | None = None,
        auth: RegistryAuth | None = None,
    ) -> None:
        """Fetch the image; what on_progress raises ends the pull."""
        repository, tag = parse_repository_tag(image)
        clock = self._link.clock
        limits = self._link.limits
        deadline = clock.monotonic() + limits.pull_seconds

        def check_time() -> None:
            if clock.monotonic() > deadline:
                raise ImagePullFailed(
                    f"image {image}: not here after {limits.pull_seconds:.0f} s"
                )

        with self._link.call("pull", image) as session:
            connection, response = session.open_stream(
                "POST",
                "/images/create",
                query={"fromImage": repository, "tag": tag or "latest"},
                headers=registry_header(auth),
                timeout_seconds=limits.pull_silence_seconds,
            )
            try:
                if response.status >= 400:
                    raise ImagePullFailed(f"image {image}: {words_of_answer(response)}")
                read_pull(image, response, on_progress, check_time)
            finally:
                connection.abort()

    def ensure_volume(self, mount: MountRequest) -> None:
        """Make the volume, or make it anew when its options have changed."""
        check_mount(mount)
        with self._link.call("ensure_volume", mount.volume) as session:
            ensure_volume(session, self._link, mount)

    def remove_volume(self, name: str) -> None:
        """Forget the volume; its files stay where they are stored."""
        with (
            self._link.call("remove_volume", name) as session,
            suppress(docker.errors.NotFound),
        ):
            session.api.remove_volume(name)

    def create(self, wish: ContainerRequest) -> str:
        """Create the run's container, or adopt it; return its id."""
        body = create_body(wish)
        name = wish.identity.name
        with self._link.call("create", name) as session:
            for _ in range(CREATE_TRIES):
                container_id = self._try_create(session, name, body)
                if container_id is not None:
                    self._mark_fresh(name)
                    return container_id
                holder = self._look(session, name)
                if holder is None:
                    continue
                if self._is_adoptable(wish, holder):
                    return holder.container_id
                self._remove(session, name)
        raise StartFailed(
            f"node {self.name}: create {name}: the name stayed taken through "
            f"{CREATE_TRIES} tries"
        )

    def start(self, name: str) -> None:
        """Start the container unless it was started before, ended or not."""
        with self._link.call("start", name) as session:
            if not self._forget_fresh(name):
                facts = self._look(session, name)
                if facts is None:
                    raise StartFailed(
                        f"node {self.name}: start {name}: no such container"
                    )
                # Docker would run an ended container a second time.
                if facts.state is not ContainerState.CREATED:
                    return
            try:
                session.api.start(name)
            except docker.errors.APIError as error:
                raise self._start_failed("start", name, error) from error

    def inspect(self, name: str) -> ContainerFacts | None:
        """Everything about one container; None when there is none."""
        with self._link.call("inspect", name) as session:
            return self._look(session, name)

    def boot_id(self) -> str:
        """Which boot of the machine the kept connection reaches."""
        with self._link.call("boot_id") as session:
            return session.boot_id()

    def circumstances(self, ended: ContainerFacts | None) -> Circumstances:
        """What to judge an end by; NodeUnreachable while dockerd is going down."""
        with self._link.call("circumstances") as session:
            try:
                return read_circumstances(session, self._link.limits, ended)
            except NodeUnreachable:
                raise
            except NodeError as error:
                raise NodeError(f"node {self.name}: {error.message}") from error

    def list_ours(self, cluster_id: str) -> tuple[ContainerFacts, ...]:
        """Summaries of all containers with the cluster's label."""
        with self._link.call("list_ours") as session:
            found = session.api.containers(
                all=True, filters={"label": [f"{CLUSTER_LABEL}={cluster_id}"]}
            )
            return tuple(parse_summary(entry) for entry in found)

    def stop(self, name: str, grace_seconds: int) -> None:
        """End it by signal, after the grace by force; return when it has ended."""
        with (
            self._link.call("stop", name) as session,
            suppress(docker.errors.NotFound),
        ):
            session.api.stop(name, timeout=grace_seconds)

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """Send a signal; a container that does not run is left alone."""
        with self._link.call("kill", name) as session:
            try:
                session.api.kill(name, signal=signal)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):
                    raise

    def remove(self, name: str) -> None:
        """End and delete it; return when it is gone."""
        with self._link.call("remove", name) as session:
            self._remove(session, name)

    def update_cpuset(self, name: str, cores: tuple[int, ...]) -> None:
        """Give a running container other cores."""
        with self._link.call("update_cpuset", name) as session:
            session.api.update_container(name, cpuset_cpus=core_list(cores))

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: datetime | None = None,
    ) -> DockerLogStream:
        """Read the container's output, both streams in one."""
        query = {
            "stdout": "1",
            "stderr": "1",
            "follow": "1" if follow else "0",
            "tail": "all" if tail is None else str(tail),
        }
        if since is not None:
            query["since"] = _seconds(since)
        path = f"/containers/{quote(name, safe='')}/logs"
        seconds = None if follow else self._link.limits.answer_seconds
        with self._link.call("logs", name) as session:
            connection, response = session.open_stream(
                "GET", path, query=query, headers={}, timeout_seconds=seconds
            )
            if response.status >= 400:
                words = words_of_answer(response)
                connection.abort()
                raise NodeError(f"node {self.name}: logs {name}: {words}")
        return DockerLogStream(
            connection, response, self._lost_in(session, f"logs {name}")
        )

    def save_log(self, name: str, path: Path, max_bytes: int) -> SavedLog:
        """Write the last max_bytes of the output to a file, all or nothing."""
        with self.logs(name) as stream:
            return write_tail(stream, path, max_bytes)

    def events(
        self, cluster_id: str, since: datetime | None = None
    ) -> DockerEventStream:
        """Follow what happens to the cluster's containers."""
        filters = {
            "type": ["container"],
            "label": [f"{CLUSTER_LABEL}={cluster_id}"],
        }
        query = {"filters": orjson.dumps(filters).decode()}
        if since is not None:
            query["since"] = _seconds(since)
        with self._link.call("events") as session:
            connection, response = session.open_stream(
                "GET", "/events", query=query, headers={}, timeout_seconds=None
            )
            if response.status >= 400:
                words = words_of_answer(response)
                connection.abort()
                raise NodeError(f"node {self.name}: events: {words}")
        return DockerEventStream(connection, response, self._lost_in(session, "events"))

    def is_alive(self) -> bool:
        """True while the kept connection stands; asks nobody."""
        return self._link.is_alive()

    def disconnect(self) -> None:
        """Drop the kept connection; the next call makes a new one."""
        self._link.disconnect()

    def close(self) -> None:
        """Drop the kept connection for good."""
        self._link.close()

    def _probe_text(self, session: DockerSession) -> str:
        """The Python probe's JSON; a node without Python answers in shell."""
        seconds = self._link.limits.probe_seconds
        script = gpu_probe.script_text().encode()
        result = session.connection.run(gpu_probe.PYTHON_COMMAND, seconds, script)
        if result.status == 0:
            return result.stdout.decode("utf-8", "replace")
        script = gpu_probe.SHELL_PROBE.encode()
        result = session.connection.run(gpu_probe.SHELL_COMMAND, seconds, script)
        if result.status != 0:
            words = result.stderr.decode("utf-8", "replace").strip()[-300:]
            raise NodeError(
                f"node {self.name}: probe: neither python3 nor sh could look at the "
                f"machine: {words}"
            )
        lines = result.stdout.decode("utf-8", "replace")
        return gpu_probe.document_of_shell_probe(lines)

    def _try_create(
        self, session: DockerSession, name: str, body: Mapping[str, object]
    ) -> str | None:
        """The new container's id; None when the name is taken."""
        try:
            answer = session.api.create_container_from_config(body, name)
        except docker.errors.APIError as error:
            if error.status_code == 409:
                return None
            raise self._start_failed("create", name, error) from error
        return str(answer["Id"])

    def _is_adoptable(self, wish: ContainerRequest, holder: ContainerFacts) -> bool:
        """True for this very run; False when it may be replaced; else StartFailed."""
        name = wish.identity.name
        found = parse_identity(holder.labels)
        if found is None or not found.is_same_run(wish.identity):
            raise StartFailed(
                f"node {self.name}: create {name}: the name belongs to container "
                f"{holder.container_id[:12]} ({holder.state}), which is not this run's"
            )
        if found.epoch > wish.identity.epoch:
            raise StartFailed(
                f"node {self.name}: create {name}: a newer daemon has made this "
                f"container (epoch {found.epoch}, ours is {wish.identity.epoch})"
            )
        if holder.state in (ContainerState.REMOVING, ContainerState.DEAD):
            return False
        if holder.labels.get(DIGEST_LABEL) == spec_digest(wish):
            return True
        if holder.state is ContainerState.CREATED:
            return False
        raise StartFailed(
            f"node {self.name}: create {name}: this run was started there with other "
            f"settings (container {holder.container_id[:12]}, {holder.state}); take "
            "a new attempt number"
        )

    def _look(self, session: DockerSession, name: str) -> ContainerFacts | None:
        try:
            return parse_inspect(session.api.inspect_container(name))
        except docker.errors.NotFound:
            return None

    def _remove(self, session: DockerSession, name: str) -> None:
        self._forget_fresh(name)
        clock = self._link.clock
        deadline = clock.monotonic() + self._link.limits.answer_seconds
        while True:
            try:
                session.api.remove_container(name, v=True, force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                # Somebody else's removal is under way; wait for its end.
                if clock.monotonic() > deadline:
                    raise
                clock.wait(threading.Event(), POLL_SECONDS)
            else:
                return

    def _start_failed(
        self, operation: str, name: str, error: docker.errors.APIError
    ) -> StartFailed:
        return StartFailed(
            f"node {self.name}: {operation} {name}: {plain_words(error)}"
        )

    def _lost_in(
        self, session: DockerSession, doing: str
    ) -> Callable[[Exception], NodeUnreachable]:
        return lambda error: self._link.lost(session, doing, error)

    def _mark_fresh(self, name: str) -> None:
        with self._fresh_lock:
            self._fresh[name] = None
            if len(self._fresh) > FRESH_NAMES_MAX:
                del self._fresh[next(iter(self._fresh))]

    def _forget_fresh(self, name: str) -> bool:
        """True when the name was fresh; it is not any more."""
        with self._fresh_lock:
            return self._fresh.pop(name, self) is None


def _seconds(moment: datetime) -> str:
    """A moment the way Docker's queries write it."""
    return f"{moment.timestamp():.6f}"
