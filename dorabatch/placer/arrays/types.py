"""What the whole placer speaks in: requests, nodes, placements, plans, as arrays.

Shapes and units are part of the names' documentation below. Values only; nothing
here reads a clock, a database or a node, and nothing here decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

SHARE = -1
"""In `cpu_milli` and `memory_mib`: take the node's equal slice.

With GPUs asked for: node total // node GPUs x GPUs asked. Memory of a CPU request:
node memory x asked milli-CPUs // node milli-CPUs.
"""

WHOLE_GPU_MILLI = 1000

UNKNOWN_US = 1 << 62
"""A moment nobody can tell: later than any other."""

USED_UP = -1
"""In `gpu_rest_milli`: a shared GPU of which every thousandth is taken.

It keeps its slot number; a slot with 0 may be opened again for another GPU.
"""


class Affinity(IntEnum):
    """Which of the feasible nodes is preferred."""

    BEST = 0
    FIRST = 1
    RANDOM = 2
    DISTRIBUTE = 3
    FILL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestArrays:
    """Waiting requests, one row each, best rank first.

    key[request]            the caller's id, returned in the plan
    group[request]          rows of one workload share a group (siblings)
    gang[request]           True: all rows of the group are placed, or none
    gpu_count[request]      whole GPUs, or 1 with gpu_milli < 1000
    gpu_milli[request]      1000, or the asked share of one GPU in thousandths
    accepts[request, model] which GPU models will do
    cpu_milli[request]      thousandths of a core, or SHARE
    memory_mib[request]     MiB, or SHARE
    affinity[request]       an Affinity value
    mask[request]           row of ClusterArrays.masks; 0 = every node
    """

    key: IntArray
    group: IntArray
    gang: BoolArray
    gpu_count: IntArray
    gpu_milli: IntArray
    accepts: BoolArray
    cpu_milli: IntArray
    memory_mib: IntArray
    affinity: IntArray
    mask: IntArray

    def __len__(self) -> int:
        return len(self.key)

    def take(self, order: IntArray) -> "RequestArrays":
        """The same requests in another order (or fewer of them)."""
        names = self.__dataclass_fields__
        return replace(self, **{name: getattr(self, name)[order] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Nodes a set of requests may use at all, and the reason for the others.

    allowed[node]; `reason` is a code such as "NodeList", "CpuModel", "Port". Where
    they have several, `first` are the refused[node] of the others, which count first.
    Where nodes are also kept for reserved requests of higher rank, `unreserved` is
    `allowed` without that, and `delays` are the keys of those requests.
    """

    reason: str
    allowed: BoolArray
    unreserved: BoolArray | None = None
    delays: tuple[int, ...] = ()
    first: tuple[tuple[str, BoolArray], ...] = ()


