"""Whether the nodes that are known could ever run something; verdicts are kept.

Written and read by every thread that submits or asks for a quote: the nodes, what was
made of them and the verdicts by them are published together, by one assignment. Never
asks what is free now.
"""

from dataclasses import dataclass, field, replace

from dorabatch.daemon.cycle.take_snapshot import cluster_arrays, mask_of
from dorabatch.daemon.intake.admission_checks import (
    check_can_ever_run,
    check_cpus_exist,
    check_models_exist,
    check_nodes_exist,
)
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.snapshot import accepts_table
from dorabatch.placer.arrays.types import ClusterArrays
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand, Restriction

_VERDICTS_KEPT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capacity:
    """The nodes of one revision; `cluster` has those whose hardware is known.

    `possible` are the demands that were found possible on these.
    """

    revision: int
    names: frozenset[str]
    usable: tuple[NodeView, ...]
    cluster: ClusterArrays
    possible: set[Demand] = field(default_factory=set)

    @property
    def gpu_models(self) -> set[str]:
        """GPU models of all nodes, also of those that are away."""
        return {g.model for v in self.usable for g in v.all_gpus}

    @property
    def cpu_models(self) -> set[str]:
        """CPU models of all nodes, also of those that are away."""
        return {v.facts.cpu_model for v in self.usable if v.facts} - {""}

    @property
    def may_have_gpus(self) -> bool:
        """Whether of some node nobody knows yet which GPUs it has: NVML is broken."""
        bare = (view.facts for view in self.usable if not view.all_gpus)
        return any(facts is not None and facts.gpu_error for facts in bare)


class Possible:
    """What the zone's nodes could ever run."""

    def __init__(self, fleet: Fleet, board: Board) -> None:
        self._fleet = fleet
        self._board = board
        self._capacity: _Capacity | None = None

    def check(self, demand: Demand) -> None:
        """Raise Refused for what could not even run on empty nodes."""
        # Ports never make a workload impossible, and differ by replica.
        without_ports = replace(demand.restriction, ports=())
        demand = replace(demand, restriction=without_ports)
        capacity = self._present()
        if demand in capacity.possible:
            return
        _check(demand, capacity)
        if len(capacity.possible) < _VERDICTS_KEPT:
            capacity.possible.add(demand)

    def _present(self) -> _Capacity:
        capacity = self._capacity
        if capacity is None or capacity.revision != self._fleet.capacity_revision:
            revision, views = self._fleet.capacity()
            usable = tuple(view for view in views if view.facts is not None)
            capacity = _Capacity(
                revision=revision,
                names=frozenset(view.name for view in views),
                usable=usable,
                cluster=cluster_arrays(usable, self._board),
            )
            self._capacity = capacity
        return capacity


def _check(demand: Demand, capacity: _Capacity) -> None:
    check_nodes_exist(demand.restriction, capacity.names)
    if demand.gpu_count and capacity.may_have_gpus:
        return
    check_models_exist(demand, capacity.gpu_models)
    check_cpus_exist(demand.restriction, capacity.cpu_models)
    accepts = accepts_table([demand.gpu_models], capacity.cluster.models)[0]
    seen = {view.name for view in capacity.usable}
    # Of a named node that was never seen nobody knows what it can run.
    if seen.issuperset(demand.restriction.nodes):
        mask = None
        if demand.restriction != Restriction():
            mask = mask_of(demand.restriction, capacity.usable)
        check_can_ever_run(demand, capacity.cluster, accepts.tolist(), mask)
