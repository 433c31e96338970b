"""Changes of the account tree: rows in, checked rows out, or a refusal in a sentence.

The whole changed tree is checked before anything counts, so nothing is half-done.
Stores nothing and never looks at usage.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.turn.account_tree import Account, build_tree

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}")


def with_account(
    rows: Sequence[Account], new: Account, *, known_users: Sequence[str] = ()
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
