"""Whether anything has to be done for credit at a moment.

Looks in memory; writes nothing, so that a second without anything due costs nothing.
"""

from datetime import datetime, timedelta

from dorabatch.daemon.state.billed_runs import Billed, BilledRuns, RunOut
from dorabatch.daemon.state.charging import OUT_OF_CREDIT, Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.credit_weeks import boundaries
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.timers.lost_gpus import LostGpus
from dorabatch.units import microseconds_of, moment_of

PATIENCE_SECONDS = 30.0
"""How long after the start nodes may take to say what still runs."""


class CreditDue:
    """What was charged last, and whether it is time again.

    Written and read by the thread that looks after credit only.
    """

    def __init__(
        self,
        credits: CreditBook,
        billing: Billing,
        fleet: Fleet,
        lost_gpus: LostGpus,
        tick: timedelta,
    ) -> None:
        self._credits = credits
        self._billing = billing
        self._fleet = fleet
        self._lost_gpus = lost_gpus
        self._tick = tick
        self._began: datetime | None = None
        self._charged_at: datetime | None = None

    def begin(self, now: datetime) -> None:
        """Remember the first moment at which anybody looked."""
        self._began = self._began or now

    def note_charged(self, now: datetime) -> None:
        """All was charged up to now."""
        self._charged_at = now

    def is_due(self, scene: BilledRuns, outs: list[RunOut], now: datetime) -> bool:
        """Whether a transaction is worth it."""
        if not self._knows_what_runs(scene, now):
            return False
        at = microseconds_of(now)
        is_late = self._charged_at is None or now - self._charged_at >= self._tick
        if scene.billed and is_late:
            return True
        if any(out.at <= at and not goes_on(self._credits, out, at) for out in outs):
            return True
        if boundaries(self._credits, now):
            return True
        return any(
            self._lost_gpus.changed_meter(one, now) is not None for one in scene.billed
        ) or any(is_back(self._billing, scene, one, at) for one in scene.billed)

    def _knows_what_runs(self, scene: BilledRuns, now: datetime) -> bool:
        """Whether nodes have had time to say what ended while nobody looked."""
        assert self._began is not None
        if (now - self._began).total_seconds() >= PATIENCE_SECONDS:
            return True
        nodes = {one.container.hold.node for one in scene.billed if one.container.hold}
        views = [self._fleet.get(name) for name in nodes]
        return all(view and view.state is NodeState.READY for view in views)


def goes_on(credits: CreditBook, out: RunOut, now: int) -> bool:
    """Whether what an account runs goes on though it has spent all."""
    return credits.standing_of(out.account, moment_of(now)).runs_into_debt


def is_back(billing: Billing, scene: BilledRuns, one: Billed, now: int) -> bool:
    """Whether a run that goes on unpaid could be paid again."""
    if one.last.is_billed or one.last.reason != OUT_OF_CREDIT:
        return False
    return scene.covers(one, billing.full_price(one.last, now), now)
