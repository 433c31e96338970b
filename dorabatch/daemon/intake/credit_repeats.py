"""Whether an order on credit under a key of before is the one of before.

Reads what was posted under the key; posts nothing. What an order left open (no end, all
that is left) is the same as whatever became of it.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from dorabatch.daemon.intake.credit_order import Order, moment_text
from dorabatch.errors import ConflictError
from dorabatch.fairshare.money.book import FOREVER, Entry
from dorabatch.fairshare.store import ledger
from dorabatch.units import moment_of


def check_same(connection: Connection, key: str, order: Order) -> bool:
    """Whether something was posted under `key`; ConflictError: for another order."""
    posted = ledger.posted_as(connection, key)
    if not posted:
        return False
    at = moment_of(posted[0].posting.at)
    before = _order_of(connection, order.verb, posted)
    if not _is_same(order, before, at):
        raise ConflictError(
            f"key {order.key!r} was used before, on {moment_text(at)}, for another "
            f"order: {before.sentence()}; asked now: {order.sentence()}. Nothing was "
            "changed; give another key, or order the same again"
        )
    return True


def _is_same(order: Order, before: Order, at: datetime) -> bool:
    return (
        (order.account, order.reason, order.target, order.valid_to)
        == (before.account, before.reason, before.target, before.valid_to)
        and (order.valid_from or at) == (before.valid_from or at)
        and order.amount in (None, before.amount)
        and order.allocation in ("", before.allocation)
        and order.on_exhaust in ("", before.on_exhaust)
    )


def _order_of(connection: Connection, verb: str, posted: Sequence[Entry]) -> Order:
    """The order that these entries came from."""
    first = posted[0].posting
    account, reason = first.chain[0], first.reason
    given = [leg for entry in posted for leg in entry.legs if leg.ucr > 0]
    amount = sum(leg.ucr for leg in given)
    if verb == "refund":
        back = [leg for entry in posted for leg in entry.legs if leg.ucr < 0]
        amount = -sum(leg.ucr for leg in back if leg.ledger_account[:8] == "revenue:")
        return Order(verb=verb, account=first.run, reason=reason, amount=amount)
    if verb == "transfer":
        target = given[0].ledger_account.split(":", 2)[2]
        return Order(
            verb=verb, account=account, reason=reason, amount=amount, target=target
        )
    if verb == "expire":
        ended = {leg.allocation_id for e in posted for leg in e.legs if leg.ucr < 0}
        named = ", ".join(sorted(ended))
        return Order(verb=verb, account=account, reason=reason, allocation=named)
    (row,) = ledger.allocations(connection, [given[0].allocation_id])
    return Order(
        verb=verb,
        account=account,
        reason=reason,
        amount=amount,
        on_exhaust=row.on_exhaust,
        valid_from=None if row.valid_from == first.at else moment_of(row.valid_from),
        valid_to=None if row.valid_to >= FOREVER else moment_of(row.valid_to),
    )
