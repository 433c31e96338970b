"""Can this ever run here? The question asked when a workload is submitted.

Checks amounts and empty nodes; it never looks at what is free now.
"""

import numpy as np

from dorabatch.errors import Refused
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.types import (
    SHARE,
    WHOLE_GPU_MILLI,
    ClusterArrays,
    Explanation,
    RequestArrays,
)
from dorabatch.placer.explain.impossible import explain_never

AMOUNT = "Amount"


def can_ever_run(
    requests: RequestArrays, cluster: ClusterArrays
) -> tuple[Explanation | None, ...]:
    """Return, per request, None or why it can never run on these nodes.

    Nodes that are not ready or disabled count as if they were well: they return.
    """
    problems = [bad_amount(requests, row, cluster) for row in range(len(requests))]
    sound = np.array(
        [row for row, bad in enumerate(problems) if bad is None], dtype=int
    )
    classes = classes_of(requests.take(sound))
    verdicts = [explain_never(classes, c, cluster) for c in range(len(classes))]
    found = list(problems)
    for row, of in zip(sound.tolist(), classes.of.tolist(), strict=True):
        found[row] = verdicts[of]
    return tuple(found)


def bad_amount(
    requests: RequestArrays, row: int, cluster: ClusterArrays
) -> Explanation | None:
    """Say which amount of one request makes no sense, if any."""
    count, milli = int(requests.gpu_count[row]), int(requests.gpu_milli[row])
    cpu, memory = int(requests.cpu_milli[row]), int(requests.memory_mib[row])
    problem = ""
    if count < 0:
        problem = f"asks for {count} GPUs; ask for 0 or more"
    elif not 1 <= milli <= WHOLE_GPU_MILLI:
        problem = f"asks for {milli} thousandths of a GPU; ask for 1 to 1000"
    elif milli < WHOLE_GPU_MILLI and count != 1:
        problem = f"asks for a share of {count} GPUs; a share is of exactly 1 GPU"
    elif cpu < 0 and (cpu != SHARE or count == 0):
        problem = f"asks for {cpu} thousandths of a CPU; ask for 0 or more"
    elif memory < 0 and memory != SHARE:
        problem = f"asks for {memory} MiB of memory; ask for 0 or more"
    elif count == 0 and cpu <= 0:
        problem = "asks for no GPU and no CPU; ask for at least one of them"
    elif not 0 <= int(requests.mask[row]) <= len(cluster.masks):
        problem = f"names mask {requests.mask[row]}; there are {len(cluster.masks)}"
    if not problem:
        return None
    return Explanation(reason=AMOUNT, counts={}, sentence=problem, never=True)


def refuse_bad_amounts(requests: RequestArrays, cluster: ClusterArrays) -> None:
    """Raise Refused for the first request whose amounts make no sense."""
    count, milli = requests.gpu_count, requests.gpu_milli
    cpu, memory = requests.cpu_milli, requests.memory_mib
    share = milli < WHOLE_GPU_MILLI
    suspect = (count < 0) | (milli < 1) | (milli > WHOLE_GPU_MILLI)
    suspect |= share & (count != 1)
    suspect |= (cpu < 0) & ((cpu != SHARE) | (count == 0))
    suspect |= (memory < 0) & (memory != SHARE)
    suspect |= (count == 0) & (cpu <= 0)
    suspect |= (requests.mask < 0) | (requests.mask > len(cluster.masks))
    for row in np.flatnonzero(suspect)[:1].tolist():
        problem = bad_amount(requests, row, cluster)
        sentence = problem.sentence if problem else "asks for nothing possible"
        raise Refused(f"request {int(requests.key[row])}: {sentence}")
