"""Requests that ask for the same thing, as classes.

Decides only what counts as "the same": GPUs, share, models, CPUs, memory and mask.
Group, gang and affinity stay with the single request. It never looks at a node.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dorabatch.placer.arrays import BoolArray, IntArray, RequestArrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Distinct asks, in the order of their first request.

    of[request] is the class of a request; all else is [class] or [class, model].
    """

    of: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    accepts: BoolArray
    cpu_milli: IntArray
    memory_mib: IntArray
    mask: IntArray

    def __len__(self) -> int:
        return len(self.gpu_count)


def classes_of(requests: RequestArrays) -> Classes:
    """Group equal asks; exact, whatever the values are."""
    columns = np.column_stack(
        [
            requests.gpu_count,
            requests.gpu_milli,
            requests.cpu_milli,
            requests.memory_mib,
            requests.mask,
            requests.accepts.astype(np.int64),
        ]
    )
    first, of = _distinct_rows(columns)
    return Classes(
        of=of,
        gpu_count=requests.gpu_count[first],
        gpu_milli=requests.gpu_milli[first],
        accepts=requests.accepts[first],
        cpu_milli=requests.cpu_milli[first],
        memory_mib=requests.memory_mib[first],
        mask=requests.mask[first],
    )


def _distinct_rows(columns: IntArray) -> tuple[IntArray, IntArray]:
    """Return first[class] and of[row]; classes in order of first appearance."""
    if len(columns) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty
    digest = _digests(columns)
    first, inverse = _unique_first(digest)
    if not np.array_equal(columns[first][inverse], columns):
        # Two different rows share a digest: sort the rows themselves.
        whole = np.ascontiguousarray(columns)
        rows = whole.view([("", whole.dtype)] * whole.shape[1]).ravel()
        first, inverse = _unique_first(rows)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[inverse].astype(np.int64)


def _unique_first(
    values: npt.NDArray[np.generic],
) -> tuple[IntArray, IntArray]:
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first.astype(np.int64), inverse.astype(np.int64).ravel()


def _digests(columns: IntArray) -> npt.NDArray[np.uint64]:
    """One number per row; equal rows give equal numbers, the rest rarely do."""
    digest = np.zeros(len(columns), dtype=np.uint64)
    for column in columns.T:
        digest = (digest ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        digest ^= digest >> np.uint64(29)
    return digest
