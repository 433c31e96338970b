"""Who may take of limits, one after the other: against a plain loop, and by law."""

import numpy as np
import pytest

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.settings import about, parse_assignments, policy_settings
from dorabatch.fairshare.turn.use_limits import (
    NO_LIMIT,
    UNLIMITED,
    WITHIN,
    Level,
    UseLimits,
    kept_by,
)


def level(group, amount, most, held):
    columns = {"group": group, "amount": amount, "most": most, "held": held}
    return Level(**{k: np.array(v, dtype=np.int64) for k, v in columns.items()})


def one_by_one(levels: list[Level], count: int) -> list[bool]:
    """Which rows are within, by a loop over them."""
    used = [one.held.tolist() for one in levels]
    found = []
    for row in range(count):
        asks = [(int(one.group[row]), int(one.amount[row])) for one in levels]
        fits = all(
            amount == 0 or taken[group] + amount <= one.most[group]
            for one, taken, (group, amount) in zip(levels, used, asks, strict=True)
        )
        for taken, (group, amount) in zip(used, asks, strict=True):
            taken[group] += amount * fits
        found.append(fits)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_one_level_is_what_a_loop_over_the_rows_comes_to(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, groups = int(draw.integers(1, 4000)), int(draw.integers(1, 50))
    one = level(
        draw.integers(0, groups, count),
        draw.choice([0, 500, 1000, 1000, 2000, 8000], count),
        draw.choice([0, 1000, 4000, 64_000, NO_LIMIT], groups),
        draw.choice([0, 500, 4000, 9000], groups),
    )
    found = kept_by([one], count).level == WITHIN
    assert found.tolist() == one_by_one([one], count)


@pytest.mark.parametrize("seed", range(20))
def test_several_levels_are_what_a_loop_over_the_rows_comes_to(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 4000))
    user = draw.integers(0, 40, count)
    amount = draw.choice([0, 1, 2, 4, 8], count)
    levels = [
        level(user, amount, draw.integers(0, 30, 40), draw.integers(0, 9, 40)),
        level(user, np.ones(count), draw.integers(0, 9, 40), np.zeros(40)),
        level(user % 7, amount, draw.integers(0, 80, 7), draw.integers(0, 9, 7)),
        level(user % 7 % 2, amount, [NO_LIMIT, 90], [0, 5]),
    ]
    kept = kept_by(levels, count)
    assert (kept.level == WITHIN).tolist() == one_by_one(levels, count)
    used = []
    for one in levels:
        taken = np.where(kept.level == WITHIN, one.amount, 0)
        used.append(one.held + np.bincount(one.group, taken, len(one.most)))
        # What is held above a lowered limit stays; nothing is added to it.
        assert (used[-1] <= np.maximum(one.most, one.held)).all()
    for row in np.flatnonzero(kept.level != WITHIN).tolist():
        one = levels[kept.level[row]]
        assert kept.used[row] + one.amount[row] > one.most[one.group[row]]
        assert kept.used[row] <= used[kept.level[row]][one.group[row]]


def test_what_does_not_fit_is_passed_over() -> None:
    one = level([0, 0, 0, 0], [3, 4, 2, 1], [6], [0])
    kept = kept_by([one], 4)
    assert kept.level.tolist() == [WITHIN, 0, WITHIN, WITHIN]
    assert kept.used.tolist()[1] == 3


def test_what_a_level_keeps_takes_nothing_of_another() -> None:
    mine = level([0, 1, 0], [4, 2, 2], [4, 9], [0, 0])
    ours = level([0, 0, 0], [4, 2, 2], [3], [0])
    assert kept_by([mine, ours], 3).level.tolist() == [1, WITHIN, 1]


def test_nothing_asks_for_nothing() -> None:
    assert len(kept_by([], 0).level) == 0
    assert kept_by([level([], [], [5], [0])], 0).level.tolist() == []
    assert kept_by([], 3).level.tolist() == [WITHIN] * 3


# -- settings ----------------------------------------------------------------


def test_limits_are_read_and_none_is_the_default() -> None:
    assert policy_settings().limits == UseLimits() == UNLIMITED
    found = policy_settings(
        {"limits.gpus_per_user": "8", "limits.gpus.A.b": "16"},
        {"limits.running_per_user": "0", "limits.gpus.other": "none"},
    ).limits
    assert found == UseLimits(
        gpus_per_user=8, running_per_user=0, gpus_of_accounts={"A.b": 16}
    )
    assert "account A.b" in about("limits.gpus.A.b")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("limits.gpus_per_user=-1", "allowed are 0 to 1000000; or none, for no limit"),
        ("limits.gpus_per_user=1.5", "write a whole number from 0 to 1000000; or none"),
        ("limits.running_per_user=many", "write a whole number from 0 to 1000000"),
        ("limits.gpus.lab=1000001", "allowed are 0 to 1000000"),
        ("limits.gpus.=1", "there is no setting 'limits.gpus.'"),
        ("limits.gpus=1", "there is no setting 'limits.gpus'"),
        ("limits.cpus.lab=1", r"known: .*, limits.gpus.ACCOUNT\)"),
    ],
)
def test_a_limit_that_is_none_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_assignments([word])
