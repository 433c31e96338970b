"""Reports add up to the balances of the book they are made from."""

import pytest

from dorabatch.fairshare.book import Allocation, Book, Posting
from dorabatch.fairshare.report import (
    charge_back,
    jain_index,
    statement,
    usage_by_account,
)


def filled():
    rows = [
        Allocation(id=name, zone="z", account=account, valid_to=end)
        for name, account, end in (("w", "ana", 50), ("g", "ana", 99), ("l", "lab", 99))
    ]
    book = Book()
    for row in rows:
        book.open(row)
    done = []
    for at, (kind, amount, more) in enumerate(
        [
            ("deposit", 100, {"allocation_id": "w"}),
            ("deposit", 500, {"allocation_id": "l"}),
            ("lien", 60, {"run": "1"}),
            ("charge", 40, {"run": "1", "model": "V"}),
            ("charge", 55, {"run": "1", "model": "V"}),
            ("refund", 15, {"run": "1", "reason": "node lost"}),
            ("transfer", 10, {"allocation_id": "w", "target_id": "g"}),
        ]
    ):
        done.append(book.post(posting(kind, at, amount, **more)))
    done.append(book.post(posting("expire", 50, 0, allocation_id="w")))
    return book, [one.entry for one in done]


def posting(kind, at, amount, **more):
    return Posting(
        kind=kind,
        key=f"{kind}/{at}",
        at=at,
        zone="z",
        chain=("ana", "lab"),
        amount=amount,
        **more,
    )


@pytest.mark.parametrize(("account", "ids"), [("ana", "wg"), ("lab", "l")])
@pytest.mark.parametrize("start", [0, 3, 60])
def test_statement_closes_at_the_balance(account, ids, start):
    book, entries = filled()
    found = statement(entries, zone="z", account=account, start=start, end=99)
    balance = sum(
        book.balances.get((f"{side}:z:{account}", name), 0)
        for side in ("avail", "lien")
        for name in ids
    )
    assert found.closing == balance
    assert found.liens == 5
    parts = found.deposits + found.refunds + found.transferred
    assert found.opening + parts - found.charges - found.expired == found.closing


def test_charge_back_equals_revenue_and_counts_it_once():
    book, entries = filled()
    rows = charge_back(entries, start=0, end=99)
    assert usage_by_account(rows) == {"ana": 40}
    assert book.balances["revenue:z:V", ""] == 40
    assert charge_back(entries, start=0, end=4)[0].ucr == 40


def test_jain():
    assert jain_index([3, 6], [1, 2]) == pytest.approx(1)
    assert jain_index([3, 0], [1, 1]) == pytest.approx(0.5)
    assert jain_index([0, 0], [1, 1]) == 1
