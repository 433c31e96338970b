"""What an admin orders by hand: grant, transfer, refund, expire; and who may see what.

Each order is one transaction with actor and reason in the ledger, and with a key that
makes a repeat harmless. Charges nothing: `charging` does.
"""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from dorabatch.clock import Clock
from dorabatch.daemon.intake.credit_order import Order
from dorabatch.daemon.intake.credit_repeats import check_same
from dorabatch.daemon.rights import Caller, Place, require
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.db import Tx, Writer
from dorabatch.errors import NotFound, Refused, UserError
from dorabatch.fairshare.money.book import FOREVER, Allocation, Book, Posting
from dorabatch.fairshare.money.standing import ON_EXHAUST
from dorabatch.fairshare.store import ledger, terms
from dorabatch.resources.verbs import Verb
from dorabatch.units import microseconds_of, render_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDone:
    """What an order moved, in micro-credits; a repeat moves nothing."""

    moved: int
    message: str
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """An order in its transaction."""

    tx: Tx
    caller: Caller
    order: Order
    key: str
    now: datetime

    @property
    def at(self) -> int:
        return microseconds_of(self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditOrders:
    """Carries out orders."""

    credits: CreditBook
    accounts: Accounts
    billing: Billing
    writer: Writer
    clock: Clock
    cycle_wanted: threading.Event

    def carry_out(self, caller: Caller, order: Order) -> OrderDone:
        """Do one order; raises a sentence for what cannot be done."""
        place = Place(zone=self.credits.zone, owner=order.account)
        what = f"dcredit {order.verb}"
        require(caller, Verb.APPLY, "Usercredit", place, what)
        if not order.reason.strip():
            raise UserError(f"{order.verb}: say why with --reason; the ledger keeps it")
        acts = {
            "grant": self._grant,
            "transfer": self._transfer,
            "refund": self._refund,
            "expire": self._expire,
        }
        if order.verb not in acts:
            raise UserError(f"{order.verb!r} (allowed: {', '.join(acts)})")
        key = f"{order.verb}:{self.credits.zone}:{order.key or uuid4().hex}"
        now = self.clock.now()

        def write(tx: Tx) -> OrderDone:
            if check_same(tx.connection, key, order):
                text = (
                    f"key {order.key!r} was used before for this: nothing was changed"
                )
                return OrderDone(moved=0, message=text, is_repeated=True)
            return acts[order.verb](
                _Act(tx=tx, caller=caller, order=order, key=key, now=now)
            )

        done = self.writer.do(write)
        self.cycle_wanted.set()
        return done

    def _grant(self, act: _Act) -> OrderDone:
        order = act.order
        self.accounts.check(act.tx.connection, order.account)
        begin = order.valid_from or act.now
        if order.valid_to is not None and order.valid_to <= act.now:
            raise Refused(
                f"--until {order.valid_to.isoformat()}: is past; give a later moment"
            )
        if order.valid_to is not None and order.valid_to <= begin:
            raise Refused(
                f"--until {order.valid_to.isoformat()}: ends before it begins "
                f"({begin.isoformat(timespec='seconds')}); give a later moment"
            )
        amount = _given(order)
        mode = order.on_exhaust or self.credits.settings.on_exhaust
        if mode not in ON_EXHAUST:
            raise Refused(f"--on-exhaust {mode!r} (allowed: {', '.join(ON_EXHAUST)})")
        row = Allocation(
            id=f"{act.key}:{order.account}"[:200],
            zone=self.credits.zone,
            account=order.account,
            valid_from=microseconds_of(begin),
            valid_to=microseconds_of(order.valid_to) if order.valid_to else FOREVER,
            on_exhaust=mode,
        )
        self.billing.open_allocations(act.tx, [row])
        posting = self._posting(act, "deposit", amount=amount, allocation_id=row.id)
        self.billing.post(act.tx, [posting])
        until = f" until {order.valid_to.isoformat()}" if order.valid_to else ""
        return OrderDone(
            moved=amount,
            message=f"{render_credits(amount)} granted to {order.account}{until}",
        )

    def _transfer(self, act: _Act) -> OrderDone:
        order = act.order
        for account in (order.account, order.target):
            self.accounts.check(act.tx.connection, account)
        if order.account == order.target:
            raise Refused(f"transfer from {order.account!r} to itself moves nothing")
        amount = _given(order)
        at = act.at
        asked = self._posting(act, "read")
        book = ledger.load_book(act.tx.connection, [asked])
        have = book.available(self.credits.zone, order.account, at)
        if have is None or have < amount:
            raise Refused(
                f"account {order.account!r} has {render_credits(have or 0)} available, "
                f"{render_credits(amount)} are to be transferred; give less"
            )
        rows: list[Allocation] = []
        postings: list[Posting] = []
        legs = book.draw(self.credits.zone, order.account, amount, at)
        for number, leg in enumerate(one for one in legs if one.ucr):
            source = book.allocations[leg.allocation_id]
            # What is moved keeps its end: a transfer makes no credit last longer.
            row = Allocation(
                id=f"{act.key}:{order.target}:{number}"[:200],
                zone=self.credits.zone,
                account=order.target,
                valid_from=source.valid_from,
                valid_to=source.valid_to,
                on_exhaust=source.on_exhaust,
            )
            rows.append(row)
            postings.append(
                self._posting(
                    act,
                    "transfer",
                    number,
                    amount=-leg.ucr,
                    allocation_id=source.id,
                    target_id=row.id,
                )
            )
        self.billing.open_allocations(act.tx, rows)
        self.billing.post(act.tx, postings)
        text = f"{render_credits(amount)} moved from {order.account} to "
        return OrderDone(moved=amount, message=text + order.target)

    def _refund(self, act: _Act) -> OrderDone:
        order, run = act.order, act.order.account
        meters = terms.load_meters(act.tx.connection, [run])
        book = Book()
        ledger.load_runs(act.tx.connection, book, [run])
        charged, back = (book.run_total(run, what) for what in ("charged", "refunded"))
        if not meters or not charged:
            raise NotFound(
                f"run {run!r}: nothing was charged; name it WORKLOAD.REPLICA/ATTEMPT, "
                "such as 12.1/1 (see dcredit statement)"
            )
        left = charged - back
        if left <= 0:
            raise Refused(f"run {run}: all that it was charged is refunded already")
        amount = left if order.amount is None else _given(order)
        if amount > left:
            raise Refused(
                f"run {run}: {render_credits(amount)} are more than the "
                f"{render_credits(left)} that it was charged and not refunded; give "
                "less"
            )
        posting = self._posting(
            act, "refund", amount=amount, run=run, chain=meters[-1].chain
        )
        self.billing.post(act.tx, [posting])
        text = f"{render_credits(amount)} refunded to {meters[-1].chain[0]} for {run}"
        return OrderDone(moved=amount, message=text)

    def _expire(self, act: _Act) -> OrderDone:
        order = act.order
        self.accounts.check(act.tx.connection, order.account)
        mine = ledger.live_allocations(
            act.tx.connection, [self.credits.zone], [order.account], at=act.at
        )
        wanted = [row for row in mine if order.allocation in ("", row.id)]
        if order.allocation and not wanted:
            names = ", ".join(row.id for row in mine) or "none"
            raise NotFound(
                f"account {order.account!r} has no allocation {order.allocation!r} "
                f"(it has: {names})"
            )
        postings = [
            self._posting(act, "expire", number, allocation_id=row.id)
            for number, row in enumerate(wanted)
        ]
        done = self.billing.post(act.tx, postings)
        moved = sum(one.moved for one in done)
        return OrderDone(
            moved=moved, message=f"{render_credits(moved)} of {order.account} ended"
        )

    def _posting(self, act: _Act, kind: str, number: int = 0, **more: Any) -> Posting:
        return Posting(
            kind=kind,
            key=act.key if not number else f"{act.key}:{number}",
            at=act.at,
            zone=self.credits.zone,
            **{"chain": (act.order.account,), **more},
            actor=act.caller.user,
            reason=act.order.reason,
        )


def _given(order: Order) -> int:
    """The amount of an order that needs one above 0; raises Refused."""
    if not order.amount or order.amount < 0:
        raise Refused(f"amount 0: nothing to {order.verb}; give more than 0")
    return order.amount
