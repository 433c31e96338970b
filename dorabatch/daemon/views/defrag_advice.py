"""`dnode defrag`: which restartable containers to move where, told and never done.

Gathers what runs and waits for the placer's advice and words it; starts and stops
nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.cycle.planner import take_times
from dorabatch.daemon.cycle.take_snapshot import held_ports, mask_of, take_snapshot
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.state.snapshot import Snapshot, accepts_table
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.table_layout import Row, lay_out
from dorabatch.placer.arrays.types import ClusterArrays, Mask, RequestArrays
from dorabatch.placer.plan.defrag_moves import WAITING_MAX, Gain, advise
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand, IntArray, Restriction
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, ContainerId
from dorabatch.queue.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class _Movable:
    """Containers that may be moved, their rows among what is held, as requests."""

    containers: list[Container]
    rows: IntArray
    requests: RequestArrays
    cluster: ClusterArrays


@dataclass(frozen=True, slots=True, kw_only=True)
class DefragAdvice:
    """Advice on the nodes of one zone."""

    board: Board
    fleet: Fleet
    latest: LatestPlan

    def advise(self) -> list[Row]:
        """What could be gained now, each gain with its moves."""
        snapshot = take_snapshot(self.board, self.fleet.views())
        order = self._waiting(snapshot)
        times = take_times(snapshot, order, 0)
        here = np.flatnonzero(snapshot.held_node >= 0)
        movable = self._movable(snapshot, here)
        gains = advise(
            movable.cluster,
            movable.requests,
            times.ends.take(movable.rows),
            snapshot.requests(order),
            np.bincount(snapshot.held_node[here], minlength=len(snapshot.cluster)),
        )
        return [_row(self.board, snapshot.cluster, gain) for gain in gains]

    def _waiting(self, snapshot: Snapshot) -> IntArray:
        """Rows of what waits for room, best rank first, as the last plan said."""
        plan = self.latest.last.plan
        if plan is None:
            return np.zeros(0, dtype=np.int64)
        keys = snapshot.pending.key.tolist()
        row_of = {int(key): row for row, key in enumerate(keys)}
        able = (
            key
            for key, why in plan.waiting.items()
            if key in row_of and not plan.explanations[why].never
        )
        chosen = [row_of[key] for key, _ in zip(able, range(WAITING_MAX), strict=False)]
        return np.array(chosen, dtype=np.int64)

    def _movable(self, snapshot: Snapshot, here: IntArray) -> _Movable:
        board, rows, found = self.board, [], []
        for at, key in enumerate(snapshot.held.key[here].tolist()):
            container = board.containers.get(ContainerId(key))
            if container is not None and is_movable(board, container):
                rows.append(at)
                found.append(container)
        demands = [
            board.demand_of(board.workloads[one.workload_id], one.replica)
            for one in found
        ]
        masks, numbers = _masks(board, snapshot, demands)
        return _Movable(
            containers=found,
            rows=np.array(rows, dtype=np.int64),
            requests=_requests(found, demands, snapshot.cluster.models, numbers),
            cluster=replace(snapshot.cluster, masks=masks),
        )


def is_movable(board: Board, container: Container) -> bool:
    """Whether a container may be stopped here and started elsewhere.

    It runs, may be begun anew (`restartable`), and has no part of a GPU that others
    share.
    """
    hold = container.hold
    if container.state is not State.RUNNING or hold is None:
        return False
    workload = board.workloads[container.workload_id]
    return spec_of(workload).restartable and hold.gpu_milli == WHOLE_GPU_MILLI


def _masks(
    board: Board, snapshot: Snapshot, demands: list[Demand]
) -> tuple[tuple[Mask, ...], list[int]]:
    masks = list(snapshot.cluster.masks)
    number_of: dict[Restriction, int] = {Restriction(): 0}
    ports = {view.name: held_ports(board, view.name) for view in snapshot.nodes}
    for demand in demands:
        restriction = demand.restriction
        if restriction in number_of:
            continue
        masks.append(mask_of(restriction, snapshot.nodes, ports))
        number_of[restriction] = len(masks)
    return tuple(masks), [number_of[demand.restriction] for demand in demands]


def _requests(
    containers: list[Container],
    demands: list[Demand],
    models: tuple[str, ...],
    masks: list[int],
) -> RequestArrays:
    def column(values: list[int]) -> IntArray:
        return np.array(values, dtype=np.int64)

    accepts = accepts_table([demand.gpu_models for demand in demands], models)
    return RequestArrays(
        key=column([one.container_id for one in containers]),
        group=column([one.workload_id for one in containers]),
        gang=np.zeros(len(containers), dtype=bool),
        gpu_count=column([demand.gpu_count for demand in demands]),
        gpu_milli=column([demand.gpu_milli for demand in demands]),
        accepts=accepts,
        cpu_milli=column([demand.cpu_milli for demand in demands]),
        memory_mib=column([demand.memory_mib for demand in demands]),
        affinity=np.zeros(len(containers), dtype=np.int64),
        mask=column(masks),
    )


def _row(board: Board, cluster: ClusterArrays, gain: Gain) -> Row:
    gpus = {
        model: count
        for model, count in zip(cluster.models, gain.gpus, strict=True)
        if count
    }
    starts = None if gain.starts is None else gain.starts[1]
    return {
        "node": cluster.names[gain.node],
        "gpus_free": gpus,
        "starts": starts,
        "moves": [
            {
                "id": move.group,
                "name": _name(board, move.key),
                "from": cluster.names[move.source],
                "to": cluster.names[move.target],
            }
            for move in gain.moves
        ],
    }


def _name(board: Board, key: int) -> str:
    container = board.containers[ContainerId(key)]
    workload = board.workloads[container.workload_id]
    return f"{workload.workspace}/{workload.name}.{container.replica}"


def defrag_text(rows: list[Row]) -> str:
    """The advice for people; nothing was done."""
    if not rows:
        return (
            "nothing to gain: no container that may be started anew (dsub "
            "--restartable) can make room by moving\n"
        )
    lines: list[tuple[str, ...]] = [
        (str(number), move["name"], str(move["id"]), move["from"], move["to"])
        for number, row in enumerate(rows, start=1)
        for move in row["moves"]
    ]
    table = lay_out(lines, ("STEP", "CONTAINER", "ID", "FROM", "TO"))
    told = "".join(
        f"{number}. {_gain_words(row)}\n" for number, row in enumerate(rows, start=1)
    )
    return f"{table}\n{told}Nothing was moved.\n"


def _gain_words(row: Row) -> str:
    count = len(row["moves"])
    moves = "1 move" if count == 1 else f"{count} moves"
    gpus = ", ".join(f"{n} x {model}" for model, n in row["gpus_free"].items())
    if row["starts"] is not None:
        return f"after {moves} workload {row['starts']} can start on {row['node']}"
    return f"after {moves} {row['node']} is empty ({gpus})"
