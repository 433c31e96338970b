"""Requests that ask for the same thing, as classes.

Decides only what counts as "the same": GPUs, share, models, CPUs, memory and mask.
Group, gang and affinity stay with the single request. It never looks at a node.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dorabatch.placer.arrays.types import BoolArray, IntArray, RequestArrays

BUCKETS = 1 << 16
FEW = 1 << 10
"""Up to as many classes are told apart by parts of a digest, without sorting; up to as
many requests are sorted at once."""


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

    def take(self, which: IntArray) -> "Classes":
        """Some of the classes; of no requests."""
        names = [name for name in self.__dataclass_fields__ if name != "of"]
        columns = {name: getattr(self, name)[which] for name in names}
        return Classes(of=np.zeros(0, dtype=np.int64), **columns)


def classes_of(requests: RequestArrays) -> Classes:
    """Group equal asks; exact, whatever the values are."""
    gpus = requests.gpu_count, requests.gpu_milli, requests.mask
    amounts = requests.cpu_milli, requests.memory_mib
    columns = *_packed(gpus, 20), *_packed(amounts, 32), *words_of(requests.accepts).T
    first, of = distinct_rows(columns, len(requests))
    return Classes(
        of=of,
        gpu_count=requests.gpu_count[first],
        gpu_milli=requests.gpu_milli[first],
        accepts=requests.accepts[first],
        cpu_milli=requests.cpu_milli[first],
        memory_mib=requests.memory_mib[first],
        mask=requests.mask[first],
    )


def _packed(columns: tuple[IntArray, ...], bits: int) -> tuple[IntArray, ...]:
    """The columns as one, of so many bits each, where their values allow it.

    Values from -1 on are told apart so; with others they are left as they are.
    """
    one = np.zeros_like(columns[0])
    for column in columns:
        if column.min(initial=0) < -1 or column.max(initial=0) >= (1 << bits - 1) - 1:
            return columns
        one = (one << bits) | (column + 1)
    return (one,)


def numbered(of: IntArray, most: int) -> tuple[IntArray, IntArray]:
    """Number values 0..most-1 anew by first appearance: first[new], of[row]."""
    first = np.full(most, -1, dtype=np.int64)
    # Of the rows written to one place the last one stays: the first row.
    first[of[::-1]] = np.arange(len(of) - 1, -1, -1)
    starts = np.sort(first[first >= 0])
    number = np.empty(most, dtype=np.int64)
    number[of[starts]] = np.arange(len(starts))
    return starts, number[of]


def words_of(flags: BoolArray) -> npt.NDArray[np.uint64]:
    """words[row, part]: eight flags in each."""
    rows, count = flags.shape
    padded = np.zeros((rows, -(-count // 8) * 8), dtype=bool)
    padded[:, :count] = flags
    return padded.view(np.uint64)


def distinct_rows(
    columns: Sequence[npt.NDArray[np.generic]], count: int
) -> tuple[IntArray, IntArray]:
    """Rows of several columns: first[kind], of[row]; kinds by first appearance."""
    if count == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty
    digest = _digests(columns, count)
    first, of = _by_digest(digest)
    if all(np.array_equal(column[first][of], column) for column in columns):
        return first, of
    # Different rows share a digest: sort the rows themselves.
    whole = np.column_stack([column.astype(np.int64) for column in columns])
    rows = whole.view([("", whole.dtype)] * whole.shape[1]).ravel()
    _, of = np.unique(rows, return_inverse=True)
    return numbered(of.ravel(), count)


def _by_digest(digest: npt.NDArray[np.uint64]) -> tuple[IntArray, IntArray]:
    """first[class], of[row] by equal digests; a few classes are told apart unsorted."""
    for shift in (48, 32, 16) if len(digest) > FEW else ():
        bucket = (digest >> np.uint64(shift)).astype(np.int64) & (BUCKETS - 1)
        first, of = numbered(bucket, BUCKETS)
        if np.array_equal(digest[first][of], digest):
            return first, of
        if len(first) > FEW:
            break
    _, of = np.unique(digest, return_inverse=True)
    return numbered(of.ravel(), len(digest))


def _digests(
    columns: Sequence[npt.NDArray[np.generic]], count: int
) -> npt.NDArray[np.uint64]:
    """One number per row; equal rows give equal numbers, the rest rarely do."""
    digest = np.zeros(count, dtype=np.uint64)
    for column in columns:
        digest = (digest ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        digest ^= digest >> np.uint64(29)
    digest *= np.uint64(0xD1342543DE82EF95)
    return digest ^ (digest >> np.uint64(32))
