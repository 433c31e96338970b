"""Placements -> containers with their holds: which GPUs by uuid, which cores and ports.

Takes from what holds leave of each node at this moment, lowest number first, and leaves
out what may not start any more. In memory only: chooses no node and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dorabatch.daemon.cycle.ceilings import Headroom, headroom_of
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.spec_units import amounts
from dorabatch.fairshare.turn.use_limits import UNLIMITED
from dorabatch.placer.arrays.types import Placement
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Container, ContainerId, Hold
from dorabatch.queue.states import State
from dorabatch.queue.transitions import placed


class FreeDevices:
    """What holds leave of a node, taken from while a plan is committed.

    `gpus` by model and `cores`, lowest number first; `shared` GPUs with the thousandths
    that are left of each; `ports` that are in use.
    """

    def __init__(self, view: NodeView, holds: Sequence[Hold]) -> None:
        assert view.facts is not None
        self.shared: dict[str, int] = {}
        for hold in holds:
            if hold.gpu_milli < MILLI and view.kept_out.isdisjoint(hold.gpus):
                (uuid,) = hold.gpus
                self.shared[uuid] = self.shared.get(uuid, MILLI) - hold.gpu_milli
        used = view.kept_out.union(uuid for hold in holds for uuid in hold.gpus)
        self.gpus: dict[str, list[str]] = {}
        for gpu in sorted(view.facts.gpus, key=lambda gpu: gpu.minor):
            if gpu.uuid not in used:
                self.gpus.setdefault(gpu.model, []).append(gpu.uuid)
        pinned = {core for hold in holds for core in hold.cores}
        self.cores = [c for c in sorted(view.facts.cores) if c not in pinned]
        self.ports = {port for hold in holds for port in hold.ports}

    def take_whole(
        self, wanted: Sequence[tuple[str, int]]
    ) -> list[tuple[str, str]] | None:
        """(uuid, model) of whole GPUs; None, and nothing taken, where one lacks."""
        if any(len(self.gpus.get(model, ())) < count for model, count in wanted):
            return None
        taken = []
        for model, count in wanted:
            free = self.gpus[model]
            taken += [(uuid, model) for uuid in free[:count]]
            del free[:count]
        return taken

    def take_share(self, model: str, milli: int, uuid: str | None) -> str | None:
        """A share of the GPU with this uuid, or of one nobody uses; None: not free."""
        free = self.gpus.get(model, [])
        if uuid is None and free:
            uuid = free[0]
        if uuid in free:
            free.remove(uuid)
            self.shared[uuid] = MILLI
        if uuid is None or self.shared.get(uuid, 0) < milli:
            return None
        self.shared[uuid] -= milli
        return uuid


MILLI = 1000


class Places:
    """Turns the placements of one plan into holds.

    trials[container]: seconds, for those that start on trial. `policy` says how much
    may be held at once; None limits nothing.
    """

    def __init__(
        self,
        board: Board,
        snapshot: Snapshot,
        trials: Mapping[int, int],
        policy: SitePolicy | None = None,
    ) -> None:
        self._board = board
        self._snapshot = snapshot
        self._trials = trials
        self._policy = policy
        self._headroom: Headroom | None = None
        self._devices: dict[str, FreeDevices] = {}
        # Of those that refuse starts, each is tried by one at a time.
        self._tried: set[str] = set()
        # The device behind each slot that shares are taken of.
        self._opened = dict(snapshot.shared.device_of)

    def taken(
        self, placements: Iterable[Placement]
    ) -> list[tuple[Container, Container]]:
        """(waiting, placed) of each that still may start and whose devices are free."""
        some = list(placements)
        # A limit may be lower than the plan knew, and the part before is held now.
        self._headroom = None
        if self._policy is not None and self._policy.settings.limits != UNLIMITED:
            self._headroom = headroom_of(self._policy, self._board)
        planned = self._planned_revs([one.key for one in some])
        found = (self._pair(one, planned.get(one.key)) for one in some)
        return [pair for pair in found if pair is not None]

    def _planned_revs(self, keys: list[int]) -> dict[int, int]:
        """Of which state of its record each was planned."""
        pending = self._snapshot.pending
        rows = np.flatnonzero(np.isin(pending.key, keys))
        return dict(
            zip(pending.key[rows].tolist(), pending.rev[rows].tolist(), strict=True)
        )

    def _pair(
        self, placement: Placement, planned_rev: int | None
    ) -> tuple[Container, Container] | None:
        container = self._board.containers.get(ContainerId(placement.key))
        if container is None or container.state is not State.QUEUED:
            return None
        # With another spec it may ask for more than the plan has room for.
        if container.rev != planned_rev:
            return None
        workload = self._board.workloads[container.workload_id]
        if workload.start_hold is not None:
            return None
        view = self._snapshot.nodes[placement.node]
        if view.refusal is not None and view.name in self._tried:
            return None
        demand = self._board.demand_of(workload, container.replica)
        claim, room = self._board.claim_of(workload), self._headroom
        if room is not None and not room.covers(claim, demand):
            return None
        hold = self._hold(demand, placement, view)
        if hold is None:
            return None
        self._tried.add(view.name)
        if room is not None:
            room.take(claim, demand)
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
