"""A plan -> guarded writes: QUEUED becomes PLACED where nothing changed since.

Picks the devices of each placement. A placement that no longer matches is left for
the next cycle; nothing here talks to a node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dorabatch.daemon.billing.charging import Billing, Placing
from dorabatch.daemon.billing.desk import run_name
from dorabatch.daemon.choice_words import EVENT_KIND, choice_text
from dorabatch.daemon.devices import FreeDevices
from dorabatch.daemon.holding import amounts
from dorabatch.daemon.node_view import NodeView
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.db import Tx
from dorabatch.errors import LeaseLost
from dorabatch.placer.arrays import Placement, Plan
from dorabatch.placer.choice import Choice
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Container, ContainerId, Happening, Hold
from dorabatch.queue.states import State
from dorabatch.queue.transitions import new_run, placed

MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What came of a plan: placed containers, and how many were stale.

    `refused[container]` says why credit does not let it start.
    """

    placed: tuple[Container, ...]
    stale: int
    refused: Mapping[int, str]


class PlanCommitter:
    """Turns placements into holds on the devices that are free right now."""

    def __init__(
        self,
        board: Board,
        snapshot: Snapshot,
        billing: Billing,
        choices: Sequence[Choice] = (),
        trials: Mapping[int, int] | None = None,
    ) -> None:
        self._board = board
        self._snapshot = snapshot
        self._billing = billing
        self._choices = {choice.key: choice for choice in choices}
        # Seconds by container, for those that start on trial.
        self._trials = trials or {}
        self._devices: dict[str, FreeDevices] = {}
        # The device behind each slot that shares are taken of.
        self._opened = dict(snapshot.shared.device_of)

    def commit(self, tx: Tx, plan: Plan, now: datetime) -> Committed:
        """Write the plan; runs inside the writer's transaction."""
        changed = []
        for placement in plan.placements:
            pair = self._pair(placement)
            if pair is not None:
                changed.append(pair)
        admission = self._billing.admit(
            tx, [self._placing(after) for _, after in changed], now
        )
        refused = admission.refused
        done = _save(
            tx, [pair for pair in changed if pair[0].container_id not in refused]
        )
        self._billing.open(tx, admission, {run_name(after) for _, after in done}, now)
        store.insert_runs(tx, [new_run(after, now) for _, after in done])
        placed_now = [after for _, after in done]
        events = [_placed_event(after, now) for after in placed_now]
        store.insert_events(tx, events + self._choice_events(placed_now, now))
        return Committed(
            placed=tuple(after for _, after in done),
            stale=len(plan.placements) - len(done) - len(refused),
            refused=refused,
        )

    def _placing(self, container: Container) -> Placing:
        workload = self._board.workloads[container.workload_id]
        return Placing(container=container, workload=workload)

    def _choice_events(
        self, placed_now: Sequence[Container], now: datetime
    ) -> list[Happening]:
        names = self._snapshot.cluster.names
        return [
            Happening(
                workload_id=one.workload_id,
                at=now,
                replica=one.replica,
                kind=EVENT_KIND,
                text=choice_text(self._choices[one.container_id], names, one.attempt),
            )
            for one in placed_now
            if one.container_id in self._choices
        ]

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


def _save(
    tx: Tx, changed: Sequence[tuple[Container, Container]]
) -> list[tuple[Container, Container]]:
    noted = len(tx.changes)
    savepoint = tx.connection.begin_nested()
    try:
        store.save_containers(tx, changed)
    except LeaseLost:
        savepoint.rollback()
        del tx.changes[noted:]
    else:
        savepoint.commit()
        return list(changed)
    # Somebody cancelled one of them in the same moment: find out which.
    done = []
    for pair in changed:
        savepoint = tx.connection.begin_nested()
        try:
            store.save_containers(tx, [pair])
        except LeaseLost:
            savepoint.rollback()
        else:
            savepoint.commit()
            done.append(pair)
    return done


def _placed_event(container: Container, now: datetime) -> Happening:
    hold = container.hold
    assert hold is not None
    count = len(hold.gpus) * hold.gpu_milli / MILLI
    gpus = f", {count:g} x {hold.gpu_models[0]}" if hold.gpus else ""
    seconds = container.trial_seconds
    trial = "" if seconds is None else f", on trial for {seconds} s"
    return Happening(
        workload_id=container.workload_id,
        at=now,
        replica=container.replica,
        kind="place",
        text=f"attempt {container.attempt} placed on {hold.node}{gpus}{trial}",
    )
