"""What waits and what is held: one demand as a value, many as arrays.

Pure: values only; decides nothing and reads no clock.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dorabatch.queue.records import StartHold

_T = TypeVar("_T")

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """Where a request may go at all; empty tuples restrict nothing.

    `ports` are "protocol/number" published on the node itself.
    """

    nodes: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one container asks for, in the placer's units.

    `gpu_models` None accepts any; `cpu_milli` and `memory_mib` may be the placer's
    SHARE; `affinity` is the placer's Affinity value.
    """

    gpu_count: int
    gpu_milli: int
    gpu_models: tuple[str, ...] | None
    cpu_milli: int
    cpu_exclusive: bool
    memory_mib: int
    affinity: int
    restriction: Restriction


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Whose a workload is and what decides its turn; alike workloads share one.

    `nice` is taken off the priority, `qos` names a setting of the site; empty: none.
    `run_seconds_max` is how long it may run; 0: as long as it wants. `restartable`: it
    may be stopped and started anew.
    """

    user: str
    workspace: str
    nice: int = 0
    qos: str = ""
    gpu_count: int = 0
    gpu_milli: int = 1000
    run_seconds_max: int = 0
    restartable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingArrays:
    """Copies of the columns, one row a waiting container, in no special order.

    `selector[row]` indexes `selectors`, `restriction[row]` indexes `restrictions`,
    `claim[row]` indexes `claims`. Times are microseconds since 1970. `tried` is 1 once
    a trial was outlived, `trial_stops` counts the trials that were stopped.
    `lost` is 1 where an attempt was lost by no fault of its own.
    `start_hold[row]` indexes `start_holds`, of which the first is None. `depends` is 1
    where its workload waits for others. `rev` is the record's: what has another one by
    now was changed since.
    """

    key: IntArray
    group: IntArray
    replica: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    selector: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    affinity: IntArray
    restriction: IntArray
    claim: IntArray
    submitted_us: IntArray
    ready_us: IntArray
    tried: IntArray
    trial_stops: IntArray
    lost: IntArray
    start_hold: IntArray
    depends: IntArray
    rev: IntArray
    selectors: tuple[tuple[str, ...] | None, ...]
    restrictions: tuple[Restriction, ...]
    claims: tuple[Claim, ...]
    start_holds: tuple[StartHold | None, ...]

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldArrays:
    """Copies of the columns, one row a container that holds something.

    `node` indexes `nodes`, `models` indexes `model_sets` (one name a GPU), `device`
    indexes `devices`: the shared GPU's uuid, 0 where whole GPUs or none are held.
    `claim` indexes `claims`. `started_us` is 0 before the start, `trial_us` how long
    it may run on trial, 0 for ordinary runs.
    """

    key: IntArray
    group: IntArray
    node: IntArray
    models: IntArray
    device: IntArray
    gpu_milli: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    started_us: IntArray
    claim: IntArray
    stopping: IntArray
    trial_us: IntArray
    nodes: tuple[str, ...]
    model_sets: tuple[tuple[str, ...], ...]
    devices: tuple[str, ...]
    claims: tuple[Claim, ...]

    def __len__(self) -> int:
        return len(self.key)


def number_of(numbers: dict[_T, int], value: _T) -> int:
    """The number that stands for a value in a column; a new value gets the next."""
    return numbers.setdefault(value, len(numbers))
