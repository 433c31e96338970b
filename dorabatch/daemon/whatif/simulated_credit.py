"""Credit in a play: weeks open, liens are taken, runs are charged, in memory only.

What things cost and who may start is decided by the daemon's own credit book, billing
and gate. What runs already is never stopped for credit here.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.state.charging import (
    Admission,
    Billing,
    Placing,
    lien_of,
    release_of,
)
from dorabatch.daemon.state.credit_book import CreditBook, RunClosed, run_name
from dorabatch.daemon.state.credit_weeks import missing_weeks
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.timers.credit_charges import CREDIT_IS_BACK
from dorabatch.fairshare.money.book import Allocation
from dorabatch.fairshare.money.meter import Meter
from dorabatch.fairshare.money.week import WeeklyCredit, open_week
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container
from dorabatch.units import CREDIT, microseconds_of


class SimulatedCredit:
    """Everybody's credit. `short_us[user]` is when it first kept something of theirs
    waiting, or let it run free."""

    def __init__(
        self,
        desk: CreditBook,
        billing: Billing,
        usage: UsageBook,
        board: Board,
        close_us: int,
    ) -> None:
        self._desk = desk
        self._billing = billing
        self._usage = usage
        self._board = board
        self._close_us = close_us
        self.short_us: dict[str, int] = {}

    @property
    def is_limited(self) -> bool:
        """Whether anybody gets credit by the week."""
        return bool(self._desk.people.weekly(self._desk.zone))

    @property
    def has_scavengers(self) -> bool:
        """Whether anything runs free."""
        return self._desk.has_scavengers()

    def is_scavenger(self, container: Container) -> bool:
        """Whether this runs free."""
        return self._desk.is_scavenger(container)

    def meters_of(self, container: Container) -> Sequence[Meter]:
        """What a run is billed by."""
        return self._desk.meters_of(container)

    def pass_week(self, now: datetime) -> datetime:
        """Open the present week for all who have none; when the next begins."""
        for credit in missing_weeks(self._desk, now):
            self._open(credit, now)
        return self._desk.period(now).end

    def admit(self, placed: Sequence[Container], now: datetime) -> Admission:
        """Who of these may start; their meters run, their liens are taken."""
        workloads = self._board.workloads
        placings = [
            Placing(container=one, workload=workloads[one.workload_id])
            for one in placed
        ]
        admission = self._billing.admit_on(self._desk.book, placings, now)
        self._desk.book.keys.clear()
        self._desk.apply(admission.meters)
        self._usage.apply(admission.meters)
        return admission

    def restore(self, now: datetime) -> None:
        """Charge again what runs free once credit covers it."""
        desk, at = self._desk, microseconds_of(now)
        for mine in list(desk.meters.values()) if desk.has_scavengers() else ():
            last = mine[-1]
            need = self._billing.full_price(last, at)
            standings = [desk.standing_in(desk.book, name, at) for name in last.chain]
            if last.is_billed or not all(one.covers(need) for one in standings):
                continue
            meter = last.next(at, CREDIT_IS_BACK, is_billed=True)
            desk.play([lien_of(meter, need)])
            desk.apply([meter])
            self._usage.apply([meter])

    def settle(self, ended: Container) -> float:
        """Charge a run that is over; what it cost up to the close, in credits."""
        run = run_name(ended)
        mine = self._desk.meters.get(run)
        if not mine or ended.ended_at is None:
            return 0.0
        end = microseconds_of(ended.ended_at)
        self._desk.play(self._billing.charges(ended, mine, end))
        self._close(run, end)
        counted = min(end, self._close_us)
        return self._billing.total(ended, mine, counted) / CREDIT

    def forgive(self, stopped: Container, now: datetime) -> None:
        """A trial or a free run that was stopped costs nothing."""
        if run_name(stopped) in self._desk.meters:
            self._close(run_name(stopped), microseconds_of(now))

    def tick(self, running: Sequence[Container], now: datetime) -> None:
        """Charge what runs open-ended so far: its lien does not cover all of it."""
        for one in running:
            mine = self._desk.meters.get(run_name(one), ())
            if mine and mine[-1].limit_us is None:
                charges = self._billing.charges(one, mine, microseconds_of(now))
                self._desk.play(charges)

    def note_short(self, scene: Scene) -> None:
        """Remember whose credit keeps something waiting, or lets it run free."""
        pending, asking = scene.snapshot.pending, scene.asking
        rows = asking.order[asking.paid :].tolist()
        short = [key for key, why in asking.waits.items() if why.code == OUT_OF_CREDIT]
        if short:
            rows += np.flatnonzero(np.isin(pending.key, short)).tolist()
        for row in rows:
            user = pending.claims[int(pending.claim[row])].user
            self.short_us.setdefault(user, scene.now_us)

    def _open(self, credit: WeeklyCredit, now: datetime) -> None:
        period = self._desk.period(now)
        rows = self._desk.book.budgeted(credit.zone, credit.account)
        weeks = [row for row in rows if row.kind == "week"]
        last = max(weeks, key=lambda row: row.valid_to, default=None)
        opening = open_week(
            credit,
            period,
            at=microseconds_of(now),
            previous=last,
            left=self._left(last) if last else 0,
        )
        self._desk.apply(opening.allocations)
        self._desk.play(opening.postings)

    def _left(self, week: Allocation) -> int:
        side = f"avail:{week.zone}:{week.account}"
        return self._desk.book.balances.get((side, week.id), 0)

    def _close(self, run: str, at: int) -> None:
        self._desk.play([release_of(self._desk.meters[run][-1], at)])
        self._desk.apply([RunClosed(run=run)])
        self._usage.apply([RunClosed(run=run)])
