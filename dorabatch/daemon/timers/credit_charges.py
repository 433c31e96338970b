"""The beat of credit: resets, expiry, credit that runs out or is back, charging.

Looks once a second, in memory; only when something is due does one transaction do all
of it, in the order of the moments at which it was due. Talks to no node.
"""

from dataclasses import dataclass
from datetime import datetime

from dorabatch.daemon.runs.settle import stop_to_requeue
from dorabatch.daemon.state.billed_runs import Billed, BilledRuns, RunOut, present_scene
from dorabatch.daemon.state.charging import OUT_OF_CREDIT, Billing, lien_of
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.credit_weeks import (
    boundaries,
    ended_allocations,
    missing_weeks,
    open_weeks,
)
from dorabatch.daemon.steps import Step, Steps
from dorabatch.daemon.timers.credit_due import CreditDue, goes_on, is_back
from dorabatch.daemon.timers.credit_warnings import CreditWarnings, Warn
from dorabatch.daemon.timers.lost_gpus import LostGpus
from dorabatch.db import Tx, Writer
from dorabatch.fairshare.money.standing import Standing
from dorabatch.fairshare.money.week import expiry_of
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Happening
from dorabatch.units import microseconds_of, moment_of

CREDIT_IS_BACK = "credit is back"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPostings:
    """The one transaction that does all that is due."""

    credits: CreditBook
    billing: Billing
    lost_gpus: LostGpus
    writer: Writer
    steps: Steps

    def post_all(self, now: datetime) -> list[Container]:
        """Do it; the containers that are to be stopped."""
        stopped = self.writer.do(lambda tx: self._work(tx, now))
        self.steps.reach(Step.CREDIT_COMMITTED)
        return stopped

    def _work(self, tx: Tx, now: datetime) -> list[Container]:
        stopped: list[Container] = []
        at = microseconds_of(now)
        for moment in boundaries(self.credits, now):
            # Credit that ends at the boundary still pays for the moment before.
            stopped += self._run_out(tx, moment - 1)
            self._pass_boundary(tx, moment, now)
        stopped += self._run_out(tx, at)
        scene = self._scene_of(tx, at)
        for one in scene.billed:
            self._adjust(tx, scene, one, now)
        self.billing.charge(tx, store.running_in(tx, self.credits.zone), at)
        self.billing.top_up(tx, store.running_in(tx, self.credits.zone), at)
        self.steps.reach(Step.CREDIT_POSTED)
        return stopped

    def _pass_boundary(self, tx: Tx, moment: int, now: datetime) -> None:
        running = store.running_in(tx, self.credits.zone)
        self.billing.charge(tx, running, moment)
        start = microseconds_of(self.credits.period(now).start)
        if moment == start:
            missing = missing_weeks(self.credits, now)
            open_weeks(self.credits, self.billing, tx, missing, now)
        ended = [
            r for r in ended_allocations(self.credits, now) if r.valid_to <= moment
        ]
        at = microseconds_of(now)
        self.billing.post(tx, [expiry_of(row, moment, at) for row in ended])

    def _scene_of(self, tx: Tx, at: int) -> BilledRuns:
        running = store.running_in(tx, self.credits.zone)
        meters = self.billing.meters(tx, running)
        book = self.billing.book_of(tx, [m[-1] for m in meters.values()], at)
        return BilledRuns(self.credits, self.billing, book, running, meters)

    def _run_out(self, tx: Tx, now: int) -> list[Container]:
        """Stop or free what had spent all by a moment, account by account."""
        stopped: list[Container] = []
        done: set[str] = set()
        while True:
            outs = [
                out
                for out in self._scene_of(tx, now).run_outs(now)
                if out.at <= now
                and out.account not in done
                and not goes_on(self.credits, out, now)
            ]
            if not outs:
                return stopped
            done.add(outs[0].account)
            for one in outs[0].runs:
                stopped += self._end_billing(tx, one, outs[0], now)

    def _end_billing(
        self, tx: Tx, one: Billed, out: RunOut, now: int
    ) -> list[Container]:
        # What nobody has seen running since then is not paid beyond it.
        seen = self.billing.seen_until(one.container, now) or out.at
        at = max(min(out.at, seen), one.last.at + 1)
        meter = one.last.next(at, OUT_OF_CREDIT, is_billed=False)
        self.billing.switch(tx, one.container, one.meters, meter)
        standing = self.credits.standing_of(out.account, moment_of(now))
        if standing.on_exhaust == "demote":
            text = f"{OUT_OF_CREDIT}: runs on free and may be preempted"
            store.insert_events(tx, [_event(one.container, now, text)])
            return []
        return [self._stop(tx, one.container, standing, now)]

    def _stop(
        self, tx: Tx, container: Container, standing: Standing, now: int
    ) -> Container:
        text = f"{OUT_OF_CREDIT}: stopped, goes on when credit is back"
        text = f"{text} ({standing.when()})"
        return stop_to_requeue(
            tx, container, kind="credit", reason=text, now=moment_of(now)
        )

    def _adjust(self, tx: Tx, scene: BilledRuns, one: Billed, now: datetime) -> None:
        meter = self.lost_gpus.changed_meter(one, now)
        if meter is not None:
            self.billing.switch(tx, one.container, one.meters, meter)
            event = _event(one.container, microseconds_of(now), meter.reason)
            store.insert_events(tx, [event])
        elif is_back(self.billing, scene, one, microseconds_of(now)):
            at = microseconds_of(now)
            meter = one.last.next(at, CREDIT_IS_BACK, is_billed=True)
            self.billing.switch(tx, one.container, one.meters, meter)
            amount = self.billing.full_price(meter, at)
            self.billing.post(tx, [lien_of(meter, amount)])
            store.insert_events(tx, [_event(one.container, at, CREDIT_IS_BACK)])


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditCharges:
    """What has to be done for credit as time goes by."""

    credits: CreditBook
    billing: Billing
    board: Board
    due: CreditDue
    warnings: CreditWarnings
    postings: CreditPostings

    def beat(self, now: datetime, warn: Warn) -> list[Container]:
        """Do what is due; the containers that are to be stopped."""
        self.due.begin(now)
        if self.credits.is_idle and not self.credits.people.weekly(self.credits.zone):
            return []
        scene = present_scene(self.credits, self.billing, self.board)
        outs = scene.run_outs(microseconds_of(now))
        self.warnings.give(outs, now, warn)
        if not self.due.is_due(scene, outs, now):
            return []
        stopped = self.postings.post_all(now)
        self.due.note_charged(now)
        return stopped


def _event(container: Container, at: int, text: str) -> Happening:
    return Happening(
        workload_id=container.workload_id,
        at=moment_of(at),
        replica=container.replica,
        kind="credit",
        text=text,
    )
