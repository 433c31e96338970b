"""What a run is billed for where its node lost GPUs of it, or has them again.

Says what the next meter would be; writes none and asks no node.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dorabatch.daemon.state.billed_runs import Billed
from dorabatch.daemon.state.charging import LOST_GPU, Billing
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.fairshare.money.meter import Item, Meter
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LostGpus:
    """Compares what runs hold with what their nodes have; `probe` is how often."""

    billing: Billing
    fleet: Fleet
    probe: timedelta

    def changed_meter(self, one: Billed, now: datetime) -> Meter | None:
        """Another meter where GPUs of the run are gone, or there again."""
        container, hold = one.container, one.container.hold
        view = self.fleet.get(hold.node) if hold else None
        if hold is None or view is None or view.facts is None:
            return None
        if view.state is not NodeState.READY or not one.last.is_billed:
            return None
        there = {gpu.uuid for gpu in view.facts.gpus}
        kept = [n for n, uuid in enumerate(hold.gpus) if uuid in there]
        if len(kept) == len(hold.gpus) and one.last.reason != LOST_GPU:
            return None
        left = replace(
            hold,
            gpus=tuple(hold.gpus[n] for n in kept),
            gpu_models=tuple(hold.gpu_models[n] for n in kept),
        )
        items = self.billing.items_of(replace(container, hold=left))
        if _gpu_milli(items) == _gpu_milli(one.last.items):
            return None
        is_lost = len(kept) < len(hold.gpus)
        # It was lost at some moment since the node was probed before.
        since = now - self.probe if is_lost else now
        at = max(microseconds_of(since), one.last.at + 1)
        reason = LOST_GPU if is_lost else "GPU is back"
        return one.last.next(at, reason, items=items)


def _gpu_milli(items: tuple[Item, ...]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((item.model, item.milli) for item in items))
