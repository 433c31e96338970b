"""Placements -> containers that hold devices, as the board and the snapshot have them.

Picks the devices of each placement, in memory; writes nothing.
"""

from collections.abc import Iterable, Mapping

from dorabatch.daemon.cycle.devices import FreeDevices
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.slices import amounts
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.placer.arrays.types import Placement
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Container, ContainerId, Hold
from dorabatch.queue.states import State
from dorabatch.queue.transitions import placed

MILLI = 1000


class Places:
    """Turns the placements of one plan into holds.

    trials[container]: seconds, for those that start on trial.
    """

    def __init__(
        self, board: Board, snapshot: Snapshot, trials: Mapping[int, int]
    ) -> None:
        self._board = board
        self._snapshot = snapshot
        self._trials = trials
        self._devices: dict[str, FreeDevices] = {}
        # The device behind each slot that shares are taken of.
        self._opened = dict(snapshot.shared.device_of)

    def taken(
        self, placements: Iterable[Placement]
    ) -> list[tuple[Container, Container]]:
        """(waiting, placed) of each that still waits and whose devices are free."""
        found = (self._pair(one) for one in placements)
        return [pair for pair in found if pair is not None]

    def _pair(self, placement: Placement) -> tuple[Container, Container] | None:
        container = self._board.containers.get(ContainerId(placement.key))
        if container is None or container.state is not State.QUEUED:
            return None
        workload = self._board.workloads[container.workload_id]
        view = self._snapshot.nodes[placement.node]
        hold = self._hold(
            self._board.demand_of(workload, container.replica), placement, view
        )
        if hold is None:
            return None
        seconds = self._trials.get(container.container_id)
        return container, placed(container, hold, workload.version, seconds)

    def _hold(
        self, demand: Demand, placement: Placement, view: NodeView
    ) -> Hold | None:
        devices = self._devices_of(view)
        cpu_milli, memory_mib = amounts(demand, view)
        whole = cpu_milli // MILLI if demand.cpu_exclusive else 0
        ports = demand.restriction.ports
        if len(devices.cores) < whole or devices.ports.intersection(ports):
            return None
        taken = self._gpus(placement, demand.gpu_milli, devices)
        if taken is None:
            return None
        cores = tuple(devices.cores[:whole])
        del devices.cores[:whole]
        devices.ports.update(ports)
        return Hold(
            node=view.name,
            gpus=tuple(uuid for uuid, _ in taken),
            gpu_models=tuple(model for _, model in taken),
            cores=cores,
            cpu_milli=cpu_milli,
            memory_mib=memory_mib,
            ports=ports,
            boot_id=view.facts.boot_id if view.facts else "",
            gpu_milli=demand.gpu_milli,
        )

    def _gpus(
        self, placement: Placement, milli: int, devices: FreeDevices
    ) -> list[tuple[str, str]] | None:
        """(uuid, model) of the GPUs taken; None when they are not free any more."""
        wanted = [
            (model, count)
            for model, count in zip(
                self._snapshot.cluster.models, placement.gpus, strict=True
            )
            if count
        ]
        if placement.slot < 0:
            return devices.take_whole(wanted)
        (model, _) = wanted[0]
        column = self._snapshot.cluster.models.index(model)
        place = placement.node, column, placement.slot
        uuid = devices.take_share(model, milli, self._opened.get(place))
        if uuid is None:
            return None
        self._opened[place] = uuid
        return [(uuid, model)]

    def _devices_of(self, view: NodeView) -> FreeDevices:
        devices = self._devices.get(view.name)
        if devices is None:
            holds = [c.hold for c in self._board.on_node(view.name) if c.hold]
            devices = FreeDevices(view, holds)
            self._devices[view.name] = devices
        return devices
