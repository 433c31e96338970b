"""Changes of the account tree: what is refused, and where users without a row sit."""

import pytest

from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.turn.account_tree import (
    Account,
    build_tree,
    seated,
    with_account,
    with_change,
    without,
)

TREE = (
    Account(name="physics", shares=3),
    Account(name="theory", parent="physics", shares=2),
    Account(name="ana", parent="theory", is_user=True),
)


def test_accounts_and_users_are_added_changed_and_removed() -> None:
    rows = with_account(TREE, Account(name="bob", parent="physics", is_user=True))
    rows = with_change(rows, "bob", is_user=True, parent="theory", shares=4)
    assert rows[-1] == Account(name="bob", parent="theory", shares=4, is_user=True)
    assert without(rows, "bob", is_user=True) == TREE


def test_an_account_may_go_to_the_top() -> None:
    rows = with_change(TREE, "theory", is_user=False, parent="")
    assert build_tree(rows).ancestors("ana") == ("theory",)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (Account(name="physics"), "there is account 'physics' already"),
        (Account(name="ana"), "there is user 'ana' already"),
        (Account(name="a b"), "a name is 1 to 100 letters"),
        (Account(name=""), "a name is 1 to 100 letters"),
        (Account(name="x", parent="nowhere"), "its parent 'nowhere' does not exist"),
        (Account(name="x", parent="ana"), "its parent 'ana' is a user"),
        (Account(name="x", shares=-2), "shares -2 is not allowed"),
        (Account(name="carl"), "a user of that name has workloads"),
    ],
)
def test_what_may_not_be_added(new: Account, said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_account(TREE, new, known_users=["carl"])


def test_a_loop_is_refused() -> None:
    with pytest.raises(UserError, match=r"form a loop \(.*physics.*theory"):
        with_change(TREE, "physics", is_user=False, parent="theory")


def test_shares_that_add_up_to_nothing_are_refused() -> None:
    rows = with_account(TREE, Account(name="bob", parent="theory", is_user=True))
    rows = with_change(rows, "bob", is_user=True, shares=0)
    with pytest.raises(UserError, match="below account 'theory' add up to nothing"):
        with_change(rows, "ana", is_user=True, shares=0)


def test_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"no account 'ana'.*known: physics, theory"):
        with_change(TREE, "ana", is_user=False, shares=2)
    with pytest.raises(NotFound, match="no user 'bob'"):
        without(TREE, "bob", is_user=True)


def test_an_account_that_holds_somebody_stays() -> None:
    with pytest.raises(UserError, match="account 'theory' holds ana"):
        without(TREE, "theory", is_user=False)


def test_users_without_a_row_sit_at_the_top_with_one_share() -> None:
    tree = build_tree(seated(TREE, ["ana", "zoe", "physics"]))
    assert tree.index["zoe"] and tree.shares[tree.index["zoe"]] == 1
    assert tree.level[tree.index["zoe"]] == 0
    # A user whom an account shares its name with is somebody else.
    assert tree.is_user[tree.index["physics (user)"]]
    assert tree.names.count("ana") == 1
