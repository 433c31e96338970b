"""Credit in memory: prices, balances, meters of live runs; where an account stands.

What is asked here costs no statement. Written by the writer's thread after each commit,
read by everybody: rows and prices are published whole, while of an entry some legs may
be seen before the others, so nobody posts by this: every posting is made in
`charging`, inside a transaction, by what the database says.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from dorabatch.config import CreditSettings
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.fairshare.money.book import Allocation, Book, Entry, Posting
from dorabatch.fairshare.money.meter import Meter
from dorabatch.fairshare.money.price import Price, PriceBook
from dorabatch.fairshare.money.standing import Standing, tightest
from dorabatch.fairshare.money.week_start import Period, ResetRule, period_at
from dorabatch.fairshare.store import accounts, ledger, terms
from dorabatch.queue.records import Container
from dorabatch.units import microseconds, microseconds_of, moment_of

WEEKDAYS = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed:
    """Notes for the desk that nothing more is billed for a run."""

    run: str


class CreditBook:
    """What one zone knows of credit.

    `chain_of(user)` is who pays for a user: the user and the accounts above.
    """

    def __init__(
        self, zone: str, settings: CreditSettings, people: DeclaredUsers
    ) -> None:
        self.zone = zone
        self.settings = settings
        self.people = people
        self.chain_of: Callable[[str], tuple[str, ...]] = _alone
        self.rule = reset_rule(settings)
        self.book = Book()
        self.prices = PriceBook([])
        self.credited: dict[str, int] = {}
        self.meters: dict[str, tuple[Meter, ...]] = {}
        self._price_rows: dict[tuple[str, str, datetime], Price] = {}

    def load(
        self, connection: Connection, held: Iterable[Container], now: datetime
    ) -> None:
        """Read prices, balances and what is being billed."""
        self._take_prices(terms.load_prices(connection))
        at = microseconds_of(now)
        self.book = accounts.load_zone(connection, self.zone, at=at)
        self.credited = accounts.credited(connection, list(self.book.allocations))
        runs = [run_name(container) for container in held]
        self.apply(terms.load_meters(connection, runs))
        ledger.load_runs(connection, self.book, runs)

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""
        for change in changes:
            if isinstance(change, Entry):
                self._take_entry(change)
            elif isinstance(change, Allocation) and change.zone == self.zone:
                self.book.open(change)
            elif isinstance(change, Meter):
                known = self.meters.get(change.run, ())
                self.meters[change.run] = (*known, change)
            elif isinstance(change, RunClosed):
                self.meters.pop(change.run, None)
                self.book.runs.pop(change.run, None)
            elif isinstance(change, Price):
                self._take_prices([change])

    def play(self, postings: Iterable[Posting]) -> None:
        """Book in memory only: where no ledger is kept."""
        for posting in postings:
            entry = self.book.post(posting).entry
            if entry is not None:
                self._count_credited(entry)
        self.book.keys.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing has a price and nobody is limited."""
        return not self._price_rows and not self.book.owned

    @property
    def has_limits(self) -> bool:
        """Whether anybody is limited."""
        return bool(self.book.owned)

    def period(self, now: datetime) -> Period:
        """The week of credits that holds a moment."""
        return period_at(now, self.rule)

    def standing(self, user: str, now: datetime, need: int = 1) -> Standing:
        """Where a user stands for something that costs `need` micro-credits.

        Of the user and the accounts above, the one that decides.
        """
        found = [self.standing_of(name, now) for name in self.chain_of(user)]
        return tightest(found, need)

    def standing_of(self, account: str, now: datetime) -> Standing:
        """Where one account stands by itself."""
        return self.standing_in(self.book, account, microseconds_of(now))

    def standing_in(self, book: Book, account: str, at: int) -> Standing:
        """The same by the balances of another book."""
        rows = book.budgeted(self.zone, account)
        if not rows:
            return Standing(account=account)
        now = moment_of(at)
        week = self.period(now)
        valid = [row for row in rows if row.valid_from <= at < row.valid_to]
        begun = [row for row in rows if row.valid_from <= at] or rows
        side = f"lien:{self.zone}:{account}"
        has_week = self.people.weekly_of(self.zone, account) is not None
        return Standing(
            account=account,
            available=book.available(self.zone, account, at),
            liens=sum(book.balances.get((side, row.id), 0) for row in rows),
            budget=sum(self.credited.get(row.id, 0) for row in valid),
            time_left=Fraction(microseconds(week.end - now), microseconds(week.length)),
            on_exhaust=begun[-1].on_exhaust,
            resets_at=week.end if has_week else None,
            reset_zone=self.settings.reset.time_zone,
        )

    def meters_of(self, container: Container) -> tuple[Meter, ...]:
        """The meters of a container's present run, oldest first; empty: unpriced."""
        return self.meters.get(run_name(container), ())

    def is_scavenger(self, container: Container) -> bool:
        """Whether a live container runs free because its credit is used up."""
        meters = self.meters_of(container)
        return bool(meters) and not meters[-1].is_billed

    def has_scavengers(self) -> bool:
        """Whether anything that is metered runs free."""
        # The writer changes the meters meanwhile.
        return any(not mine[-1].is_billed for mine in list(self.meters.values()))

    def _take_entry(self, entry: Entry) -> None:
        if entry.posting.zone != self.zone:
            return
        self.book.absorb(entry)
        # Keys are looked up in the database only.
        self.book.keys.clear()
        self._count_credited(entry)

    def _count_credited(self, entry: Entry) -> None:
        if entry.posting.kind in accounts.CREDITING:
            for leg in entry.legs:
                if leg.allocation_id:
                    before = self.credited.get(leg.allocation_id, 0)
                    self.credited[leg.allocation_id] = before + leg.ucr

    def _take_prices(self, new: Sequence[Price]) -> None:
        rows = dict(self._price_rows)
        for price in new:
            rows[price.zone, price.model, price.valid_from] = price
        self.prices, self._price_rows = PriceBook(rows.values()), rows

    def price_list(self) -> list[Price]:
        """Every price of this zone, by model and moment."""
        return sorted(
            (one for one in self._price_rows.values() if one.zone in ("", self.zone)),
            key=lambda one: (one.model, one.valid_from),
        )


def run_name(container: Container) -> str:
    """How the ledger names a container's present attempt."""
    return f"{job_name(container)}/{container.attempt}"


def job_name(container: Container) -> str:
    """How the ledger names a container, whatever the attempt."""
    return f"{container.workload_id}.{container.replica}"


def reset_rule(settings: CreditSettings) -> ResetRule:
    """The weekly moment that the settings name."""
    reset = settings.reset
    return ResetRule(
        zone=ZoneInfo(reset.time_zone),
        weekday=WEEKDAYS.index(reset.weekday),
        hour=reset.hour,
    )


def _alone(user: str) -> tuple[str, ...]:
    return (user,)
