"""The explanations of the latest cycle, for everybody who is asked about them.

Written by the thread that runs the cycle, read by every other: one plan is built whole
and then published by one assignment, and whoever reads takes `last` once and goes on
with that. Decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.placer.arrays.types import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPlan:
    """The explanations of one cycle.

    `snapshot` is what it was planned on, `reserved` the words for each container that
    has a place kept, `waits` why containers could not even ask for a place; `silent`
    since when nodes do not answer.
    """

    plan: Plan | None = None
    snapshot: Snapshot | None = None
    reserved: Mapping[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    cycles: int = 0
    waits: Mapping[int, WaitReason] = field(default_factory=dict)
    silent: Mapping[str, datetime] = field(default_factory=dict)


class LatestPlan:
    """Holds what the latest cycle published."""

    def __init__(self) -> None:
        self.last = LastPlan()

    def publish(self, plan: LastPlan) -> None:
        """The cycle is done: from now on this is what is told."""
        self.last = plan
