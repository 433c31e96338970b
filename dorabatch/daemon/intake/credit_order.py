"""An order on credit, as an admin gives it or as it is read from the ledger again.

A value and its words; orders nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from dorabatch.units import render_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order; `key` is the caller's own name for it, empty makes a new one.

    `amount` is in micro-credits; None is all that is left to refund. For a refund
    `account` is the run, such as 12.1/1. None and "": it was left open.
    """

    verb: str
    account: str
    reason: str
    amount: int | None = None
    target: str = ""
    allocation: str = ""
    on_exhaust: str = ""
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    key: str = ""

    def sentence(self) -> str:
        """What is ordered, and why."""
        amount = "all" if self.amount is None else render_credits(self.amount)
        text = {
            "grant": f"grant {amount} to {self.account}",
            "transfer": f"transfer {amount} from {self.account} to {self.target}",
            "refund": f"refund {amount} of {self.account}",
            "expire": f"expire {self.allocation or 'all'} of {self.account}",
        }[self.verb]
        parts = [
            text,
            f"from {moment_text(self.valid_from)}" if self.valid_from else "",
            f"until {moment_text(self.valid_to)}" if self.valid_to else "",
            f"on exhaust {self.on_exhaust}" if self.on_exhaust else "",
        ]
        return " ".join(part for part in parts if part) + f" ({self.reason!r})"


def moment_text(moment: datetime) -> str:
    """A moment to the second, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")
