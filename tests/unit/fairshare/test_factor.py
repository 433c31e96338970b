"""Factors against the exact tables; never against our own earlier output."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.turn.account_tree import (
    SHARES_OF_PARENT,
    Account,
    build_tree,
    share_fractions,
)
from dorabatch.fairshare.turn.ranking import (
    Factors,
    Weights,
    age_factor,
    credit_factor,
    fair_tree,
    level_fair_share,
    priorities,
    slow_down_factor,
)

CASES = Path(__file__).parents[2] / "cases"
GOLDEN = json.loads((CASES / "fairshare_golden.json").read_text())
CREDITS = json.loads((CASES / "credits_golden.json").read_text())


def parent_of(name):
    """The published tree spells a node's place in its name."""
    if name[0] == "u" and len(name) == 2:
        return ""
    if name[0] == "u":
        return f"a{name[1:-1]}"
    if len(name) == 2:
        return ""
    return name[:-1]


def golden_tree():
    rows, usage = [], {}
    table = GOLDEN["fair_tree_slurm_test24_4"]
    for name, row in table.items():
        shares = SHARES_OF_PARENT if row["shares"] == "parent" else row["shares"]
        is_user = "F" in row
        rows.append(
            Account(name=name, parent=parent_of(name), shares=shares, is_user=is_user)
        )
        usage[name] = int(row["usage"]) if is_user else 0
    tree = build_tree(rows)
    return tree, np.array([usage[name] for name in tree.names]), table


def factors_of(tree, usage):
    result = fair_tree(tree, usage)
    users = int(tree.is_user.sum())
    return {
        tree.names[node]: Fraction(int(rank), users)
        for node, rank in zip(result.user, result.rank, strict=True)
    }


def test_published_tree_of_21_users():
    tree, usage, table = golden_tree()
    found = factors_of(tree, usage)
    expected = {n: Fraction(r["F"]) for n, r in table.items() if "F" in r}
    assert found == expected
    assert len(found) == 21


def test_level_values_of_the_published_tree():
    tree, usage, table = golden_tree()
    found = level_fair_share(tree, usage)
    for name, row in table.items():
        if row["level_fs"] is None:
            continue
        wanted = None if row["level_fs"] == "inf" else Fraction(row["level_fs"])
        assert found[name] == wanted, name


def flux_tree():
    rows, usage = [], {}
    table = {
        "account1": (1000, {"1": (10000, 100), "2": (1000, 11), "3": (100000, 10)}),
        "account2": (100, {"1": (100000, 8), "2": (10000, 3)}),
        "account3": (10, {"1": (100, 0), "2": (10, 1)}),
    }
    for account, (shares, leaves) in table.items():
        rows.append(Account(name=account, shares=shares))
        for leaf, (leaf_shares, used) in leaves.items():
            name = f"leaf.{account[-1]}.{leaf}"
            rows.append(
                Account(name=name, parent=account, shares=leaf_shares, is_user=True)
            )
            usage[name] = used
    tree = build_tree(rows)
    return tree, np.array([usage.get(name, 0) for name in tree.names])


def test_second_published_tree():
    levels = level_fair_share(*flux_tree())
    for name, value in GOLDEN["fair_tree_flux_level"].items():
        assert levels[name] == (None if value == "inf" else Fraction(value))
    expected = {n: Fraction(v) for n, v in GOLDEN["fair_tree_flux"].items()}
    assert factors_of(*flux_tree()) == expected


def tie_tree():
    rows = [Account(name="A", shares=50), Account(name="B", shares=50)]
    used = {"a1": 10, "a2": 30, "b1": 20, "b2": 20}
    rows += [Account(name=n, parent=n[0].upper(), is_user=True) for n in used]
    tree = build_tree(rows)
    return tree, np.array([used.get(name, 0) for name in tree.names])


def test_children_of_tied_accounts_are_merged():
    table = GOLDEN["fair_tree_tie"]
    expected = {n: Fraction(v) for n, v in table["documented_merge"].items()}
    found = factors_of(*tie_tree())
    assert found == expected
    assert found != {n: Fraction(v) for n, v in table["without_merge"].items()}


