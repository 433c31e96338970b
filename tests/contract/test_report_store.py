"""What reports add up in the database, alike on SQLite and PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.money.credit_forecast import DAY_US as DAY
from dorabatch.fairshare.money.credit_forecast import DAYS
from dorabatch.fairshare.money.report_rows import RunRevenue
from dorabatch.fairshare.store import accounts, ledger, report_store, share_store
from dorabatch.fairshare.turn.changes import Change


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """Ana has 100; a run of hers costs 30 on day 1, 20 on day 2, 5 come back."""
    migrate(url)
    engine = open_engine(url)
    with engine.begin() as made:
        ledger.open_allocations(made, [Allocation(id="a", zone="z", account="ana")])
        common = {"zone": "z", "chain": ("ana",)}
        run = {**common, "run": "1.1/1", "model": "V100"}
        ledger.post(
            made,
            [
                Posting(kind="deposit", key="d", at=10, amount=100, allocation_id="a",
                        actor="root", reason="term", **common),
                Posting(kind="charge", key="c1", at=DAY + 5, amount=30, **run),
                Posting(kind="charge", key="c2", at=2 * DAY + 5, amount=50, **run),
                Posting(kind="refund", key="r", at=2 * DAY + 6, amount=5,
                        reason="lost", **run),
            ],
        )  # fmt: skip
        yield made
    engine.dispose()


def test_balances_moves_and_head_join_up(connection: Connection) -> None:
    opening = report_store.balances_before(connection, DAY)
    assert opening == {"avail:z:ana": 100, "mint": -100}
    moved = {
        (one.ledger_account, one.kind, one.payer): one.ucr
        for one in report_store.moves(connection, DAY, 3 * DAY)
    }
    assert moved == {
        ("avail:z:ana", "charge", "ana"): -50,
        ("avail:z:ana", "refund", "ana"): 5,
        ("revenue:z:V100", "charge", "ana"): 50,
        ("revenue:z:V100", "refund", "ana"): -5,
    }
    closing = report_store.balances_before(connection, 3 * DAY)
    assert sum(closing.values()) == 0
    assert closing["avail:z:ana"] == 55
    head = report_store.head_before(connection, 2 * DAY)
    assert head is not None and (head.entry, len(head.hash)) == (2, 64)
    assert report_store.head_before(connection, 5) is None


def test_revenue_by_run(connection: Connection) -> None:
    assert report_store.run_revenue(connection, 0, 3 * DAY) == [
        RunRevenue(run="1.1/1", zone="z", payer="ana", model="V100", ucr=45)
    ]


def test_use_by_day(connection: Connection) -> None:
    empty = [0] * (DAYS - 3)
    used = {"ana": [*empty, 0, 30, 15]}
    assert accounts.daily_use(connection, "z", end=3 * DAY) == used
    assert accounts.daily_use(connection, "z", end=3 * DAY, account="ana") == used
    assert accounts.daily_use(connection, "z", end=3 * DAY, account="bob") == {}
    assert accounts.daily_use(connection, "other", end=3 * DAY) == {}


def test_an_account_above_has_used_what_it_paid_for(
    connection: Connection,
) -> None:
    lab = Allocation(id="l", zone="z", account="lab")
    ledger.open_allocations(connection, [lab])
    common = {"zone": "z", "chain": ("bob", "lab")}
    run = {**common, "run": "2.1/1", "model": "V100"}
    deposit = {**common, "chain": ("lab",), "allocation_id": "l", "amount": 9}
    ledger.post(
        connection,
        [
            Posting(kind="deposit", key="dl", at=10, **deposit),
            Posting(kind="charge", key="cl", at=3 * DAY - 1, amount=7, **run),
        ],
    )
    found = accounts.daily_use(connection, "z", end=3 * DAY)
    assert {name: used[-1] for name, used in found.items()} == {
        "ana": 15,
        "bob": 7,
        "lab": 7,
    }


def test_one_account_is_read_like_all(connection: Connection) -> None:
    of = ("z", "ana")
    assert report_store.balances_before(connection, DAY, of) == {"avail:z:ana": 100}
    whole, own = (
        sorted(report_store.moves(connection, DAY, 3 * DAY, who), key=str)
        for who in (None, of)
    )
    assert own == whole
    assert report_store.moves(connection, DAY, 3 * DAY, ("z", "bob")) == []


def test_what_was_done_by_hand(connection: Connection) -> None:
    deposit, refund = report_store.hand_entries(connection, 0, 3 * DAY)
    assert (deposit.kind, deposit.actor, deposit.ucr) == ("deposit", "root", 100)
    assert (refund.kind, refund.account, refund.ucr) == ("refund", "ana", 5)
    assert report_store.hand_entries(connection, 20, DAY) == []


def test_changes_and_forecasts_of_a_period(connection: Connection) -> None:
    changes = [
        Change(at=at, actor="root", key="half_life", old="7d", new="1d")
        for at in (5, 15)
    ]
    share_store.add_changes(connection, "z", changes)
    assert report_store.changes_between(connection, "z", 10, 20) == changes[1:]
    made = [
        share_store.StartForecast(workload_id=number, made_at=at, low=at, high=at + 1)
        for number, at in ((1, 5), (2, 15))
    ]
    share_store.add_forecasts(connection, "z", made, kept_max=10)
    (one,) = report_store.forecasts_between(connection, "z", 10, 20)
    assert (one.workload_id, one.low, one.started_at) == (2, 15, None)
    assert report_store.forecasts_between(connection, "other", 10, 20) == []
    assert share_store.checked_forecasts(connection, "z") == []
    for number, at in ((2, 30), (1, 40)):
        share_store.score_forecast(connection, number, at)
    checked = share_store.checked_forecasts(connection, "z")
    assert [(one.workload_id, one.started_at) for one in checked] == [(2, 30), (1, 40)]
