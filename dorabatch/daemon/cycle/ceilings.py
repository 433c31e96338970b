"""The limits on use that a user's containers count in: their own, and each account's.

Asked by the gate for what waits and again when a placement is written. Counts and
words; keeps nothing waiting itself and changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.fairshare.turn.use_limits import UseLimits
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim, Demand, HeldArrays

MILLI = 1000
_ACCOUNTS_FROM = 1000


class Ceiling(NamedTuple):
    """One limit: `most` thousandths of GPUs, or containers, of one owner.

    `rank` orders what a user counts in: their own first, then accounts, the top last.
    Those of one rank are never one above the other.
    """

    rank: int
    is_gpus: bool
    owner: str
    most: int

    def adds(self, gpu_milli: int) -> int:
        """What a container with so many thousandths of GPUs adds."""
        return gpu_milli if self.is_gpus else 1

    def number(self, amount: int) -> str:
        """An amount as people write it."""
        return f"{amount / MILLI:g}" if self.is_gpus else str(amount)

    def counted(self, amount: int) -> str:
        """An amount with its noun."""
        number = self.number(amount)
        noun = "GPU" if self.is_gpus else "container"
        return f"{number} {noun}{'' if number == '1' else 's'}"

    def sentence(self, asked: int, *, used: int, held: int) -> str:
        """Why something waits that asks for so much; `used`: held or ahead of it."""
        allowed = f"and {self.number(self.most)} at once are allowed for {self.owner}"
        if asked > self.most:
            return f"asks for {self.counted(asked)}, {allowed}"
        verb = "in use" if self.is_gpus else "running"
        if held > self.most:
            return f"{self.owner} has {self.counted(held)} {verb}, {allowed}"
        ahead = " or asked for ahead of it" if used > held else ""
        rest = f", and it asks for {self.number(asked)}" if used < self.most else ""
        noun = "GPUs" if self.is_gpus else "containers"
        part = f"{self.number(used)} of {self.number(self.most)} {noun}"
        return f"{self.owner}'s {part} are {verb}{ahead}{rest}"


class Ceilings:
    """All limits in force at one moment; by one thread at a time."""

    def __init__(
        self, limits: UseLimits, accounts_of: Callable[[str], tuple[str, ...]]
    ) -> None:
        self._limits = limits
        self._accounts_of = accounts_of
        self._known: dict[str, tuple[Ceiling, ...]] = {}

    def of(self, user: str) -> tuple[Ceiling, ...]:
        """Those that a user's containers count in, by rank."""
        found = self._known.get(user)
        if found is None:
            found = self._known[user] = (*self._own(user), *self._above(user))
        return found

    def held(self, held: HeldArrays) -> dict[Ceiling, int]:
        """What is held of each, also by what starts or stops."""
        lengths = np.array([len(names) for names in held.model_sets], dtype=np.int64)
        milli = lengths[held.models] * held.gpu_milli
        rows = np.bincount(held.claim, minlength=len(held.claims))
        gpus = np.bincount(held.claim, weights=milli, minlength=len(held.claims))
        found: dict[Ceiling, int] = {}
        for number in np.flatnonzero(rows).tolist():
            for one in self.of(held.claims[number].user):
                added = int(gpus[number] if one.is_gpus else rows[number])
                found[one] = found.get(one, 0) + added
        return found

    def _own(self, user: str) -> list[Ceiling]:
        gpus, running = self._limits.gpus_per_user, self._limits.running_per_user
        found = []
        if gpus is not None:
            found.append(Ceiling(0, True, user, gpus * MILLI))
        if running is not None:
            found.append(Ceiling(1, False, user, running))
        return found

    def _above(self, user: str) -> list[Ceiling]:
        limits = self._limits.gpus_of_accounts
        if not limits:
            return []
        accounts = self._accounts_of(user)
        deepest = _ACCOUNTS_FROM - len(accounts)
        return [
            Ceiling(deepest + at, True, f"account {name}", limits[name] * MILLI)
            for at, name in enumerate(accounts)
            if name in limits
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What limits leave while a part of a plan is written down."""

    ceilings: Ceilings
    used: dict[Ceiling, int]

    def covers(self, claim: Claim, demand: Demand) -> bool:
        """Whether a container may hold what it asks for beside all the others."""
        return all(
            added == 0 or self.used.get(one, 0) + added <= one.most
            for one, added in self._added(claim, demand)
        )

    def take(self, claim: Claim, demand: Demand) -> None:
        """A container holds what it asks for."""
        for one, added in self._added(claim, demand):
            self.used[one] = self.used.get(one, 0) + added

    def _added(self, claim: Claim, demand: Demand) -> list[tuple[Ceiling, int]]:
        milli = demand.gpu_count * demand.gpu_milli
        return [(one, one.adds(milli)) for one in self.ceilings.of(claim.user)]


def headroom_of(policy: SitePolicy, board: Board) -> Headroom:
    """What limits leave beside all that the board holds now."""
    ceilings = Ceilings(policy.settings.limits, policy.accounts_of)
    used = ceilings.held(board.held.arrays())
    return Headroom(ceilings=ceilings, used=used)