def test_ratios_that_floats_cannot_tell_apart_are_ordered_exactly():
    big = 3 * 10**15
    rows = [Account(name=n, shares=3, is_user=True) for n in "abc"]
    tree = build_tree(rows)
    found = factors_of(tree, np.array([big + 1, big, big + 1]))
    assert found == {"b": Fraction(1), "a": Fraction(2, 3), "c": Fraction(2, 3)}


def test_no_users_no_ranks():
    tree = build_tree([Account(name="empty")])
    assert len(fair_tree(tree, np.zeros(1, dtype=np.int64)).user) == 0


def test_usage_of_another_shape_or_below_zero_is_refused():
    tree = build_tree([Account(name="a", is_user=True)])
    with pytest.raises(UserError, match="1 numbers of 0 or more"):
        fair_tree(tree, np.array([-1]))
    with pytest.raises(UserError, match="one a node"):
        fair_tree(tree, np.array([1, 2]))


def test_credit_factor_table():
    for row in CREDITS["C11_credit_factor"]:
        left, time_left = Fraction(row["left"]), Fraction(row["time_left"])
        found = credit_factor(
            np.array([float(left * 500)]),
            np.array([500.0]),
            np.array([float(time_left)]),
        )
        assert found[0] == pytest.approx(float(Fraction(row["K_F"][1])), abs=1e-12)


def test_credit_factor_edges():
    found = credit_factor(
        np.array([5.0, -5.0, 5.0, 0.0]),
        np.array([0.0, 10.0, 10.0, 0.0]),
        np.array([0.5, 0.5, 0.0, 0.0]),
    )
    assert found.tolist() == [0.0, 0.0, 0.8, 0.0]


def test_priority_table():
    weights = Weights(
        fair_share=500_000, credit=200_000, age=100_000, slow_down=200_000
    )
    for row in CREDITS["C13_priority"]:
        wait = np.array([float(row["wait_h"]) * 3600])
        run = np.array([float(Fraction(row["pred_h"])) * 3600])
        factors = Factors(
            fair_share=np.array([float(Fraction(row["F_fs"]))]),
            credit=np.array([float(Fraction(row["F_cr"]))]),
            age=age_factor(wait),
            slow_down=slow_down_factor(wait, run),
        )
        assert priorities(factors, weights)[0] == row["P_int"]
        assert priorities(factors, weights, qos=2, nice=5)[0] == row["P_int"] + 1999995


def test_weights_must_sum_to_one():
    with pytest.raises(UserError, match=r"add up to 0\.9"):
        Weights(fair_share=900_000, credit=0, age=0)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([Account(name="a", parent="b"), Account(name="b", parent="a")], "form a loop"),
        ([Account(name="a", parent="a")], "form a loop"),
        ([Account(name="a", parent="ghost")], "'ghost' does not exist"),
        (
            [Account(name="a", shares=0), Account(name="b", shares=0)],
            "add up to nothing",
        ),
        ([Account(name="a", shares=-7)], "shares -7 is not allowed"),
        ([Account(name="a"), Account(name="a")], "there twice"),
        ([Account(name="")], "has no name"),
        ([Account(name="u", is_user=True), Account(name="v", parent="u")], "is a user"),
    ],
)
def test_faults_of_a_tree_are_refused_in_a_sentence(rows, sentence):
    with pytest.raises(UserError, match=sentence):
        build_tree(rows)


def test_fractions_ancestors_and_names():
    tree, _ = flux_tree()
    fractions = share_fractions(tree)
    assert fractions["account1"] == Fraction(1000, 1110)
    assert fractions["leaf.3.2"] == Fraction(10, 1110) * Fraction(10, 110)
    assert tree.ancestors("leaf.3.2") == ("account3",)
    with pytest.raises(NotFound, match="'ghost' is not in the tree"):
        tree.find("ghost")
