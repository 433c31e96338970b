"""Who comes first: factors as arrays -> order of the whole queue.

Pure: the same arrays give the same order; reads no clock and no table.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from dorabatch.queue.demand import IntArray, PendingArrays

FloatArray = npt.NDArray[np.float64]


def rank_queued(pending: PendingArrays, priority: FloatArray | None = None) -> IntArray:
    """Rows best first: priority[row] falling, then submission, workload, replica.

    Without priorities the order is first come, first served.
    """
    keys: list[npt.NDArray[Any]] = [
        pending.replica,
        pending.group,
        pending.submitted_us,
    ]
    if priority is not None:
        keys.append(-priority)
    return np.lexsort(keys).astype(np.int64)
