"""The account tree: who holds which promised fraction, at any depth; edits of it.

Checks the rows an administrator wrote and turns them into index arrays; an edit gives
new rows, checked the same way. Knows no usage, orders nobody and stores nothing.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dorabatch.errors import NotFound, UserError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SHARES_OF_PARENT = -1
"""In `shares`: the node competes at its parent's level, not with a weight."""

SHARES_MAX = 1_000_000_000
NO_PARENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One row: an account, or with `is_user` a user in an account.

    `name` is unique in the tree; `parent` is empty at the top.
    """

    name: str
    parent: str = ""
    shares: int = 1
    is_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTree:
    """The checked tree, parents before children.

    parent[node]    index of the parent, or -1 at the top
    shares[node]    weight among siblings, or SHARES_OF_PARENT
    is_user[node]   True for the leaves that get a factor
    depth[node]     0 at the top
    above[node]     the parent whose level it competes at: accounts that hold
                    SHARES_OF_PARENT are skipped
    level[node]     0 for what competes at the top
    """

    names: tuple[str, ...]
    parent: IntArray
    shares: IntArray
    is_user: BoolArray
    depth: IntArray
    above: IntArray
    level: IntArray
    index: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int:
        """The node of that name, or a refusal that names what exists."""
        node = self.index.get(name)
        if node is None:
            known = ", ".join(sorted(self.names)[:8]) or "none"
            raise NotFound(
                f"account {name!r} is not in the tree (known: {known}); "
                "add it or correct the name"
            )
        return node

    def ancestors(self, name: str) -> tuple[str, ...]:
        """The accounts above, nearest first."""
        above: list[str] = []
        node = int(self.parent[self.find(name)])
        while node != NO_PARENT:
            above.append(self.names[node])
            node = int(self.parent[node])
        return tuple(above)

    def totals(self, own: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """total[node]: what a node and everything below it adds up to."""
        total = own.astype(np.float64, copy=True)
        for level in range(int(self.depth.max(initial=0)), 0, -1):
            rows = np.flatnonzero(self.depth == level)
            np.add.at(total, self.parent[rows], total[rows])
        return total


def build_tree(rows: Sequence[Account]) -> AccountTree:
    """Check the rows and put parents first; each fault is refused in a sentence."""
    by_name = _by_name(rows)
    depths = {name: _depth(name, by_name) for name in by_name}
    _check_weights(rows)
    ordered = sorted(by_name.values(), key=lambda row: depths[row.name])
    index = {row.name: node for node, row in enumerate(ordered)}
    above, level = _levels(ordered, index)
    return AccountTree(
        names=tuple(index),
        parent=np.array(
            [index[row.parent] if row.parent else NO_PARENT for row in ordered],
            dtype=np.int64,
        ),
        shares=np.array([row.shares for row in ordered], dtype=np.int64),
        is_user=np.array([row.is_user for row in ordered], dtype=np.bool_),
        depth=np.array([depths[row.name] for row in ordered], dtype=np.int64),
        above=np.array(above, dtype=np.int64),
        level=np.array(level, dtype=np.int64),
        index=index,
    )


def share_fractions(tree: AccountTree) -> dict[str, Fraction]:
    """The promised fraction of the whole, by account; exact.

    A node with its parent's shares is promised what its parent is promised.
    """
    sums: dict[int, int] = {}
    for node in range(len(tree)):
        parent = int(tree.above[node])
        sums[parent] = sums.get(parent, 0) + max(0, int(tree.shares[node]))
    promised: dict[str, Fraction] = {}
    for node, name in enumerate(tree.names):
        parent = int(tree.above[node])
        above = promised[tree.names[parent]] if parent != NO_PARENT else Fraction(1)
        shares = int(tree.shares[node])
        if shares == SHARES_OF_PARENT:
            promised[name] = above
        else:
            promised[name] = (
                above * shares / sums[parent] if sums[parent] else above * 0
            )
    return promised


def _by_name(rows: Sequence[Account]) -> dict[str, Account]:
    by_name: dict[str, Account] = {}
    for row in rows:
        if not row.name:
            raise UserError("an account has no name; give it one")
        if row.name in by_name:
            raise UserError(
                f"account {row.name!r} is there twice; keep one row of that name"
            )
        if row.shares != SHARES_OF_PARENT and not 0 <= row.shares <= SHARES_MAX:
            raise UserError(
                f"account {row.name!r}: shares {row.shares} is not allowed; "
                f"write a whole number from 0 to {SHARES_MAX}"
            )
        by_name[row.name] = row
    for row in rows:
        _check_parent(row, by_name)
    return by_name


def _check_parent(row: Account, by_name: dict[str, Account]) -> None:
    if not row.parent:
        return
    parent = by_name.get(row.parent)
    if parent is None:
        raise UserError(
            f"account {row.name!r}: its parent {row.parent!r} does not exist; "
            "create the parent first or correct the name"
        )
    if parent.is_user:
        raise UserError(
            f"account {row.name!r}: its parent {row.parent!r} is a user; "
            "only accounts may hold others"
        )


def _levels(
    ordered: Sequence[Account], index: dict[str, int]
) -> tuple[list[int], list[int]]:
    above: list[int] = []
    level: list[int] = []
    for row in ordered:
        node = index[row.parent] if row.parent else NO_PARENT
        while node != NO_PARENT and ordered[node].shares == SHARES_OF_PARENT:
            node = above[node]
        above.append(node)
        level.append(0 if node == NO_PARENT else level[node] + 1)
    return above, level


def _depth(name: str, by_name: dict[str, Account]) -> int:
    path = [name]
    while parent := by_name[path[-1]].parent:
        if parent in path:
            loop = " -> ".join([*path, parent])
            raise UserError(
                f"account {name!r}: its parents form a loop ({loop}); "
                "give one of them another parent"
            )
        path.append(parent)
    return len(path) - 1


def _check_weights(rows: Sequence[Account]) -> None:
    children: dict[str, list[Account]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row)
    for parent, group in children.items():
        # A single zero is a choice (it gets what is left over); all zero is a slip.
        if len(group) > 1 and all(row.shares == 0 for row in group):
            where = f"account {parent!r}" if parent else "the top of the tree"
            names = ", ".join(row.name for row in group[:8])
            raise UserError(
                f"the shares below {where} add up to nothing ({names} have 0); "
                "give at least one of them shares above 0"
            )


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}")


def with_account(
    rows: Sequence[Account], new: Account, *, known_users: Collection[str] = ()
) -> tuple[Account, ...]:
    """The rows with one more account or user.

    `known_users` sit at the top without a row; an account may not take their name.
    """
    kind = kind_of(new)
    if not _NAME.fullmatch(new.name):
        raise UserError(
            f"{kind} {new.name!r}: a name is 1 to 100 letters, digits, dots, dashes, "
            "underscores or @, and begins with a letter, a digit or _"
        )
    for row in rows:
        if row.name == new.name:
            raise UserError(
                f"{kind} {new.name!r}: there is {kind_of(row)} {row.name!r} already; "
                "change that one, or take another name"
            )
    if not new.is_user and new.name in known_users:
        raise UserError(
            f"account {new.name!r}: a user of that name has workloads or use here; "
            "take another name"
        )
    return _checked([*rows, new])


def with_change(
    rows: Sequence[Account],
    name: str,
    *,
    is_user: bool,
    parent: str | None = None,
    shares: int | None = None,
) -> tuple[Account, ...]:
    """The rows with another parent or other shares for one; None keeps what is."""
    before = find_row(rows, name, is_user=is_user)
    after = replace(
        before,
        parent=before.parent if parent is None else parent,
        shares=before.shares if shares is None else shares,
    )
    return _checked([after if row.name == name else row for row in rows])


def without(
    rows: Sequence[Account], name: str, *, is_user: bool
) -> tuple[Account, ...]:
    """The rows without one; an account must hold nobody."""
    find_row(rows, name, is_user=is_user)
    held = [row.name for row in rows if row.parent == name]
    if held:
        raise UserError(
            f"account {name!r} holds {', '.join(held[:8])}; move or remove them first"
        )
    return _checked([row for row in rows if row.name != name])


def find_row(rows: Sequence[Account], name: str, *, is_user: bool) -> Account:
    """The row of that name; raises NotFound with what exists."""
    for row in rows:
        if row.name == name and row.is_user == is_user:
            return row
    wanted = "user" if is_user else "account"
    known = ", ".join(r.name for r in rows if r.is_user == is_user) or "none"
    raise NotFound(
        f"there is no {wanted} {name!r} in the share tree (known: {known}); "
        "see dshare tree"
    )


def kind_of(row: Account) -> str:
    """`user` or `account`."""
    return "user" if row.is_user else "account"


def _checked(rows: Sequence[Account]) -> tuple[Account, ...]:
    build_tree(rows)
    return tuple(rows)


def seated(rows: Sequence[Account], users: Iterable[str]) -> tuple[Account, ...]:
    """The rows with every user: who has no row sits at the top with 1 share."""
    known = {row.name for row in rows if row.is_user}
    guests = sorted(set(users) - known)
    accounts = {row.name for row in rows if not row.is_user}
    return (
        *rows,
        *(Account(name=seat_name(one, accounts), is_user=True) for one in guests),
    )


def seat_name(user: str, accounts: Collection[str]) -> str:
    """A user's name in the tree; one that an account has already is marked."""
    return f"{user} (user)" if user in accounts else user
