"""Charging in the daemon: liens at the placement, charges while running, the end.

What posts runs inside the writer's transaction, together with the change of the
container it belongs to, and decides on what that transaction reads. What things cost
is decided in `fairshare`; nothing here talks to a node.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dorabatch.daemon.state.credit_book import CreditBook, RunClosed, run_name
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.state.priced_items import DearestPlaces, hold_items
from dorabatch.db import Tx
from dorabatch.fairshare.money.book import Allocation, Book, Posting, PostingOutcome
from dorabatch.fairshare.money.meter import (
    Draw,
    Item,
    Meter,
    present_draws,
    run_charges,
    runs_out_at,
    span_cost,
)
from dorabatch.fairshare.money.standing import tightest
from dorabatch.fairshare.store import ledger, terms
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import Outcome as Ending
from dorabatch.queue.transitions import is_stopped_trial
from dorabatch.units import microseconds_of

_SECOND_US = 1_000_000
OUT_OF_CREDIT = "out of credit"
LOST_GPU = "lost GPU"
STOPPED_TRIAL = "its trial was stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """A container that got a place; `is_again`: it has had this place before."""

    container: Container
    workload: Workload
    is_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """How to read a workload: what a replica demands, how long a run may take.

    `seconds_max(workload)` is None when it is open-ended.
    """

    demand_of: Callable[[Workload, int], Demand]
    seconds_max: Callable[[Workload], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may start: meters to open, and refusals by container id."""

    meters: list[Meter] = field(default_factory=list)
    liens: dict[str, int] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


