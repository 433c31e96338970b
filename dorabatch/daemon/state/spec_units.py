"""A workload's spec in the units of the placer and of the fair share.

Pure: translates what a spec means (`demand_of`, `claim_of`) and what a slice of a node
is; parsed specs are kept by their text. Decides nothing and looks nothing up.
"""

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.placer.arrays.types import SHARE, Affinity
from dorabatch.queue.demand import Claim, Demand, Restriction
from dorabatch.queue.records import Workload
from dorabatch.resources.workload import Port, WorkloadSpec, load_spec

_SPECS: dict[str, WorkloadSpec] = {}
_SPECS_MAX = 50_000


def spec_of_text(spec_json: str) -> WorkloadSpec:
    """The spec that is stored as this text."""
    spec = _SPECS.get(spec_json)
    if spec is None:
        spec = load_spec(spec_json)
        remember_spec(spec_json, spec)
    return spec


def remember_spec(spec_json: str, spec: WorkloadSpec) -> None:
    """Spare the next reader of this text the parsing."""
    if len(_SPECS) >= _SPECS_MAX:
        _SPECS.clear()
    _SPECS[spec_json] = spec


_AFFINITIES = {
    None: Affinity.BEST,
    "First": Affinity.FIRST,
    "Random": Affinity.RANDOM,
    "Distribute": Affinity.DISTRIBUTE,
    "Fill": Affinity.FILL,
}


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


MILLI = 1000


def amounts(demand: Demand, view: NodeView) -> tuple[int, int]:
    """(CPU in thousandths, memory in MiB) on this node, slices resolved.

    The same integer rule as the placer's SHARE: a GPU request's slice is the node's
    total // its GPUs x GPUs asked (or the share of one); a CPU request's memory follows
    its CPU part.
    """
    facts = view.facts
    assert facts is not None
    total_milli, gpus = len(facts.cores) * MILLI, len(view.all_gpus)
    cpu, memory = demand.cpu_milli, demand.memory_mib
    parts = demand.gpu_count * demand.gpu_milli
    if cpu == SHARE:
        cpu = total_milli // max(gpus, 1) * parts // MILLI
    if memory == SHARE and demand.gpu_count:
        memory = facts.memory_mib // max(gpus, 1) * parts // MILLI
    elif memory == SHARE:
        memory = facts.memory_mib * cpu // max(total_milli, 1)
    return cpu, memory
