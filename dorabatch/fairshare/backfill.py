"""EASY backfill on counted GPUs: one reservation, and who may pass before it.

Decides which rows start now. Knows no nodes; never places anything by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DEPTH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """When the blocked head can start, and what is left over at that moment."""

    at: float
    spare: int


def reservation(
    size: int, *, free: int, ends: FloatArray, sizes: IntArray, now: float
) -> Reservation:
    """The earliest start of a blocked request, from the running ones' expected ends."""
    order = np.argsort(ends, kind="stable")
    freed = free + np.cumsum(sizes[order])
    place = int(np.searchsorted(freed, size))
    if place >= len(order):
        return Reservation(at=np.inf, spare=0)
    at = float(max(now, ends[order[place]]))
    # Whatever ends at the same moment is free as well.
    last = int(np.searchsorted(ends[order], at, side="right")) - 1
    return Reservation(at=at, spare=int(freed[max(place, last)]) - size)


def backfilled(
    rows: IntArray,
    *,
    sizes: IntArray,
    planned: FloatArray,
    free: int,
    held: Reservation,
    now: float,
) -> list[int]:
    """Of the ranked rows behind the head, those that delay it by nothing.

    sizes[row], planned[row] seconds; a row ends before the reservation or fits in
    what is spare at it.
    """
    chosen: list[int] = []
    spare = held.spare
    candidates: Sequence[int] = rows[:DEPTH][sizes[rows[:DEPTH]] <= free].tolist()
    for row in candidates:
        size = int(sizes[row])
        if size > free:
            continue
        in_time = now + planned[row] <= held.at
        if not in_time and size > spare:
            continue
        if not in_time:
            spare -= size
        free -= size
        chosen.append(row)
        if free == 0:
            break
    return chosen
