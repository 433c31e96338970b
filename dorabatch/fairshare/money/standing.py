"""Where an account stands: what it may spend, what happens at its limit, and when
credit comes again.

Values and rules only; never posts anything and never reads a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from dorabatch.units import render_credits

ON_EXHAUST = ("demote", "hold", "stop")
"""From the mildest to the strictest: run on free, let finish, stop."""
PAID, SCAVENGER = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account in one zone at one moment, in micro-credits.

    `available` is None without any allocation: nothing limits it. `budget` is what
    the allocations that are valid now were given; `time_left` is the fraction of the
    week that is left. The last allocation to be spent says what happens at its end.
    """

    account: str
    available: int | None = None
    liens: int = 0
    budget: int = 0
    time_left: Fraction = Fraction(1)
    on_exhaust: str = "stop"
    resets_at: datetime | None = None
    reset_zone: str = "UTC"

    @property
    def is_limited(self) -> bool:
        """Whether the account has or ever had credit of its own."""
        return self.available is not None

    @property
    def balance(self) -> int:
        """What is available and what is held together."""
        return (self.available or 0) + self.liens

    def covers(self, need: int) -> bool:
        """Whether something that costs `need` may start and be charged.

        What costs nothing always may.
        """
        return self.available is None or need <= max(0, self.available)

    def tier(self, need: int = 1) -> int:
        """0: charged, 1: scavenger; what is held back is 0 too: see `is_held`."""
        is_free = not self.covers(need) and self.on_exhaust == "demote"
        return SCAVENGER if is_free else PAID

    def is_held(self, need: int = 1) -> bool:
        """Whether something that costs `need` has to wait for credit."""
        return not self.covers(need) and self.on_exhaust != "demote"

    @property
    def runs_into_debt(self) -> bool:
        """Whether what runs already goes on and is charged when nothing is left."""
        return self.on_exhaust == "hold"

    def sentence(self, need: int) -> str:
        """Why something that costs `need` waits, or runs free."""
        whose = f"account {self.account}: " if self.account else ""
        have = render_credits(self.available or 0)
        return (
            f"out of credit: {whose}needs {render_credits(need)}, has {have}, "
            f"{self.when()}"
        )

    def when(self) -> str:
        """When credit comes again, in the words of the site's time zone."""
        if self.resets_at is None:
            return "no weekly credit; ask an admin for a grant"
        local = self.resets_at.astimezone(ZoneInfo(self.reset_zone))
        return f"resets {local:%A %H:%M} {self.reset_zone} ({local:%Y-%m-%d})"


def tightest(standings: Sequence[Standing], need: int) -> Standing:
    """Of an account and its ancestors the one that decides on a cost.

    The strictest among those that do not cover it, else the one with the least left.
    """
    short = [one for one in standings if not one.covers(need)]
    if short:
        return max(short, key=lambda one: ON_EXHAUST.index(one.on_exhaust))
    limited = [one for one in standings if one.available is not None]
    return min(limited, key=lambda one: one.available or 0, default=standings[0])
