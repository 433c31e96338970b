"""A workload's spec and a hold -> what is asked of the placer and of Docker.

Translates only: what a spec means in the placer's units (`demand_of`) and as a
container (`container_wish`). Talks to nobody.
"""

from dorabatch.daemon.services import Services
from dorabatch.daemon.specs import spec_of_text
from dorabatch.errors import invariant
from dorabatch.node.container_spec import ContainerWish, PortWish, VolumeMount
from dorabatch.node.identity import RunIdentity, container_name
from dorabatch.placer.arrays import SHARE, Affinity
from dorabatch.queue.demand import Claim, Demand, Restriction
from dorabatch.queue.records import Container, Workload
from dorabatch.resources.workload import MIB, Port, WorkloadSpec

_AFFINITIES = {
    None: Affinity.BEST,
    "First": Affinity.FIRST,
    "Random": Affinity.RANDOM,
    "Distribute": Affinity.DISTRIBUTE,
    "Fill": Affinity.FILL,
}
_NANO_PER_MILLI = 1_000_000
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "fish"})


def spec_of(workload: Workload) -> WorkloadSpec:
    """The workload's present spec."""
    return spec_of_text(workload.spec_json)


def seconds_max(workload: Workload) -> int | None:
    """How long each run of a workload may take; None is open-ended."""
    return spec_of(workload).config.run_seconds_max


def demand_of(workload: Workload, replica: int) -> Demand:
    """What one replica asks for, in the placer's units."""
    return demand_of_spec(spec_of(workload), replica)


def demand_of_spec(spec: WorkloadSpec, replica: int) -> Demand:
    """What the replica-th container of a spec asks for."""
    cpu, memory = spec.cpu_milli, spec.memory_mib
    ports = spec.network.ports
    return Demand(
        gpu_count=spec.gpu_count,
        gpu_milli=spec.gpu_milli,
        gpu_models=spec.gpu_models,
        cpu_milli=SHARE if cpu is None else cpu,
        cpu_exclusive=spec.cpu_exclusive,
        memory_mib=SHARE if memory is None else memory,
        affinity=int(_AFFINITIES[spec.affinity]),
        restriction=Restriction(
            nodes=tuple(sorted(spec.node_names or ())),
            cpu_models=tuple(sorted(spec.cpu_models or ())),
            ports=tuple(_published(port, replica) for port in ports),
        ),
    )


def claim_of(workload: Workload) -> Claim:
    """Whose a workload is and what decides its turn."""
    return claim_of_spec(spec_of(workload), workload.submitter.user, workload.workspace)


def claim_of_spec(spec: WorkloadSpec, user: str, workspace: str) -> Claim:
    """The claim of a spec that a user submits in a workspace."""
    return Claim(
        user=user,
        workspace=workspace,
        nice=spec.priority.nice,
        qos=spec.priority.qos or "",
        gpu_count=spec.gpu_count,
        gpu_milli=spec.gpu_milli,
        run_seconds_max=spec.config.run_seconds_max or 0,
        restartable=spec.restartable,
    )


def _published(port: Port, replica: int) -> str:
    return f"{port.protocol}/{port.node_port + replica - 1}"


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
) -> ContainerWish:
    """Everything Docker is told about the present attempt."""
    workload = services.board.workloads[container.workload_id]
    spec, who, hold = spec_of(workload), workload.submitter, container.hold
    invariant(hold is not None, "only what is placed can be launched")
    assert hold is not None
    allowed = services.settings.containers
    grace = spec.config.stop_grace_seconds
    return ContainerWish(
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
            PortWish(
                container_port=port.port,
                node_port=port.node_port + container.replica - 1,
                protocol=port.protocol,
            )
            for port in spec.network.ports
        ),
        mounts=tuple(
            VolumeMount(
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
