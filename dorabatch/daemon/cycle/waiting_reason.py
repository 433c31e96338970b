"""Why a container waits, in one place for all who tell of it.

A gate's reason first, then what the placer found, then what is left to say. Pure: reads
the latest plan; decides and changes nothing.
"""

from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.queue.records import Container


def waiting_reason(last: LastPlan, container: Container) -> WaitReason:
    """Why a queued container waits."""
    said = last.waits.get(container.container_id) or _placers(last, container)
    if said is not None:
        return said
    if container.reason:
        words = f"waits for another attempt: {container.reason}"
        return WaitReason("Requeued", words)
    return WaitReason("NotPlannedYet", "the next scheduling cycle looks at it")


def _placers(last: LastPlan, container: Container) -> WaitReason | None:
    """What the placer found: it asked for a place and got none."""
    plan = last.plan
    index = plan.waiting.get(container.container_id) if plan else None
    if plan is None or index is None:
        return None
    found = plan.explanations[index]
    kept = last.reserved.get(container.container_id)
    told = f"; {kept}" if kept else ""
    if container.reason:
        told += f"; attempt {container.attempt}: {container.reason}"
    return WaitReason(found.reason, found.sentence + told)
