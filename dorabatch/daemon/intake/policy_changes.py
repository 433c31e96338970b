"""Changes of the policy and of the share tree, as an admin orders them.

Each is one transaction with actor and reason in the history; the next cycle goes by
it. What a change may be is decided in `state.site_policy`, never here.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dorabatch.clock import Clock
from dorabatch.daemon.state.site_policy import Edit, SitePolicy
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.db import Writer
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanges:
    """Writes changes of one zone's policy."""

    policy: SitePolicy
    usage: UsageBook
    writer: Writer
    clock: Clock
    cycle_wanted: threading.Event

    def set(
        self,
        actor: str,
        reason: str,
        assignments: Mapping[str, str],
        unset: Sequence[str],
    ) -> list[Change]:
        """Give settings values and take others back, all or none."""
        edit = self._edit(actor, reason)
        return self._done(self.policy.set(self.writer, edit, assignments, unset))

    def is_new(self, name: str, *, is_user: bool) -> bool:
        """Whether the tree has no such row."""
        return all(
            one.name != name or one.is_user != is_user for one in self.policy.rows
        )

    def add(
        self, actor: str, reason: str, wanted: Account, known: Collection[str]
    ) -> list[Change]:
        """Add a row; `known` are the users that the zone has seen."""
        edit = self._edit(actor, reason)
        return self._done(self.policy.add(self.writer, edit, wanted, known))

    def change(
        self,
        actor: str,
        reason: str,
        wanted: Account,
        *,
        parent: str | None,
        shares: int | None,
    ) -> list[Change]:
        """Change a row; None leaves a part as it is."""
        edit = self._edit(actor, reason)
        return self._done(
            self.policy.change(self.writer, edit, wanted, parent=parent, shares=shares)
        )

    def remove(
        self, actor: str, reason: str, name: str, *, is_user: bool
    ) -> list[Change]:
        """Take a row out of the tree."""
        edit = self._edit(actor, reason)
        return self._done(self.policy.remove(self.writer, edit, name, is_user=is_user))

    def rebuild(self) -> dict[str, tuple[float, float]]:
        """Make the cache of use anew; what was wrong, before and after."""
        return self.writer.do(lambda tx: self.usage.renew(tx, self.clock.now()))

    def _edit(self, actor: str, reason: str) -> Edit:
        return Edit(actor=actor, now=self.clock.now, reason=reason)

    def _done(self, changes: list[Change]) -> list[Change]:
        self.cycle_wanted.set()
        return changes
