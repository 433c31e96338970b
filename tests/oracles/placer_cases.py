"""Small clusters and queues for placer tests; they place nothing."""

import numpy as np

from dorabatch.placer.arrays.types import ClusterArrays, Mask, RequestArrays

MODELS = ("V100", "T4", "A100")


def make_cluster(
    nodes: list[tuple[int, int, tuple[int, ...]]],
    models: tuple[str, ...] = MODELS,
    masks: tuple[Mask, ...] = (),
) -> ClusterArrays:
    """Empty nodes given as (milli-CPUs, MiB, GPUs by model)."""
    well = np.ones(len(nodes), dtype=bool)
    gpus = np.array([n[2] for n in nodes], dtype=np.int64).reshape(-1, len(models))
    cpu = np.array([n[0] for n in nodes], dtype=np.int64)
    memory = np.array([n[1] for n in nodes], dtype=np.int64)
    return ClusterArrays(
        names=tuple(f"n{i + 1}" for i in range(len(nodes))),
        models=models,
        ready=well,
        enabled=well.copy(),
        allows_gpu=well.copy(),
        allows_cpu=well.copy(),
        gpus_total=gpus,
        gpus_free=gpus.copy(),
        cpu_total_milli=cpu,
        cpu_free_milli=cpu.copy(),
        memory_total_mib=memory,
        memory_free_mib=memory.copy(),
        gpu_rest_milli=np.zeros((*gpus.shape, 8), dtype=np.int64),
        masks=masks,
    )


def make_requests(rows: list[dict[str, object]]) -> RequestArrays:
    """Requests from dicts; what is left out is one GPU of any model."""

    def column(name: str, default: int) -> np.ndarray:
        return np.array([int(row.get(name, default)) for row in rows], dtype=np.int64)

    keys = [int(row.get("key", 100 + at)) for at, row in enumerate(rows)]
    accepts = [
        [model in row.get("accepts", MODELS) for model in MODELS] for row in rows
    ]
    groups = [int(row.get("group", -1 - at)) for at, row in enumerate(rows)]
    return RequestArrays(
        key=np.array(keys, dtype=np.int64),
        group=np.array(groups, dtype=np.int64),
        gang=column("gang", 0).astype(bool),
        gpu_count=column("gpus", 1),
        gpu_milli=column("milli", 1000),
        accepts=np.array(accepts, dtype=bool).reshape(-1, len(MODELS)),
        cpu_milli=column("cpu", 1000),
        memory_mib=column("memory", 1024),
        affinity=column("affinity", 0),
        mask=column("mask", 0),
    )
