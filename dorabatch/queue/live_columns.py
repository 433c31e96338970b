"""What waits and what is held, as arrays that grow and shrink with each change.

The cycle reads copies of these columns and never the queue's rows: adding or taking
out one container costs the same however many there are. Written by the writer's thread
under a lock, copied by everybody. Decides nothing and keeps no order.
"""

import threading
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from dorabatch.queue.demand import (
    Claim,
    Demand,
    HeldArrays,
    IntArray,
    PendingArrays,
    Restriction,
    number_of,
)
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, ContainerId, StartHold
from dorabatch.queue.states import State
from dorabatch.units import microseconds_of

_FIRST_CAPACITY = 1024


class Columns:
    """Named columns; the first holds the key."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._values = np.zeros((len(names), _FIRST_CAPACITY), dtype=np.int64)
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def put(self, row: Sequence[int]) -> None:
        """Add a row, or change the one with its key."""
        at = self._row_of.get(row[0])
        if at is None:
            at = len(self._row_of)
            if at == self._values.shape[1]:
                wider = np.zeros((len(self._names), 2 * at), dtype=np.int64)
                wider[:, :at] = self._values
                self._values = wider
            self._row_of[row[0]] = at
        self._values[:, at] = row

    def drop(self, key: int) -> None:
        """Take a row out; nothing happens when there is none."""
        at = self._row_of.pop(key, None)
        if at is None:
            return
        last = len(self._row_of)
        if at != last:
            self._values[:, at] = self._values[:, last]
            self._row_of[int(self._values[0, at])] = at

    def copy(self) -> dict[str, IntArray]:
        """The columns as they are now, by name."""
        copied = self._values[:, : len(self._row_of)].copy()
        return dict(zip(self._names, copied, strict=True))


_COLUMNS = (
    "key",
    "group",
    "replica",
    "gpu_count",
    "gpu_milli",
    "selector",
    "cpu_milli",
    "memory_mib",
    "affinity",
    "restriction",
    "claim",
    "submitted_us",
    "ready_us",
    "tried",
    "trial_stops",
    "lost",
    "start_hold",
    "depends",
    "rev",
)


class PendingQueue:
    """The waiting containers by columns; row order carries no meaning."""

    def __init__(self) -> None:
        self._columns = Columns(_COLUMNS)
        # The writer changes the columns while the cycle copies them.
        self._lock = threading.Lock()
        self._selectors: dict[tuple[str, ...] | None, int] = {None: 0}
        self._restrictions: dict[Restriction, int] = {Restriction(): 0}
        self._claims: dict[Claim, int] = {}
        self._start_holds: dict[StartHold | None, int] = {None: 0}

    def __len__(self) -> int:
        return len(self._columns)

    def put(
        self,
        container: Container,
        *,
        demand: Demand,
        claim: Claim,
        submitted_at: datetime,
        start_hold: StartHold | None = None,
        depends: bool = False,
    ) -> None:
        """Add a container, or change the one that waits already."""
        key, ready_at = container.container_id, container.ready_at
        with self._lock:
            self._columns.put(
                (
                    key,
                    container.workload_id,
                    container.replica,
                    demand.gpu_count,
                    demand.gpu_milli,
                    number_of(self._selectors, demand.gpu_models),
                    demand.cpu_milli,
                    demand.memory_mib,
                    demand.affinity,
                    number_of(self._restrictions, demand.restriction),
                    number_of(self._claims, claim),
                    microseconds_of(submitted_at),
                    microseconds_of(ready_at) if ready_at else 0,
                    container.tried,
                    container.trial_stops,
                    container.lost_requeues > 0,
                    number_of(self._start_holds, start_hold),
                    depends,
                    container.rev,
                )
            )

    def drop(self, key: ContainerId) -> None:
        """Take a container out; nothing happens when it does not wait."""
        with self._lock:
            self._columns.drop(key)
            if len(self._columns) == 0:
                # Nothing refers to them any more: the list of all ever seen ends.
                self._claims.clear()
                self._start_holds = {None: 0}

    def arrays(self) -> PendingArrays:
        """A copy of what waits now."""
        with self._lock:
            columns = self._columns.copy()
            selectors = tuple(self._selectors)
            restrictions = tuple(self._restrictions)
            claims = tuple(self._claims)
            start_holds = tuple(self._start_holds)
        return PendingArrays(
            **columns,
            selectors=selectors,
            restrictions=restrictions,
            claims=claims,
            start_holds=start_holds,
        )


_MICROSECONDS = 1_000_000
_HELD_COLUMNS = (
    "key",
    "group",
    "node",
    "models",
    "device",
    "gpu_milli",
    "cpu_milli",
    "memory_mib",
    "started_us",
    "claim",
    "stopping",
    "trial_us",
)


class HeldTable:
    """The containers that hold something, by columns."""

    def __init__(self) -> None:
        self._columns = Columns(_HELD_COLUMNS)
        # The writer changes the columns while the cycle copies them.
        self._lock = threading.Lock()
        self._nodes: dict[str, int] = {}
        self._model_sets: dict[tuple[str, ...], int] = {(): 0}
        self._devices: dict[str, int] = {"": 0}
        self._claims: dict[Claim, int] = {}

    def __len__(self) -> int:
        return len(self._columns)

    def put(self, container: Container, claim: Claim) -> None:
        """Add a container that holds something, or change it."""
        hold, started = container.hold, container.started_at
        assert hold is not None
        is_share = hold.gpu_milli != WHOLE_GPU_MILLI
        with self._lock:
            self._columns.put(
                (
                    container.container_id,
                    container.workload_id,
                    number_of(self._nodes, hold.node),
                    number_of(self._model_sets, hold.gpu_models),
                    number_of(self._devices, hold.gpus[0]) if is_share else 0,
                    hold.gpu_milli,
                    hold.cpu_milli,
                    hold.memory_mib,
                    microseconds_of(started) if started else 0,
                    number_of(self._claims, claim),
                    container.state is State.STOPPING,
                    (container.trial_seconds or 0) * _MICROSECONDS,
                )
            )

    def drop(self, key: ContainerId) -> None:
        """Take a container out; nothing happens when it holds nothing."""
        with self._lock:
            self._columns.drop(key)
            if len(self._columns) == 0:
                # Nothing refers to them any more: the list of all ever seen ends.
                self._claims.clear()

    def arrays(self) -> HeldArrays:
        """A copy of what is held now."""
        with self._lock:
            columns = self._columns.copy()
            nodes = tuple(self._nodes)
            model_sets, devices = tuple(self._model_sets), tuple(self._devices)
            claims = tuple(self._claims)
        return HeldArrays(
            **columns,
            nodes=nodes,
            model_sets=model_sets,
            devices=devices,
            claims=claims,
        )
