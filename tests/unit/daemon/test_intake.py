"""Intake: submission keys belong to who gave them."""

import pytest

from dorabatch.daemon.intake.admit import scoped_key
from dorabatch.errors import UserError
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
