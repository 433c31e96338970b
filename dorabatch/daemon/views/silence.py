"""That the node of what runs does not answer: since when, and what ends that.

Goes by what the latest cycle saw of the nodes; asks none and decides nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dorabatch.clock import Clock
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.views.cell_texts import duration
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import HOLDING
from dorabatch.resources.workload import OnLost

NODE_SILENT = "NodeSilent"


def silent_words(last: LastPlan, container: Container) -> str:
    """That the node of what holds a place does not answer; empty where it does."""
    since = last.silent.get(container.hold.node) if container.hold else None
    if since is None or container.state not in HOLDING:
        return ""
    assert container.hold is not None
    node = container.hold.node
    return f"node {node} has not answered since {since:%Y-%m-%d %H:%M} UTC"


def silence(last: LastPlan, containers: Iterable[Container]) -> str:
    """The first of a workload's nodes that does not answer, in words; empty: all do."""
    if not last.silent:
        return ""
    return next(filter(None, (silent_words(last, one) for one in containers)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silences:
    """What is said of a workload whose node is silent; `policy_of` is its rule."""

    latest: LatestPlan
    clock: Clock
    policy_of: Callable[[Workload], OnLost]

    def sentence(self, workload: Workload, containers: Sequence[Container]) -> str:
        """Which node is silent, since when, and what ends that; empty: all answer."""
        last, now = self.latest.last, self.clock.now()
        one = next((c for c in containers if silent_words(last, c)), None)
        if one is None or one.hold is None:
            return ""
        node = one.hold.node
        seconds = int((now - last.silent[node]).total_seconds())
        ends = f"`dnode lost {node}` by an admin ends it"
        rule = self.policy_of(workload)
        if rule.action != "wait" or rule.seconds:
            ends += f", or its own rule (onLost: {rule})"
        stops = f"; {one.reason}" if one.reason else ""
        return (
            f"its {silent_words(last, one)} ({duration(seconds)}); {ends}, or it goes "
            f"on when the node answers{stops}"
        )
