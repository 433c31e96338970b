"""Whether an order on credit under a key of before is the one of before.

Reads what was posted under the key; posts nothing. What an order left open (no end, all
that is left) is the same as whatever became of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dorabatch.errors import ConflictError
from dorabatch.fairshare import ledger
from dorabatch.fairshare.book import FOREVER, Entry
from dorabatch.units import moment_of, render_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order as it can be found in the ledger again.

    Micro-credits; microseconds since 1970. None and "": it was left open.
    """

    verb: str
    account: str
    reason: str
    amount: int | None = None
    target: str = ""
    allocation: str = ""
    on_exhaust: str = ""
    begin: int | None = None
    end: int | None = None

    def sentence(self) -> str:
        """What was ordered, and why."""
        amount = "all" if self.amount is None else render_credits(self.amount)
        text = {
            "grant": f"grant {amount} to {self.account}",
            "transfer": f"transfer {amount} from {self.account} to {self.target}",
            "refund": f"refund {amount} of {self.account}",
            "expire": f"expire {self.allocation or 'all'} of {self.account}",
        }[self.verb]
        parts = [
            text,
            f"from {_moment(self.begin)}" if self.begin is not None else "",
            f"until {_moment(self.end)}" if self.end is not None else "",
            f"on exhaust {self.on_exhaust}" if self.on_exhaust else "",
        ]
        return " ".join(part for part in parts if part) + f" ({self.reason!r})"


def check_same(connection: Connection, key: str, name: str, asked: Asked) -> bool:
    """Whether something was posted under `key`; ConflictError: for another order.

    `name` is how whoever orders calls the key.
    """
    posted = ledger.posted_as(connection, key)
    if not posted:
        return False
    before = _order_of(connection, asked.verb, posted)
    if not _is_same(asked, before, posted[0].posting.at):
        raise ConflictError(
            f"key {name!r} was used before, on {_moment(posted[0].posting.at)}, for "
            f"another order: {before.sentence()}; asked now: {asked.sentence()}. "
            "Nothing was changed; give another key, or order the same again"
        )
    return True


def _is_same(asked: Asked, before: Asked, at: int) -> bool:
    begins = [at if one.begin is None else one.begin for one in (asked, before)]
    return (
        (asked.account, asked.reason, asked.target, asked.end)
        == (before.account, before.reason, before.target, before.end)
        and begins[0] == begins[1]
        and asked.amount in (None, before.amount)
        and asked.allocation in ("", before.allocation)
        and asked.on_exhaust in ("", before.on_exhaust)
    )


def _order_of(connection: Connection, verb: str, posted: Sequence[Entry]) -> Asked:
    """The order that these entries came from."""
    first = posted[0].posting
    account, reason = first.chain[0], first.reason
    given = [leg for entry in posted for leg in entry.legs if leg.ucr > 0]
    amount = sum(leg.ucr for leg in given)
    if verb == "refund":
        back = [leg for entry in posted for leg in entry.legs if leg.ucr < 0]
        amount = -sum(leg.ucr for leg in back if leg.ledger_account[:8] == "revenue:")
        return Asked(verb=verb, account=first.run, reason=reason, amount=amount)
    if verb == "transfer":
        target = given[0].ledger_account.split(":", 2)[2]
        return Asked(
            verb=verb, account=account, reason=reason, amount=amount, target=target
        )
    if verb == "expire":
        ended = {leg.allocation_id for e in posted for leg in e.legs if leg.ucr < 0}
        named = ", ".join(sorted(ended))
        return Asked(verb=verb, account=account, reason=reason, allocation=named)
    (row,) = ledger.allocations(connection, [given[0].allocation_id])
    return Asked(
        verb=verb,
        account=account,
        reason=reason,
        amount=amount,
        on_exhaust=row.on_exhaust,
        begin=None if row.valid_from == first.at else row.valid_from,
        end=None if row.valid_to >= FOREVER else row.valid_to,
    )


def _moment(at: int) -> str:
    return moment_of(at).isoformat(timespec="seconds")
