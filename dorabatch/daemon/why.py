"""`dstat --why`: why a workload waits, or where it runs, in a sentence.

Reads the latest plan; plans nothing itself.
"""

from dorabatch.daemon.forecasts import start_lines
from dorabatch.daemon.services import Services
from dorabatch.daemon.summary import (
    containers_of,
    summarize_containers,
    waiting_reason,
    workload_label,
)
from dorabatch.daemon.turns import turn_lines
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State


def why_text(services: Services, workload: Workload, *, has_placement: bool) -> str:
    """One sentence; with placement also each container's line."""
    containers = containers_of(services, workload)
    summary = summarize_containers(containers)
    label = workload_label(workload)
    waiting = [c for c in containers if c.state is State.QUEUED]
    if waiting:
        _, sentence = waiting_reason(services.last_plan, waiting[0])
        lines = [
            f"{label} waits: {sentence}"
            if len(containers) == 1
            else f"{label}: {len(waiting)} of {len(containers)} containers wait: "
            f"{sentence}"
        ]
    else:
        lines = [f"{label} is {summary.state}" + _ending(containers)]
    if has_placement:
        lines += [_line(services, workload, one) for one in containers]
        lines += _counts(services, waiting)
        if waiting:
            lines += turn_lines(services, workload, services.clock.now())
            lines += start_lines(services, workload)
    return "\n".join(lines) + "\n"


def _ending(containers: list[Container]) -> str:
    reasons = [c.reason for c in containers if c.reason]
    return f": {reasons[0]}" if reasons else ""


def _line(services: Services, workload: Workload, container: Container) -> str:
    name = f"  {workload.name}.{container.replica}"
    if container.hold is not None:
        models = ", ".join(container.hold.gpu_models) or "no GPU"
        return f"{name}: {container.state} on {container.hold.node} ({models})"
    if container.state is State.QUEUED:
        return f"{name}: {waiting_reason(services.last_plan, container)[1]}"
    return f"{name}: {container.state}"


def _counts(services: Services, waiting: list[Container]) -> list[str]:
    plan = services.last_plan.plan
    if not waiting or plan is None:
        return []
    index = plan.waiting.get(waiting[0].container_id)
    if index is None:
        return []
    counts = plan.explanations[index].counts
    return [
        f"  {reason}: refuses {count} node{'' if count == 1 else 's'}"
        for reason, count in counts.items()
    ]
