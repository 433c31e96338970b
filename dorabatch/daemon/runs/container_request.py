"""A placed container as it is asked of Docker: its name, devices, mounts and limits.

Translates, and says before anything is stored what no node would start; talks to none.
"""

import hashlib
import re
from dataclasses import dataclass, replace

from dorabatch.config import ContainerSettings, Settings
from dorabatch.daemon.state.daemon_identity import DaemonIdentity
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.errors import Refused, invariant
from dorabatch.node.container_spec import (
    ContainerRequest,
    MountRequest,
    PortRequest,
    check_request,
    dropped_env,
)
from dorabatch.node.identity import RunIdentity, container_name
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Submitter, Workload
from dorabatch.resources.workload import MIB, WorkloadSpec

_NANO_PER_MILLI = 1_000_000
_VOLUME_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "fish"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequests:
    """What the present attempts of containers are called, and what they ask for."""

    board: Board
    fleet: Fleet
    identity: DaemonIdentity
    settings: Settings

    def name_of(self, container: Container) -> str:
        """The deterministic Docker name of a container's present attempt."""
        return container_name(
            self.identity.cluster_id,
            container.workload_id,
            container.replica,
            container.attempt,
        )

    def workload_of(self, container: Container) -> Workload:
        """The workload that a container is of."""
        return self.board.workloads[container.workload_id]

    def request(self, container: Container) -> ContainerRequest:
        """Everything Docker is told about the present attempt."""
        workload = self.workload_of(container)
        spec, who, hold = spec_of(workload), workload.submitter, container.hold
        invariant(hold is not None, "only what is placed can be launched")
        assert hold is not None
        return replace(
            wanted(self._identity(container), spec, who, self.settings.containers),
            gpu_uuids=hold.gpus,
            gpu_milli=hold.gpu_milli,
            cores=hold.cores or self.shared_cores(hold.node) or None,
            nano_cpus=None if hold.cores else hold.cpu_milli * _NANO_PER_MILLI,
            memory_bytes=hold.memory_mib * MIB,
            stop_grace_seconds=self.grace_seconds(container),
        )

    def shared_cores(self, node: str) -> tuple[int, ...]:
        """Cores of a node that no container has for itself."""
        view = self.fleet.get(node)
        if view is None or view.facts is None:
            return ()
        holds = (held.hold for held in self.board.on_node(node))
        pinned = {core for hold in holds if hold for core in hold.cores}
        return tuple(core for core in view.facts.cores if core not in pinned)

    def grace_seconds(self, container: Container | None = None) -> int:
        """How long a container, or one nobody knows, may take to stop."""
        grace = None
        if container is not None:
            workload = self.workload_of(container)
            grace = spec_of(workload).config.stop_grace_seconds
        usual = self.settings.launch.stop_grace_seconds
        return int(usual if grace is None else grace)

    @property
    def log_bytes_max(self) -> int:
        """How much of a log is kept."""
        return self.settings.containers.log_bytes_max

    def _identity(self, container: Container) -> RunIdentity:
        workload = self.workload_of(container)
        return RunIdentity(
            cluster_id=self.identity.cluster_id,
            workload_id=container.workload_id,
            replica=container.replica,
            attempt=container.attempt,
            epoch=self.identity.epoch,
            zone=workload.zone,
            workspace=workload.workspace,
        )


def wanted(
    run: RunIdentity, spec: WorkloadSpec, who: Submitter, allowed: ContainerSettings
) -> ContainerRequest:
    """What a run asks of Docker wherever it gets its place."""
    return ContainerRequest(
        identity=run,
        image=spec.image.image,
        argv=spec.argv or (),
        env=spec.env,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        allow_root=who.uid == 0,
        shm_bytes=spec.config.shm_bytes,
        pids_limit=allowed.pids_max,
        network=spec.network.mode,
        allow_host_network=allowed.host_network,
        ports=_ports(spec, run.replica),
        mounts=_mounts(spec, run.workspace),
        workdir=spec.config.workdir,
        log_bytes_max=allowed.log_bytes_max,
        open_stdin=is_bare_shell(spec.argv),
    )


def check_startable(
    spec: WorkloadSpec,
    who: Submitter,
    place: tuple[str, str],
    allowed: ContainerSettings,
) -> None:
    """Raise Refused, as a start in this (zone, workspace) would, or for what it drops.

    A variable that the container would not get is refused, for a job without it does
    something else than its user asked for.
    """
    zone, workspace = place
    dropped = dropped_env(spec.env)
    if dropped:
        raise Refused(
            f"spec.config.env: {dropped[0]} cannot be set from outside: names in LD_* "
            "would act on the node too, DORA_* and NVIDIA_VISIBLE_DEVICES and its kind "
            f"are the queue's; set it in the command (env {dropped[0]}=... PROGRAM)"
        )
    run = RunIdentity(
        cluster_id="any",
        workload_id=1,
        replica=1,
        attempt=1,
        zone=zone,
        workspace=workspace,
    )
    try:
        check_request(wanted(run, spec, who, allowed))
    except Refused as refusal:
        raise Refused(f"could not start: {refusal.message}") from refusal


def _ports(spec: WorkloadSpec, replica: int) -> tuple[PortRequest, ...]:
    return tuple(
        PortRequest(
            container_port=port.port,
            node_port=port.node_port + replica - 1,
            protocol=port.protocol,
        )
        for port in spec.network.ports
    )


def _mounts(spec: WorkloadSpec, workspace: str) -> tuple[MountRequest, ...]:
    return tuple(
        MountRequest(
            volume=volume_name(mount.workspace or workspace, mount.name),
            target=mount.target,
            read_only=mount.read_only,
        )
        for mount in spec.volumes
    )


def volume_name(workspace: str, name: str) -> str:
    """The Docker named volume of a volume of a workspace; no other has the same.

    Both parts may hold dots: where the workspace does, a word in capitals, which no
    name has, stands between them. A home whose login Docker would not take is named by
    a hash of it.
    """
    if not _VOLUME_WORD.fullmatch(workspace):
        digest = hashlib.sha256(workspace.encode()).hexdigest()[:32]
        return f"dora.home.{digest}.{name}"
    between = ".VOLUME." if "." in workspace else "."
    return f"dora.volume.{workspace}{between}{name}"


def is_bare_shell(argv: tuple[str, ...] | None) -> bool:
    """Whether the command is a shell and nothing else.

    Such a container is there to be entered: its standard input stays open, so the
    shell waits instead of ending at once.
    """
    return argv is not None and len(argv) == 1 and argv[0].split("/")[-1] in _SHELLS
