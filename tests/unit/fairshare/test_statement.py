"""Statements add up to the balances of the book they are made from."""

from collections import Counter

import pytest

from dorabatch.fairshare.money.book import Allocation, Book, Posting
from dorabatch.fairshare.money.report_rows import LedgerMove
from dorabatch.fairshare.money.statement import ModelUse, models_used, statements


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


def moved(entries, start, end):
    """What the database adds up, from the entries themselves."""
    opening: Counter[str] = Counter()
    moves = []
    for entry in entries:
        at = entry.posting.at
        for leg in entry.legs:
            if at < start:
                opening[leg.ledger_account] += leg.ucr
            elif at < end:
                one = LedgerMove(
                    ledger_account=leg.ledger_account,
                    kind=entry.posting.kind,
                    zone="z",
                    payer=entry.posting.chain[0],
                    ucr=leg.ucr,
                )
                moves.append(one)
    return opening, moves


@pytest.mark.parametrize(("account", "ids"), [("ana", "wg"), ("lab", "l")])
@pytest.mark.parametrize("start", [0, 3, 60])
def test_a_statement_closes_at_the_balance(account, ids, start):
    book, entries = filled()
    found = statements(*moved(entries, start, 99), {("z", account): 7})["z", account]
    balance = sum(
        book.balances.get((f"{side}:z:{account}", name), 0)
        for side in ("avail", "lien")
        for name in ids
    )
    assert found.closing == balance
    assert (found.liens, found.later) == (5, 7)
    parts = found.deposits + found.refunds + found.transferred
    assert found.opening + parts - found.charges - found.expired == found.closing


def test_models_equal_revenue_and_count_it_once():
    book, entries = filled()
    opening, moves = moved(entries, 0, 99)
    assert models_used(moves) == [
        ModelUse(zone="z", account="ana", model="V", charges=55, refunds=15)
    ]
    assert book.balances["revenue:z:V", ""] == 40
    _, early = moved(entries, 0, 4)
    assert [one.charges for one in models_used(early)] == [40]
    assert not opening
