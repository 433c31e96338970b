"""The beat of credit: resets, expiry, credit that runs out or is back, charging.

Looks once a second, in memory; only when something is due does one transaction do all
of it, in the order of the moments at which it was due. Talks to no node.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from dorabatch.daemon.runs.settle import stop_to_requeue
from dorabatch.daemon.state.billed_runs import Billed, BilledRuns, RunOut, present_scene
from dorabatch.daemon.state.charging import LOST_GPU, OUT_OF_CREDIT, lien_of
from dorabatch.daemon.state.credit_weeks import (
    boundaries,
    ended_allocations,
    missing_weeks,
    open_weeks,
)
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.steps import Step
from dorabatch.db import Tx
from dorabatch.fairshare.money.meter import Item, Meter
from dorabatch.fairshare.money.standing import Standing
from dorabatch.fairshare.money.week import expiry_of
from dorabatch.queue import store
from dorabatch.queue.records import Container, Happening
from dorabatch.units import microseconds_of, moment_of

PATIENCE_SECONDS = 30.0
"""How long after the start nodes may take to say what still runs."""
CREDIT_IS_BACK = "credit is back"

Warn = Callable[[Container, str, str], None]
"""Called with a container, a key that is the same for the same warning, and a text."""


class CreditCharges:
    """What has to be done for credit as time goes by."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings.credits
        self._probe = timedelta(seconds=services.settings.node.probe_seconds)
        self._desk = services.credits
        self._billing = services.billing
        self._board = services.board
        self._fleet = services.fleet
        self._writer = services.writer
        self._steps = services.steps
        self._began: datetime | None = None
        self._charged_at: datetime | None = None
        self._warned: set[tuple[str, int]] = set()

    def beat(self, now: datetime, warn: Warn) -> list[Container]:
        """Do what is due; the containers that are to be stopped."""
        self._began = self._began or now
        if self._desk.is_idle and not self._desk.people.weekly(self._desk.zone):
            return []
        scene = self.scene()
        outs = scene.run_outs(microseconds_of(now))
        self._warn(outs, now, warn)
        if not self._is_due(scene, outs, now):
            return []
        stopped = self._writer.do(lambda tx: self._work(tx, now))
        self._charged_at = now
        self._steps.reach(Step.CREDIT_COMMITTED)
        return stopped

    def scene(self) -> BilledRuns:
        """What is billed, by memory."""
        return present_scene(self._desk, self._billing, self._board)

    def _is_due(self, scene: BilledRuns, outs: list[RunOut], now: datetime) -> bool:
        if not self._knows_what_runs(scene, now):
            return False
        at = microseconds_of(now)
        tick = timedelta(seconds=self._settings.tick_seconds)
        is_late = self._charged_at is None or now - self._charged_at >= tick
        if scene.billed and is_late:
            return True
        if any(out.at <= at and not self._goes_on(out, at) for out in outs):
            return True
        if boundaries(self._desk, now):
            return True
        return any(
            self._changed_meter(one, now) is not None for one in scene.billed
        ) or any(self._is_back(scene, one, at) for one in scene.billed)

    def _knows_what_runs(self, scene: BilledRuns, now: datetime) -> bool:
        """Whether nodes have had time to say what ended while nobody looked."""
        assert self._began is not None
        if (now - self._began).total_seconds() >= PATIENCE_SECONDS:
            return True
        nodes = {one.container.hold.node for one in scene.billed if one.container.hold}
        views = [self._fleet.get(name) for name in nodes]
        return all(view and view.state is NodeState.READY for view in views)

    # -- inside the transaction ----------------------------------------------

    def _work(self, tx: Tx, now: datetime) -> list[Container]:
        stopped: list[Container] = []
        at = microseconds_of(now)
        for moment in boundaries(self._desk, now):
            # Credit that ends at the boundary still pays for the moment before.
            stopped += self._run_out(tx, moment - 1)
            self._pass_boundary(tx, moment, now)
        stopped += self._run_out(tx, at)
        scene = self._scene_of(tx, at)
        for one in scene.billed:
            self._adjust(tx, scene, one, now)
        self._billing.charge(tx, store.running_in(tx, self._desk.zone), at)
        self._billing.top_up(tx, store.running_in(tx, self._desk.zone), at)
        self._steps.reach(Step.CREDIT_POSTED)
        return stopped

    def _pass_boundary(self, tx: Tx, moment: int, now: datetime) -> None:
        running = store.running_in(tx, self._desk.zone)
        self._billing.charge(tx, running, moment)
        start = microseconds_of(self._desk.period(now).start)
        if moment == start:
            missing = missing_weeks(self._desk, now)
            open_weeks(self._desk, self._billing, tx, missing, now)
        ended = [r for r in ended_allocations(self._desk, now) if r.valid_to <= moment]
        at = microseconds_of(now)
        self._billing.post(tx, [expiry_of(row, moment, at) for row in ended])

    def _scene_of(self, tx: Tx, at: int) -> BilledRuns:
        running = store.running_in(tx, self._desk.zone)
        meters = self._billing.meters(tx, running)
        book = self._billing.book_of(tx, [m[-1] for m in meters.values()], at)
        return BilledRuns(self._desk, self._billing, book, running, meters)

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
                and not self._goes_on(out, now)
            ]
            if not outs:
                return stopped
            done.add(outs[0].account)
            for one in outs[0].runs:
                stopped += self._end_billing(tx, one, outs[0], now)

    def _goes_on(self, out: RunOut, now: int) -> bool:
        standing = self._desk.standing_of(out.account, moment_of(now))
        return standing.runs_into_debt

    def _end_billing(
        self, tx: Tx, one: Billed, out: RunOut, now: int
    ) -> list[Container]:
        # What nobody has seen running since then is not paid beyond it.
        seen = self._billing.seen_until(one.container, now) or out.at
        at = max(min(out.at, seen), one.last.at + 1)
        meter = one.last.next(at, OUT_OF_CREDIT, is_billed=False)
        self._billing.switch(tx, one.container, one.meters, meter)
        standing = self._desk.standing_of(out.account, moment_of(now))
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
        meter = self._changed_meter(one, now)
        if meter is not None:
            self._billing.switch(tx, one.container, one.meters, meter)
            event = _event(one.container, microseconds_of(now), meter.reason)
            store.insert_events(tx, [event])
        elif self._is_back(scene, one, microseconds_of(now)):
            at = microseconds_of(now)
            meter = one.last.next(at, CREDIT_IS_BACK, is_billed=True)
            self._billing.switch(tx, one.container, one.meters, meter)
            amount = self._billing.full_price(meter, at)
            self._billing.post(tx, [lien_of(meter, amount)])
            store.insert_events(tx, [_event(one.container, at, CREDIT_IS_BACK)])

    def _changed_meter(self, one: Billed, now: datetime) -> Meter | None:
        """Another meter where GPUs of the run are gone, or there again."""
        container, hold = one.container, one.container.hold
        view = self._fleet.get(hold.node) if hold else None
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
        items = self._billing.items_of(replace(container, hold=left))
        if _gpu_milli(items) == _gpu_milli(one.last.items):
            return None
        is_lost = len(kept) < len(hold.gpus)
        # It was lost at some moment since the node was probed before.
        since = now - self._probe if is_lost else now
        at = max(microseconds_of(since), one.last.at + 1)
        reason = LOST_GPU if is_lost else "GPU is back"
        return one.last.next(at, reason, items=items)

    def _is_back(self, scene: BilledRuns, one: Billed, now: int) -> bool:
        if one.last.is_billed or one.last.reason != OUT_OF_CREDIT:
            return False
        return scene.covers(one, self._billing.full_price(one.last, now), now)

    def _warn(self, outs: list[RunOut], now: datetime, warn: Warn) -> None:
        grace = timedelta(seconds=self._settings.grace_seconds)
        for out in outs:
            standing = self._desk.standing_of(out.account, now)
            ends = moment_of(out.at)
            if standing.on_exhaust != "stop" or not now < ends <= now + grace:
                continue
            for one in out.runs:
                # Credit that comes and goes again is worth another warning.
                key = (one.last.run, out.at // (600 * 1_000_000))
                if key not in self._warned:
                    self._warned.add(key)
                    warn(
                        one.container,
                        f"credit:{key[0]}:{key[1]}",
                        f"credit of {out.account} pays until {ends:%H:%M:%S} UTC; "
                        "then it is stopped and waits for credit",
                    )


def _gpu_milli(items: tuple[Item, ...]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((item.model, item.milli) for item in items))


def _event(container: Container, at: int, text: str) -> Happening:
    return Happening(
        workload_id=container.workload_id,
        at=moment_of(at),
        replica=container.replica,
        kind="credit",
        text=text,
    )
