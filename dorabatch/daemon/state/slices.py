"""How much CPU and memory a demand takes on a node, slices resolved.

Pure arithmetic on a node's facts; decides no place.
"""

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.placer.arrays.types import SHARE
from dorabatch.queue.demand import Demand

MILLI = 1000


def amounts(demand: Demand, view: NodeView) -> tuple[int, int]:
    """(CPU in thousandths, memory in MiB) on this node, slices resolved.

    The same integer rule as the placer's SHARE: a GPU request's slice is the node's
    total // its GPUs x GPUs asked (or the share of one); a CPU request's memory follows
    its CPU part.
    """
    facts = view.facts
    assert facts is not None
    total_milli, gpus = len(facts.cores) * MILLI, len(facts.gpus)
    cpu, memory = demand.cpu_milli, demand.memory_mib
    parts = demand.gpu_count * demand.gpu_milli
    if cpu == SHARE:
        cpu = total_milli // max(gpus, 1) * parts // MILLI
    if memory == SHARE and demand.gpu_count:
        memory = facts.memory_mib // max(gpus, 1) * parts // MILLI
    elif memory == SHARE:
        memory = facts.memory_mib * cpu // max(total_milli, 1)
    return cpu, memory
