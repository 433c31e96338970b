"""A placed container as it is asked of Docker: its name, devices, mounts and limits.

Translates only; talks to no node.
"""

from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.errors import invariant
from dorabatch.node.container_spec import ContainerRequest, MountRequest, PortRequest
from dorabatch.node.identity import RunIdentity, container_name
from dorabatch.queue.records import Container
from dorabatch.resources.workload import MIB

_NANO_PER_MILLI = 1_000_000
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "fish"})


def docker_name(services: Services, container: Container) -> str:
    """The deterministic Docker name of a container's present attempt."""
    return container_name(
        services.cluster_id,
        container.workload_id,
        container.replica,
        container.attempt,
    )


def container_wish(
    services: Services, container: Container, node: str
) -> ContainerRequest:
    """Everything Docker is told about the present attempt."""
    workload = services.board.workloads[container.workload_id]
    spec, who, hold = spec_of(workload), workload.submitter, container.hold
    invariant(hold is not None, "only what is placed can be launched")
    assert hold is not None
    allowed = services.settings.containers
    grace = spec.config.stop_grace_seconds
    return ContainerRequest(
        identity=RunIdentity(
            cluster_id=services.cluster_id,
            workload_id=container.workload_id,
            replica=container.replica,
            attempt=container.attempt,
            epoch=services.epoch,
            zone=workload.zone,
            workspace=workload.workspace,
        ),
        image=spec.image.image,
        argv=spec.argv or (),
        env=spec.env,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        allow_root=who.uid == 0,
        gpu_uuids=hold.gpus,
        gpu_milli=hold.gpu_milli,
        cores=hold.cores or shared_cores(services, node) or None,
        nano_cpus=None if hold.cores else hold.cpu_milli * _NANO_PER_MILLI,
        memory_bytes=hold.memory_mib * MIB,
        shm_bytes=spec.config.shm_bytes,
        pids_limit=allowed.pids_max,
        network=spec.network.mode,
        allow_host_network=allowed.host_network,
        ports=tuple(
            PortRequest(
                container_port=port.port,
                node_port=port.node_port + container.replica - 1,
                protocol=port.protocol,
            )
            for port in spec.network.ports
        ),
        mounts=tuple(
            MountRequest(
                volume=volume_name(mount.workspace or workload.workspace, mount.name),
                target=mount.target,
                read_only=mount.read_only,
            )
            for mount in spec.volumes
        ),
        workdir=spec.config.workdir,
        stop_grace_seconds=int(
            services.settings.launch.stop_grace_seconds if grace is None else grace
        ),
        log_bytes_max=allowed.log_bytes_max,
        open_stdin=is_bare_shell(spec.argv),
    )


def volume_name(workspace: str, name: str) -> str:
    """The Docker named volume of a volume of a workspace."""
    return f"dora.volume.{workspace}.{name}"


def is_bare_shell(argv: tuple[str, ...] | None) -> bool:
    """Whether the command is a shell and nothing else.

    Such a container is there to be entered: its standard input stays open, so the
    shell waits instead of ending at once.
    """
    return argv is not None and len(argv) == 1 and argv[0].split("/")[-1] in _SHELLS


def shared_cores(services: Services, node: str) -> tuple[int, ...]:
    """Cores of a node that no container has for itself."""
    view = services.fleet.get(node)
    if view is None or view.facts is None:
        return ()
    holds = (held.hold for held in services.board.on_node(node))
    pinned = {core for hold in holds if hold for core in hold.cores}
    return tuple(core for core in view.facts.cores if core not in pinned)
