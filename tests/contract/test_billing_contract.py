"""Charging on both databases: fencing, replays, and a kill inside a transaction."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from dorabatch.config import CreditSettings
from dorabatch.daemon.state.charging import Asks, Billing, Placing
from dorabatch.daemon.state.credit_book import CreditBook, run_name
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.spec_units import demand_of, seconds_max
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.db import Tx, Writer, transaction
from dorabatch.errors import LeaseLost
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.money.price import Price
from dorabatch.fairshare.store import accounts, ledger, terms
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.queue import transitions as to
from dorabatch.queue.daemons import refuse_when_overtaken, take_over
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome
from dorabatch.units import MicroCredits, microseconds_of
from tests.makers import (
    START,
    V100,
    ZONE,
    container,
    facts,
    hold,
    later,
    view,
    workload,
)

CREDIT = 1_000_000
AT = microseconds_of(START)


class Daemon:
    """One daemon's billing on a database, with a writer of its own."""

    def __init__(self, engine: Engine) -> None:
        self.epoch, _ = take_over(engine, ZONE, START)
        settings = CreditSettings()
        self.desk = CreditBook(ZONE, settings, DeclaredUsers(settings))
        fleet = Fleet()
        fleet.put(view().settings, facts())
        fleet.seen("n1", later(10**6), facts())
        asks = Asks(demand_of=demand_of, seconds_max=seconds_max)
        self.billing = Billing(self.desk, fleet, asks)
        with engine.connect() as connection:
            self.desk.load(connection, [running()], START)
        self.writer = Writer(
            engine,
            on_commit=self.desk.apply,
            guard=lambda tx: refuse_when_overtaken(tx, ZONE, self.epoch),
        )
        self.writer.start()

    def place(self) -> None:
        """Take the lien and open the meter of the one run."""
        placing = Placing(container=running(), workload=workload())

        def write(tx: Tx) -> None:
            admission = self.billing.admit(tx, [placing], START)
            self.billing.open(tx, admission, {run_name(running())}, START)

        self.writer.do(write)

    def charge(self, seconds: float) -> None:
        """Charge the one run up to so many seconds after its start."""
        until = microseconds_of(later(seconds))
        self.writer.do(lambda tx: self.billing.charge(tx, [running()], until))

    def settle(self, seconds: float) -> None:
        """End the one run so many seconds after its start."""
        stopping = to.stopping(running(), AfterStop.FINISH, Outcome.DONE, "")
        ended = to.exited(
            stopping, exit_code=0, started_at=None, ended_at=later(seconds)
        )
        now = later(seconds)
        self.writer.do(lambda tx: self.billing.settle(tx, ended, now))


def running() -> Container:
    """The one run: a V100 of n1 since START."""
    one = to.placed(container(), hold(), 1)
    return to.running(to.starting(one), "d1", START)


@pytest.fixture
def daemons(engine: Engine) -> Iterator[Any]:
    """A factory of daemons on one database with a price and a grant of 100."""
    price = Price(
        zone=ZONE,
        model=V100,
        per_hour=MicroCredits(2_500_000),
        valid_from=START - timedelta(days=1),
    )
    row = Allocation(id="a", zone=ZONE, account="alice")
    deposit = Posting(
        kind="deposit",
        key="d",
        at=AT,
        zone=ZONE,
        chain=("alice",),
        amount=100 * CREDIT,
        allocation_id="a",
    )
    with transaction(engine) as tx:
        terms.add_price(tx.connection, price, "root")
        ledger.open_allocations(tx.connection, [row])
        ledger.post(tx.connection, [deposit])
    made: list[Daemon] = []

    def start() -> Daemon:
        made.append(Daemon(engine))
        return made[-1]

    yield start
    for one in made:
        one.writer.stop()


def used(engine: Engine) -> int:
    """What alice was charged; the ledger obeys its laws."""
    with engine.connect() as connection:
        assert check_ledger(connection) == []
        return accounts.used_in_all(connection, ZONE)["alice"]


def test_a_replay_and_a_restart_charge_nothing_twice(
    engine: Engine, daemons: Any
) -> None:
    one = daemons()
    one.place()
    for seconds in (60, 60, 30, 3600, 3600):
        one.charge(seconds)
    assert used(engine) == 2_500_000
    again = daemons()
    for seconds in (60, 3600):
        again.charge(seconds)
    assert used(engine) == 2_500_000
    again.settle(7200)
    again.settle(7200)
    assert used(engine) == 5 * CREDIT
    with engine.connect() as connection:
        found = ledger.balances(connection, ZONE, ["alice"], at=AT)["alice"]
    assert (found.available, found.liens) == (95 * CREDIT, 0)


def test_an_overtaken_daemon_can_charge_nothing(engine: Engine, daemons: Any) -> None:
    old = daemons()
    old.place()
    new = daemons()
    with pytest.raises(LeaseLost, match="has taken over"):
        old.charge(3600)
    assert used(engine) == 0
    new.charge(3600)
    assert used(engine) == 2_500_000


def test_what_fails_after_a_posting_leaves_nothing(
    engine: Engine, daemons: Any
) -> None:
    one = daemons()
    one.place()
    until = microseconds_of(later(3600))

    def fails(tx: Tx) -> None:
        one.billing.charge(tx, [running()], until)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        one.writer.do(fails)
    assert used(engine) == 0
    assert one.desk.book.run_total(run_name(running()), "charged") == 0
    one.charge(3600)
    assert used(engine) == 2_500_000
    assert one.desk.book.run_total(run_name(running()), "charged") == 2_500_000
