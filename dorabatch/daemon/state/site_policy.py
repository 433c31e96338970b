"""The policy in force: the account tree and the settings, changed under audit.

Every change is checked as a whole before anything is written. Written by the writer's
thread after each commit, read by everybody: the policy in force is published whole, by
one assignment. Decides no order and knows no workload.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from dorabatch.db import Tx, Writer
from dorabatch.errors import ConfigError, UserError
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.store.share_store import StoredSetting
from dorabatch.fairshare.turn.account_tree import (
    SHARES_OF_PARENT,
    Account,
    AccountTree,
    build_tree,
    find_row,
    kind_of,
    with_account,
    with_change,
    without,
)
from dorabatch.fairshare.turn.changes import Change
from dorabatch.fairshare.turn.settings import (
    PolicySettings,
    accounts_named,
    flat_texts,
    policy_settings,
    read_half_life,
)
from dorabatch.fairshare.turn.usage import Fading, HalfLife
from dorabatch.units import microseconds_of

FILE_ACTOR = "dorad"
FILE_REASON = "settings file"
HALF_LIFE = "half_life"
CHANGES_SHOWN_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Who wants a change and why; `now` is read when the change is written."""

    actor: str
    now: Callable[[], datetime]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A policy as a whole: what a change of it notes in its transaction."""

    stored: Mapping[str, StoredSetting]
    settings: PolicySettings
    rows: tuple[Account, ...]
    fading: Fading


class Differs(NamedTuple):
    """A line of the history that has no moment yet."""

    key: str
    old: str
    new: str


class SitePolicy:
    """What one zone's administrators have said.

    Readers take a part once and see no half change; `revision` grows after a change
    can be seen.
    """

    def __init__(self, zone: str, file_tree: Mapping[str, object]) -> None:
        self.zone = zone
        self._file = file_texts(file_tree)
        self._lock = threading.Lock()
        self._now = InForce(
            stored={},
            settings=policy_settings(self._file),
            rows=(),
            fading=Fading([HalfLife(since=0.0, seconds=1.0)]),
        )
        self.revision = 0
        self._seats: tuple[tuple[Account, ...], AccountTree] = ((), build_tree(()))

    @property
    def settings(self) -> PolicySettings:
        """The settings in force."""
        return self._now.settings

    @property
    def rows(self) -> tuple[Account, ...]:
        """The rows of the account tree."""
        return self._now.rows

    @property
    def fading(self) -> Fading:
        """The half-lives that were ever in force."""
        return self._now.fading

    def load(self, connection: Connection, now: datetime) -> None:
        """Read what was said, and note what the settings file says anew."""
        before = share_store.load_settings(connection, self.zone)
        said = {key: one.value for key, one in before.items() if one.is_set}
        after = self._layered(said)
        edit = Edit(actor=FILE_ACTOR, now=lambda: now, reason=FILE_REASON)
        differing = _differences(before, after) if before else []
        self._write_settings(connection, edit, differing, after)
        found = self._with_settings(connection, after)
        rows = share_store.load_shares(connection, self.zone)
        self._take(replace(found, rows=rows))

    def play(self, texts: Mapping[str, str], rows: Sequence[Account]) -> None:
        """Let settings and a tree be in force in memory only, from the beginning."""
        stored = {
            key: StoredSetting(value=text, is_set=True) for key, text in texts.items()
        }
        settings = policy_settings(texts)
        seconds = settings.half_life_seconds
        self._take(
            InForce(
                stored=stored,
                settings=settings,
                rows=tuple(rows),
                fading=Fading([HalfLife(since=0.0, seconds=seconds)]),
            )
        )

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""
        for change in changes:
            if isinstance(change, InForce):
                self._take(change)

    def fading_in(self, tx: Tx) -> Fading:
        """The half-lives as a transaction sees them: with one that it changed.

        What was written before it in the same batch is not in memory yet.
        """
        changed = (one for one in reversed(tx.changes) if isinstance(one, InForce))
        return next(changed, self._now).fading

    def set(
        self,
        writer: Writer,
        edit: Edit,
        assignments: Mapping[str, str],
        unset: Iterable[str] = (),
    ) -> list[Change]:
        """Change settings together, or none of them; what changed.

        `unset` keys go back to what the file or the default says.
        """
        with self._lock:
            self._check_accounts(assignments)
            before = self._now.stored
            said = {key: one.value for key, one in before.items() if one.is_set}
            for key in unset:
                if key not in said:
                    known = ", ".join(said) or "none"
                    raise UserError(
                        f"{key} was not set with dshare set (set are: {known}); "
                        "it has the value of the settings file or the default"
                    )
                del said[key]
            said.update(assignments)
            after = self._layered(said)
            if after == before:
                return []
            differing = _differences(before, after)

            def write(tx: Tx) -> list[Change]:
                changes = self._write_settings(tx.connection, edit, differing, after)
                tx.note(self._with_settings(tx.connection, after))
                return changes

            return writer.do(write)

    def add(
        self, writer: Writer, edit: Edit, new: Account, known_users: Collection[str]
    ) -> list[Change]:
        """Add an account, or a user to an account."""
        with self._lock:
            rows = with_account(self.rows, new, known_users=known_users)
            return self._replace(writer, rows, edit, _row_differs(None, new))

    def change(
        self,
        writer: Writer,
        edit: Edit,
        wanted: Account,
        *,
        parent: str | None,
        shares: int | None,
    ) -> list[Change]:
        """Give an account or a user another parent or other shares.

        Of `wanted` only the name and whether it is a user count.
        """
        name, is_user = wanted.name, wanted.is_user
        with self._lock:
            before = find_row(self.rows, name, is_user=is_user)
            rows = with_change(
                self.rows, name, is_user=is_user, parent=parent, shares=shares
            )
            after = find_row(rows, name, is_user=is_user)
            if after == before:
                return []
            return self._replace(writer, rows, edit, _row_differs(before, after))

    def remove(
        self, writer: Writer, edit: Edit, name: str, *, is_user: bool
    ) -> list[Change]:
        """Take an account or a user out of the tree; its use is kept."""
        with self._lock:
            before = find_row(self.rows, name, is_user=is_user)
            rows = without(self.rows, name, is_user=is_user)
            return self._replace(writer, rows, edit, _row_differs(before, None))

    def is_set(self, key: str) -> bool:
        """Whether a value was said with dshare set."""
        one = self._now.stored.get(key)
        return one is not None and one.is_set

    def source_of(self, key: str) -> str:
        """Where a value comes from: set, file or default."""
        if self.is_set(key):
            return "set"
        return "file" if key in self._file else "default"

    def accounts_of(self, user: str) -> tuple[str, ...]:
        """The accounts above a user, nearest first; none at the top."""
        rows, seats = self.rows, self._seats
        if seats[0] is not rows:
            # Another thread may publish a tree of its own meanwhile.
            self._seats = seats = (rows, build_tree(rows))
        tree = seats[1]
        node = tree.index.get(user)
        if node is None or not tree.is_user[node]:
            return ()
        return tree.ancestors(user)

    def _check_accounts(self, assignments: Iterable[str]) -> None:
        """Refuse settings of accounts that are not there: they would do nothing."""
        known = [row.name for row in self.rows if not row.is_user]
        for key, account in accounts_named(assignments).items():
            if account not in known:
                some = ", ".join(sorted(known)[:8]) or "none"
                raise UserError(
                    f"{key}: there is no account {account!r} (known: {some}); add it "
                    "with dshare account add, or correct the name"
                )

    def _layered(self, said: Mapping[str, str]) -> dict[str, StoredSetting]:
        texts = policy_settings(self._file, said).texts
        return {
            key: StoredSetting(value=text, is_set=key in said)
            for key, text in texts.items()
        }

    def _take(self, after: InForce) -> None:
        self._now = after
        self.revision += 1

    def _write_settings(
        self,
        connection: Connection,
        edit: Edit,
        differing: Sequence[Differs],
        after: Mapping[str, StoredSetting],
    ) -> list[Change]:
        changes = self._dated(connection, edit, differing)
        share_store.save_settings(connection, self.zone, after)
        share_store.add_changes(connection, self.zone, changes)
        return changes

    def _replace(
        self,
        writer: Writer,
        rows: tuple[Account, ...],
        edit: Edit,
        differs: Differs,
    ) -> list[Change]:
        def write(tx: Tx) -> list[Change]:
            changes = self._dated(tx.connection, edit, [differs])
            share_store.save_shares(tx.connection, self.zone, rows)
            share_store.add_changes(tx.connection, self.zone, changes)
            tx.note(replace(self._now, rows=rows))
            return changes

        return writer.do(write)

    def _dated(
        self, connection: Connection, edit: Edit, differing: Iterable[Differs]
    ) -> list[Change]:
        """The changes, at a moment that no use was counted after and none changed.

        Use that is cached up to a later moment would have faded at the old pace there
        and, made anew from the runs, at the new one.
        """
        latest = share_store.latest_moment(connection, self.zone)
        at = max(microseconds_of(edit.now()), latest)
        return [
            Change(
                at=at, actor=edit.actor, key=key, old=old, new=new, reason=edit.reason
            )
            for key, old, new in differing
        ]

    def _with_settings(
        self, connection: Connection, after: Mapping[str, StoredSetting]
    ) -> InForce:
        """The policy with other settings, whose changes the connection has."""
        settings = policy_settings({key: one.value for key, one in after.items()})
        fading = self._read_fading(connection, settings)
        return replace(self._now, stored=after, settings=settings, fading=fading)

    def _read_fading(self, connection: Connection, settings: PolicySettings) -> Fading:
        """The half-lives that were ever in force, from the history."""
        changes = share_store.load_changes(connection, self.zone, key=HALF_LIFE)
        changes.reverse()
        if not changes:
            seconds = settings.half_life_seconds
            return Fading([HalfLife(since=0.0, seconds=seconds)])
        first = HalfLife(since=0.0, seconds=read_half_life(changes[0].old))
        later = [
            HalfLife(since=one.at / 1e6, seconds=read_half_life(one.new))
            for one in changes
        ]
        return Fading([first, *later])


def file_texts(tree: Mapping[str, object]) -> dict[str, str]:
    """The policy section of the settings file; ConfigError for what is wrong in it."""
    try:
        texts = flat_texts(tree)
        policy_settings(texts)
    except UserError as error:
        raise ConfigError(f"settings file: policy: {error.message}") from error
    return texts


def _differences(
    before: Mapping[str, StoredSetting], after: Mapping[str, StoredSetting]
) -> list[Differs]:
    found = []
    for key in sorted({*before, *after}):
        old = before[key].value if key in before else ""
        new = after[key].value if key in after else ""
        if old != new:
            found.append(Differs(key, old, new))
    return found


def _row_differs(before: Account | None, after: Account | None) -> Differs:
    named = after or before
    assert named is not None
    key = f"{kind_of(named)}.{named.name}"
    return Differs(key, row_text(before), row_text(after))


def row_text(row: Account | None) -> str:
    """A row of the tree in the history; empty: there was none."""
    if row is None:
        return ""
    shares = "parent" if row.shares == SHARES_OF_PARENT else row.shares
    return f"parent={row.parent or '-'} shares={shares}"
