"""The fair tree against plain exact loops, on random trees."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.fairshare.turn.account_tree import Account, build_tree
from dorabatch.fairshare.turn.ranking import fair_tree, level_fair_share


@st.composite
def trees(draw):
    groups = draw(st.integers(1, 4))
    rows = [
        Account(name=f"g{g}", shares=draw(st.integers(1, 4))) for g in range(groups)
    ]
    for user in range(draw(st.integers(1, 12))):
        parent = draw(st.integers(-1, groups - 1))
        rows.append(
            Account(
                name=f"u{user}",
                parent=f"g{parent}" if parent >= 0 else "",
                shares=draw(st.integers(1, 4)),
                is_user=True,
            )
        )
    tree = build_tree(rows)
    used = [draw(st.integers(0, 6)) if user else 0 for user in tree.is_user.tolist()]
    return tree, np.array(used, dtype=np.int64)


def ranks_by_loops(tree, usage):
    """Sort every user by the exact path of its levels; a prefix shares its rank."""
    level = level_fair_share(tree, usage)

    def need(name):
        return Fraction(0) if level[name] is None else 1 / level[name]

    paths = {
        name: tuple(need(n) for n in [*reversed(tree.ancestors(name)), name])
        for name, user in zip(tree.names, tree.is_user, strict=True)
        if user
    }
    ordered = sorted(paths, key=lambda name: paths[name])
    ranks, rank = {}, len(ordered)
    for place, name in enumerate(ordered):
        before = paths[ordered[place - 1]] if place else None
        if before is None or paths[name][: len(before)] != before:
            rank = len(ordered) - place
        ranks[name] = rank
    return ranks


@settings(max_examples=150, deadline=None)
@given(trees())
def test_ranks_equal_those_of_exact_loops(given_tree):
    tree, usage = given_tree
    usage.setflags(write=False)
    result = fair_tree(tree, usage)
    found = {
        tree.names[node]: rank
        for node, rank in zip(result.user, result.rank.tolist(), strict=True)
    }
    assert found == ranks_by_loops(tree, usage)
