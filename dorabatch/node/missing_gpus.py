"""GPUs that a node had and does not tell of now: broken or gone?

Pure. A broken driver, a library that is being replaced and a GPU that fell off its bus
are faults that pass. Only a probe without any error after another boot of the machine
says that a GPU was taken out.
"""

from dataclasses import replace

from dorabatch.node.facts import GpuFacts, NodeFacts


def lasting_gpu(gpu: GpuFacts) -> GpuFacts:
    """The GPU without readings of the moment."""
    return replace(
        gpu,
        memory_used_mib=None,
        utilization_percent=None,
        process_pids=(),
        is_used_by_others=False,
    )


def with_missing(before: NodeFacts | None, now: NodeFacts) -> NodeFacts:
    """What the node tells, with the GPUs that it had before and that are missing."""
    if before is None:
        return now
    told = {gpu.uuid for gpu in now.gpus}
    gone = [gpu for gpu in before.all_gpus if gpu.uuid not in told]
    if _tells_all(now) and now.boot_id != before.boot_id:
        gone = []
    gone.sort(key=lambda gpu: gpu.minor)
    return replace(now, missing_gpus=tuple(lasting_gpu(gpu) for gpu in gone))


def with_others_use(now: NodeFacts, held: frozenset[str]) -> NodeFacts:
    """The facts with the GPUs marked that others use: busy, and held by none of ours.

    held: uuids that our runs held before or after the probe.
    """
    gpus = tuple(
        replace(gpu, is_used_by_others=True)
        if gpu.process_pids and gpu.uuid not in held
        else gpu
        for gpu in now.gpus
    )
    return replace(now, gpus=gpus)


def gpu_trouble(facts: NodeFacts) -> str:
    """What is wrong with the node's GPUs, in a sentence; empty where nothing is."""
    missing, every = len(facts.missing_gpus), len(facts.all_gpus)
    why = facts.gpu_error or (
        "the node finds no NVML library"
        if facts.probe == "none"
        else "NVML tells of them no more"
    )
    if not missing:
        return facts.gpu_error or ""
    return f"{missing} of its {every} GPUs {_are(missing)} missing: {why}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _tells_all(facts: NodeFacts) -> bool:
    return facts.probe != "none" and facts.gpu_error is None
