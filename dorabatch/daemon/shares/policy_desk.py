"""The policy in force: the account tree and the settings, changed under audit.

Equal to the database after each change; every change is checked as a whole before
anything is written. Decides no order and knows no workload.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dorabatch.db import Tx, Writer
from dorabatch.errors import ConfigError, UserError
from dorabatch.fairshare import share_store
from dorabatch.fairshare.decay import Fading, HalfLife
from dorabatch.fairshare.history import Change
from dorabatch.fairshare.settings import (
    PolicySettings,
    flat_texts,
    policy_settings,
    read_half_life,
)
from dorabatch.fairshare.share_edit import (
    find_row,
    kind_of,
    with_account,
    with_change,
    without,
)
from dorabatch.fairshare.share_store import StoredSetting
from dorabatch.fairshare.shares import (
    SHARES_OF_PARENT,
    Account,
    AccountTree,
    build_tree,
)

FILE_ACTOR = "dorad"
FILE_REASON = "settings file"
HALF_LIFE = "half_life"
CHANGES_SHOWN_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Who wants a change, when (microseconds since 1970) and why."""

    actor: str
    at: int
    reason: str = ""


class PolicyDesk:
    """What one zone's administrators have said.

    `settings`, `rows` and `fading` are replaced as wholes; readers take one of them
    once and see no half change.
    """

    def __init__(self, zone: str, file_tree: Mapping[str, object]) -> None:
        self.zone = zone
        self._file = file_texts(file_tree)
        self._stored: dict[str, StoredSetting] = {}
        self._lock = threading.Lock()
        self.settings: PolicySettings = policy_settings(self._file)
        self.rows: tuple[Account, ...] = ()
        self.fading = Fading([HalfLife(since=0.0, seconds=1.0)])
        self.revision = 0
        self._seats: tuple[tuple[Account, ...], AccountTree] = ((), build_tree(()))

    def load(self, connection: Connection, now_us: int) -> None:
        """Read what was said, and note what the settings file says anew."""
        self.rows = share_store.load_shares(connection, self.zone)
        before = share_store.load_settings(connection, self.zone)
        said = {key: one.value for key, one in before.items() if one.is_set}
        after = self._layered(said)
        edit = Edit(actor=FILE_ACTOR, at=now_us, reason=FILE_REASON)
        if before:
            self._write(connection, _differences(before, after, edit), after)
        else:
            share_store.save_settings(connection, self.zone, after)
        self._take(after)
        self.fading = self._read_fading(connection)

    def play(self, texts: Mapping[str, str], rows: Sequence[Account]) -> None:
        """Let settings and a tree be in force in memory only, from the beginning."""
        self._stored = {
            key: StoredSetting(value=text, is_set=True) for key, text in texts.items()
        }
        self._take(self._stored)
        self.rows = tuple(rows)
        seconds = self.settings.half_life_seconds
        self.fading = Fading([HalfLife(since=0.0, seconds=seconds)])

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
            before = self._stored
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
            changes = _differences(before, after, edit)
            is_same = after == before

            def write(tx: Tx) -> Fading:
                self._write(tx.connection, changes, after)
                return self._read_fading(tx.connection)

            if not is_same:
                fading = writer.do(write)
                self._take(after)
                self.fading = fading
        return changes

    def add(
        self, writer: Writer, edit: Edit, new: Account, known_users: Sequence[str]
    ) -> list[Change]:
        """Add an account, or a user to an account."""
        with self._lock:
            rows = with_account(self.rows, new, known_users=known_users)
            change = _row_change(edit, None, new)
            return self._replace(writer, rows, [change])

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
            return self._replace(writer, rows, [_row_change(edit, before, after)])

    def remove(
        self, writer: Writer, edit: Edit, name: str, *, is_user: bool
    ) -> list[Change]:
        """Take an account or a user out of the tree; its use is kept."""
        with self._lock:
            before = find_row(self.rows, name, is_user=is_user)
            rows = without(self.rows, name, is_user=is_user)
            return self._replace(writer, rows, [_row_change(edit, before, None)])

    def is_set(self, key: str) -> bool:
        """Whether a value was said with dshare set."""
        one = self._stored.get(key)
        return one is not None and one.is_set

    def source_of(self, key: str) -> str:
        """Where a value comes from: set, file or default."""
        if self.is_set(key):
            return "set"
        return "file" if key in self._file else "default"

    def accounts_of(self, user: str) -> tuple[str, ...]:
        """The accounts above a user, nearest first; none at the top."""
        rows = self.rows
        if self._seats[0] is not rows:
            self._seats = (rows, build_tree(rows))
        tree = self._seats[1]
        node = tree.index.get(user)
        if node is None or not tree.is_user[node]:
            return ()
        return tree.ancestors(user)

    def _layered(self, said: Mapping[str, str]) -> dict[str, StoredSetting]:
        texts = policy_settings(self._file, said).texts
        return {
            key: StoredSetting(value=text, is_set=key in said)
            for key, text in texts.items()
        }

    def _take(self, after: dict[str, StoredSetting]) -> None:
        self._stored = after
        self.settings = policy_settings({k: one.value for k, one in after.items()})
        self.revision += 1

    def _write(
        self,
        connection: Connection,
        changes: Sequence[Change],
        after: Mapping[str, StoredSetting],
    ) -> None:
        share_store.save_settings(connection, self.zone, after)
        share_store.add_changes(connection, self.zone, changes)

    def _replace(
        self, writer: Writer, rows: tuple[Account, ...], changes: list[Change]
    ) -> list[Change]:
        def write(tx: Tx) -> None:
            share_store.save_shares(tx.connection, self.zone, rows)
            share_store.add_changes(tx.connection, self.zone, changes)

        writer.do(write)
        self.rows = rows
        self.revision += 1
        return changes

    def _read_fading(self, connection: Connection) -> Fading:
        """The half-lives that were ever in force, from the history."""
        changes = share_store.load_changes(connection, self.zone, key=HALF_LIFE)
        changes.reverse()
        if not changes:
            text = self._stored[HALF_LIFE].value
            return Fading([HalfLife(since=0.0, seconds=read_half_life(text))])
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
    before: Mapping[str, StoredSetting], after: Mapping[str, StoredSetting], edit: Edit
) -> list[Change]:
    changes = []
    for key in sorted({*before, *after}):
        old = before[key].value if key in before else ""
        new = after[key].value if key in after else ""
        if old != new:
            changes.append(
                Change(
                    at=edit.at,
                    actor=edit.actor,
                    key=key,
                    old=old,
                    new=new,
                    reason=edit.reason,
                )
            )
    return changes


def _row_change(edit: Edit, before: Account | None, after: Account | None) -> Change:
    named = after or before
    assert named is not None
    return Change(
        at=edit.at,
        actor=edit.actor,
        key=f"{kind_of(named)}.{named.name}",
        old=row_text(before),
        new=row_text(after),
        reason=edit.reason,
    )


def row_text(row: Account | None) -> str:
    """A row of the tree in the history; empty: there was none."""
    if row is None:
        return ""
    shares = "parent" if row.shares == SHARES_OF_PARENT else row.shares
    return f"parent={row.parent or '-'} shares={shares}"
