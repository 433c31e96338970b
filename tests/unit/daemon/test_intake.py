"""Intake: submission keys belong to who gave them."""

import pytest

from dorabatch.daemon.intake import scoped_key
from dorabatch.daemon.rights import check_new_workspace
from dorabatch.errors import NotAllowed, UserError
from tests.makers import ALICE, BOB
from tests.unit.daemon.conftest import caller


def test_two_users_with_one_key_do_not_meet() -> None:
    mine, theirs = scoped_key(caller(ALICE), "k"), scoped_key(caller(BOB), "k")
    assert mine is not None
    assert mine != theirs
    assert scoped_key(caller(ALICE), None) is None


@pytest.mark.parametrize("key", ["", "a b", "x" * 49, "a\0b", "1:k"])
def test_an_odd_key_is_refused(key: str) -> None:
    with pytest.raises(UserError, match="submission_key"):
        scoped_key(caller(ALICE), key)


@pytest.mark.parametrize("name", ["alice", "alice.paper"])
def test_ones_own_workspaces_may_be_made(name: str) -> None:
    check_new_workspace(caller(ALICE), name)


@pytest.mark.parametrize("name", ["bob", "alicex", "alice-2", "bob.alice"])
def test_others_workspaces_may_not(name: str) -> None:
    with pytest.raises(NotAllowed, match="needs an admin"):
        check_new_workspace(caller(ALICE), name)
    check_new_workspace(caller(ALICE, is_admin=True), name)