class _Hardware:
    """What follows from the totals of a cluster, worked out when first asked for."""

    gpus_total: IntArray
    cpu_total_milli: IntArray
    memory_total_mib: IntArray

    @cached_property
    def gpus_owned(self) -> IntArray:
        """gpus_total as gpus_owned[model, node], one row after the other in memory."""
        return np.ascontiguousarray(self.gpus_total.T)

    @cached_property
    def gpu_slice(self) -> tuple[IntArray, IntArray]:
        """(milli-CPUs, MiB) of each node that belong to one GPU: total // GPUs."""
        gpus = np.maximum(self.gpus_owned.sum(axis=0), 1)
        return self.cpu_total_milli // gpus, self.memory_total_mib // gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterArrays(_Hardware):
    """What the nodes have and what of it is free.

    names[node], models[model]
    ready[node]             reachable and healthy
    enabled[node]           scheduling not disabled
    allows_gpu[node]        takes requests with GPUs
    allows_cpu[node]        takes requests without GPUs
    gpus_total[node, model] GPUs by model
    gpus_free[node, model]  wholly free GPUs by model
    cpu_total_milli[node], cpu_free_milli[node]
    memory_total_mib[node], memory_free_mib[node]
    gpu_rest_milli[node, model, slot]  rests of opened (shared) GPUs: 0 = no such
                            slot, USED_UP = opened and nothing left
    siblings                (group, node) -> rows of the group that hold the node
    masks                   named masks; a request's mask m > 0 is masks[m - 1]
    """

    names: tuple[str, ...]
    models: tuple[str, ...]
    ready: BoolArray
    enabled: BoolArray
    allows_gpu: BoolArray
    allows_cpu: BoolArray
    gpus_total: IntArray
    gpus_free: IntArray
    cpu_total_milli: IntArray
    cpu_free_milli: IntArray
    memory_total_mib: IntArray
    memory_free_mib: IntArray
    gpu_rest_milli: IntArray
    siblings: dict[tuple[int, int], int] = field(default_factory=dict)
    masks: tuple[Mask, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


class Placement(NamedTuple):
    """One request's node; `gpus` counts by model, in the order of `models`.

    `slot` is the shared GPU's slot for a share of a GPU, else -1. A tuple, because a
    cycle may make a hundred thousand.
    """

    key: int
    node: int
    gpus: tuple[int, ...]
    slot: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request was not placed: nodes refused, counted by first reason.

    `sentence` is what a user reads; `reason` is the leading code. `never` says that
    no node would do even if it were empty (until nodes change). `delays` are the
    keys of reserved requests that would start later if this one took their nodes.
    """

    reason: str
    counts: dict[str, int]
    sentence: str
    never: bool = False
    delays: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A waiting request's place: from `start_us` on `node` has room for it.

    `start_us` is in microseconds since 1970; UNKNOWN_US where what runs there has no
    known end.
    """

    key: int
    group: int
    node: int
    start_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The result of a cycle's packing.

    placements   in rank order
    waiting      key -> index into explanations (one shared by equal requests)
    left         keys not looked at in this cycle because of a bound
    reservations requests of highest rank that wait, with the place kept for each
    """

    placements: tuple[Placement, ...]
    waiting: Mapping[int, int]
    explanations: tuple[Explanation, ...]
    left: tuple[int, ...] = ()
    reservations: tuple[Reservation, ...] = ()


_SPAN_MAX = 8
"""Keys are looked up in a table while it has at most so many places a key."""


class Waiting(Mapping[int, int]):
    """key -> index into a plan's explanations: why[i] is that of key[i].

    In rank order. Single keys are looked up in a dict that is made for the first.
    """

    __slots__ = ("_by_key", "key", "why")

    def __init__(self, key: IntArray, why: IntArray) -> None:
        self.key = key
        self.why = why
        self._by_key: dict[int, int] | None = None

    @classmethod
    def of(cls, waiting: Mapping[int, int]) -> "Waiting":
        """The same as arrays."""
        if isinstance(waiting, cls):
            return waiting
        pairs = np.array(list(waiting.items()), dtype=np.int64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1])

    def __getitem__(self, key: int) -> int:
        if self._by_key is None:
            pairs = zip(self.key.tolist(), self.why.tolist(), strict=True)
            self._by_key = dict(pairs)
        return self._by_key[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self.key.tolist())

    def __len__(self) -> int:
        return len(self.key)

    def take(self, which: IntArray | BoolArray) -> "Waiting":
        """Some of them, in the order given."""
        return Waiting(self.key[which], self.why[which])


def rows_of(keys: IntArray, wanted: IntArray) -> IntArray:
    """row[i] of wanted[i] among `keys`, all different; -1 where it is not there."""
    if len(keys) == 0 or len(wanted) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    least, most = int(keys.min()), int(keys.max())
    if most - least < _SPAN_MAX * len(keys):
        table = np.full(most - least + 2, -1, dtype=np.int64)
        table[keys - least] = np.arange(len(keys))
        # Whatever lies outside finds the last place, which stays empty.
        at = np.where((wanted < least) | (wanted > most), most + 1, wanted)
        return np.asarray(table[at - least])
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order[at]] == wanted, order[at], -1)
