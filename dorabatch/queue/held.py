"""What is held on the nodes, as arrays that change with each commit.

The cycle reads copies of these columns instead of going through the records of all
that runs. Decides nothing.
"""

import threading

from dorabatch.queue.columns import Columns, number_of
from dorabatch.queue.demand import Claim, HeldArrays
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, ContainerId
from dorabatch.queue.states import State
from dorabatch.units import microseconds_of

_MICROSECONDS = 1_000_000
_COLUMNS = (
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
        self._columns = Columns(_COLUMNS)
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