class Billing:
    """The one that posts for runs."""

    def __init__(self, desk: CreditBook, fleet: Fleet, asks: Asks) -> None:
        self._desk = desk
        self._fleet = fleet
        self._asks = asks
        self._dearest = DearestPlaces(desk, fleet)

    def admit(self, tx: Tx, placings: Sequence[Placing], now: datetime) -> Admission:
        """Who of these may start, in their order; posts nothing yet."""
        book = Book()
        if self._desk.has_limits and placings:
            users = {one.workload.submitter.user for one in placings}
            chains = map(self._desk.chain_of, users)
            book = self._read(tx, chains, (), microseconds_of(now))
        return self.admit_on(book, placings, now)

    def admit_on(
        self, book: Book, placings: Sequence[Placing], now: datetime
    ) -> Admission:
        """The same by the balances of a book, in which the liens are taken."""
        admission, at = Admission(), microseconds_of(now)
        for one in placings if not self._desk.is_idle else ():
            chain = self._desk.chain_of(one.workload.submitter.user)
            self._admit_one(admission, book, one, chain, at)
        return admission

    def open(self, tx: Tx, admission: Admission, runs: set[str], now: datetime) -> None:
        """Open the meters of the runs that were stored, and take their liens."""
        meters = [meter for meter in admission.meters if meter.run in runs]
        terms.add_meters(tx.connection, meters)
        for meter in meters:
            tx.note(meter)
        at = microseconds_of(now)
        self.post(
            tx,
            [
                _posting("lien", f"lien:{_key(meter.run)}", meter, at, amount=amount)
                for meter in meters
                for amount in [admission.liens.get(meter.run, 0)]
                if amount
            ],
        )

    def admit_again(
        self, tx: Tx, container: Container, workload: Workload, now: datetime
    ) -> bool:
        """Whether the next attempt on the same place may start; opens its meter."""
        placing = Placing(container=container, workload=workload, is_again=True)
        admission = self.admit(tx, [placing], now)
        self.open(tx, admission, {run_name(container)}, now)
        return not admission.refused

    def charge(self, tx: Tx, running: Sequence[Container], until: int) -> None:
        """Charge what runs up to a moment."""
        meters = self.meters(tx, running)
        postings: list[Posting] = []
        for container in running:
            mine = meters.get(run_name(container))
            if mine:
                end = self.seen_until(container, until)
                postings += self.charges(container, mine, end)
        self.post(tx, postings)

    def top_up(self, tx: Tx, running: Sequence[Container], at: int) -> None:
        """Let what is open-ended hold its next hour again, as far as credit goes."""
        open_ended = [
            mine[-1]
            for mine in self.meters(tx, running).values()
            if mine[-1].is_billed and mine[-1].limit_us is None
        ]
        if not open_ended or not self._desk.has_limits:
            return
        book = self.book_of(tx, open_ended, at)
        postings: list[Posting] = []
        for meter in open_ended:
            payers = [n for n in meter.chain if book.budgeted(meter.zone, n)]
            if not payers:
                continue
            want = self.full_price(meter, at)
            held = self._held(book, meter, payers[0])
            have = min(book.available(meter.zone, n, at) or 0 for n in payers)
            if 2 * held < want and have > 0:
                key = f"lien:{_key(meter.run)}:{at}"
                amount = min(want - held, have)
                lien = _posting("lien", key, meter, at, amount=amount)
                book.post(lien)
                postings.append(lien)
        self.post(tx, postings)

    def settle(self, tx: Tx, container: Container, now: datetime) -> None:
        """Charge an ended attempt to its end, give back what it held, close it.

        What its node lost costs nothing more, and nothing at all where runs that
        were lost are refunded. A trial that was stopped costs nothing.
        """
        run = run_name(container)
        if is_stopped_trial(container):
            self._forgive(tx, container)
        if run not in self._desk.meters:
            return
        mine = self.meters(tx, [container])[run]
        at = microseconds_of(now)
        is_lost = container.outcome is Ending.NODE_LOST
        if container.started_at is not None and container.ended_at is not None:
            end = microseconds_of(container.ended_at)
            # What ran out of credit was charged to its last paid moment then.
            if not is_lost and mine[-1].is_billed:
                end = min(end, self._paid_until(tx, container, mine, end))
                self.post(tx, self.charges(container, mine, end))
            self.post(tx, self._give_back(tx, container, mine, end, is_lost=is_lost))
        self.post(tx, [release_of(mine[-1], at)])
        tx.note(RunClosed(run=run))

    def switch(
        self, tx: Tx, container: Container, mine: Sequence[Meter], meter: Meter
    ) -> None:
        """Charge a run up to the moment of a new meter, then bill by that one."""
        self.post(tx, self.charges(container, mine, meter.at))
        terms.add_meters(tx.connection, [meter])
        tx.note(meter)
        if not meter.is_billed:
            key = f"release:{_key(meter.run)}:{meter.number}"
            self.post(tx, [_posting("release", key, meter, meter.at)])

    def post(self, tx: Tx, postings: Sequence[Posting]) -> list[PostingOutcome]:
        """Book in order; what was booked is noted for the desk."""
        if not postings:
            return []
        outcomes = ledger.post(tx.connection, postings)
        for outcome in outcomes:
            if outcome.entry is not None:
                tx.note(outcome.entry)
        return outcomes

    def open_allocations(self, tx: Tx, allocations: Sequence[Allocation]) -> None:
        """Open allocations; new ones are noted for the desk."""
        for row in ledger.open_allocations(tx.connection, allocations):
            tx.note(row)

    def meters(
        self, tx: Tx, containers: Iterable[Container]
    ) -> dict[str, tuple[Meter, ...]]:
        """The stored meters of containers' present runs, by run."""
        found: dict[str, tuple[Meter, ...]] = {}
        runs = [run_name(container) for container in containers]
        for meter in terms.load_meters(tx.connection, runs):
            found[meter.run] = (*found.get(meter.run, ()), meter)
        return found

    def charges(
        self, container: Container, mine: Sequence[Meter], until: int
    ) -> list[Posting]:
        """The totals of a run at a moment, as postings."""
        if container.started_at is None:
            return []
        found = run_charges(
            mine,
            self._desk.prices,
            started=microseconds_of(container.started_at),
            until=until,
            locked=self._desk.settings.lock_prices,
        )
        # The end of a span is not part of it: what ends at a reset belongs before.
        return [
            _posting(
                "charge",
                # With the total: a start that is known better moves it at one moment.
                f"charge:{_key(mine[0].run)}:{one.segment}:{one.model}:{until}"
                f":{one.total}",
                mine[-1],
                until - 1,
                amount=one.total,
                segment=one.segment,
                model=one.model,
            )
            for one in found
            if one.total
        ]

    def total(self, container: Container, mine: Sequence[Meter], until: int) -> int:
        """What a run has cost at a moment."""
        return sum(one.amount for one in self.charges(container, mine, until))

    def draws(
        self, container: Container, mine: Sequence[Meter], now: int
    ) -> list[Draw]:
        """What a run draws now."""
        if container.started_at is None:
            return []
        return present_draws(
            mine,
            self._desk.prices,
            started=microseconds_of(container.started_at),
            now=now,
            locked=self._desk.settings.lock_prices,
        )

    def seen_until(self, container: Container, now: int) -> int:
        """Up to when a container is known to run: a silent node may have lost it."""
        view = self._fleet.get(container.hold.node) if container.hold else None
        if view is not None and view.state is NodeState.READY:
            return now
        if view is None or view.last_seen is None:
            return 0
        return min(now, microseconds_of(view.last_seen))

    def book_of(self, tx: Tx, meters: Iterable[Meter], at: int) -> Book:
        """The balances of everybody who pays for these, and the runs' totals."""
        found = list(meters)
        chains = [meter.chain for meter in found]
        return self._read(tx, chains, [meter.run for meter in found], at)

    def need(self, workload: Workload, replica: int, at: int) -> int:
        """The lien at the dearest place that a container accepts.

        That much has to be available before it is placed at all.
        """
        span = self.held_us(self._limit_us(workload))
        return self._dearest.cost(self._asks.demand_of(workload, replica), span, at)

    def items_of(self, container: Container) -> tuple[Item, ...]:
        """What a placed container is billed for."""
        hold = container.hold
        assert hold is not None
        view = self._fleet.get(hold.node)
        return hold_items(hold, view, self._desk.prices, self._desk.zone)

    def full_price(self, meter: Meter, at: int) -> int:
        """The lien for a run from a moment on."""
        return span_cost(
            meter.items,
            self._desk.prices,
            zone=meter.zone,
            at=at,
            span_us=self.held_us(meter.limit_us),
        )

    def held_us(self, limit_us: int | None) -> int:
        """How long a lien covers: the limit, or what open-ended work has to hold."""
        if limit_us is not None:
            return limit_us
        return int(self._desk.settings.open_ended_seconds * _SECOND_US)

    def _forgive(self, tx: Tx, container: Container) -> None:
        """Bill an attempt for nothing from its start on, priced or not.

        The meter stays in the database, so that use counts it neither.
        """
        if container.started_at is None:
            return
        run, at = run_name(container), microseconds_of(container.started_at)
        mine = self._desk.meters.get(run)
        free = Meter(
            run=run,
            number=0,
            at=at,
            zone=self._desk.zone,
            chain=(),
            items=(),
            limit_us=None,
            is_billed=False,
            reason=STOPPED_TRIAL,
        )
        if mine:
            free = mine[-1].next(at, STOPPED_TRIAL, is_billed=False)
        terms.add_meters(tx.connection, [free])
        tx.note(free)
        if not mine:
            tx.note(RunClosed(run=run))

    def _limit_us(self, workload: Workload) -> int | None:
        limit = self._asks.seconds_max(workload)
        return None if limit is None else limit * _SECOND_US

    def _admit_one(
        self,
        admission: Admission,
        book: Book,
        one: Placing,
        chain: tuple[str, ...],
        at: int,
    ) -> None:
        meter = Meter(
            run=run_name(one.container),
            number=0,
            at=at,
            zone=self._desk.zone,
            chain=chain,
            items=self.items_of(one.container),
            limit_us=self._limit_us(one.workload),
            is_billed=True,
        )
        amount = self.full_price(meter, at)
        standings = [
            self._desk.standing_in(book, name, at)
            for name in chain
            if book.budgeted(self._desk.zone, name)
        ]
        if not standings:
            admission.meters.append(meter)
            return
        need = amount
        if not one.is_again:
            need = max(amount, self.need(one.workload, one.container.replica, at))
        decisive = tightest(standings, need)
        if decisive.covers(need):
            lien = _posting("lien", f"trial:{meter.run}", meter, at, amount=amount)
            book.post(lien)
            admission.meters.append(meter)
            admission.liens[meter.run] = amount
        elif decisive.is_held(need):
            admission.refused[one.container.container_id] = decisive.sentence(need)
        else:
            free = replace(meter, reason=OUT_OF_CREDIT, is_billed=False)
            admission.meters.append(free)

    def _held(self, book: Book, meter: Meter, account: str) -> int:
        side = f"lien:{meter.zone}:{account}|"
        slots = book.run_slots(meter.run, "lien")
        return sum(ucr for slot, ucr in slots.items() if slot.startswith(side))

    def _paid_until(
        self, tx: Tx, container: Container, mine: Sequence[Meter], end: int
    ) -> int:
        """When an open-ended run had spent all, if that was before its end."""
        last = mine[-1]
        if not last.is_billed or last.limit_us is not None:
            return end
        book = self.book_of(tx, [last], end)
        owed = self.total(container, mine, end) - book.run_total(last.run, "charged")
        draws, paid = self.draws(container, mine, end), end
        for name in last.chain:
            rows = book.budgeted(last.zone, name)
            if not rows or self._desk.standing_in(book, name, end).runs_into_debt:
                continue
            have = book.available(last.zone, name, end) or 0
            funds = have + self._held(book, last, name) - owed
            if funds < 0:
                paid = min(paid, runs_out_at(end, draws=draws, funds=funds) or end)
        return paid

    def _give_back(
        self,
        tx: Tx,
        container: Container,
        mine: Sequence[Meter],
        end: int,
        *,
        is_lost: bool,
    ) -> list[Posting]:
        run, last = mine[0].run, mine[-1]
        book = self._read(tx, [last.chain], [run], end)
        charged = book.run_total(run, "charged") - book.run_total(run, "refunded")
        excess, why = charged - self.total(container, mine, end), "past its end"
        if last.reason == STOPPED_TRIAL:
            why = STOPPED_TRIAL
        if is_lost and self._desk.settings.refund_lost_runs:
            excess, why = charged, container.reason or "its node lost it"
        if excess <= 0:
            return []
        key = f"refund:{_key(run)}:end"
        return [_posting("refund", key, last, end, amount=excess, reason=why)]

    def _read(
        self,
        tx: Tx,
        chains: Iterable[tuple[str, ...]],
        runs: Iterable[str],
        at: int,
    ) -> Book:
        accounts = sorted({name for chain in chains for name in chain})
        asked = [
            Posting(kind="read", key="", at=at, zone=self._desk.zone, chain=(name,))
            for name in accounts
        ]
        book = ledger.load_book(tx.connection, asked)
        ledger.load_runs(tx.connection, book, runs)
        return book


def lien_of(meter: Meter, amount: int) -> Posting:
    """Holds credit for a run from this meter on, beside what it holds."""
    key = f"lien:{_key(meter.run)}:{meter.number}"
    return _posting("lien", key, meter, meter.at, amount=amount)


def release_of(last: Meter, at: int) -> Posting:
    """Gives back what a run still holds; `last` is its last meter."""
    return _posting("release", f"release:{_key(last.run)}", last, at)


def _posting(kind: str, key: str, meter: Meter, at: int, **more: object) -> Posting:
    return Posting(
        kind=kind,
        key=key,
        at=at,
        zone=meter.zone,
        chain=meter.chain,
        run=meter.run,
        **more,  # type: ignore[arg-type]  # fields by name
    )


def _key(run: str) -> str:
    return run.replace("/", ":")
