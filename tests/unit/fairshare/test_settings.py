"""Policy settings: what is read, and that everything else is refused in a sentence."""

import math

import pytest

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.ranking import MILLION, Weights
from dorabatch.fairshare.turn.settings import (
    SETTINGS,
    about,
    flat_texts,
    parse_assignments,
    policy_settings,
)

DAY = 86_400.0


def test_the_defaults_are_those_of_the_formula() -> None:
    found = policy_settings()
    assert found.weights == Weights()
    assert (found.half_life_seconds, found.catch_up_seconds) == (7 * DAY, DAY / 2)
    assert found.lane.part_ppm == 30_000


def test_a_later_layer_wins_and_a_never_fading_use_is_allowed() -> None:
    found = policy_settings(
        {"half_life": "1d"}, {"half_life": "never", "qos.high": "2"}
    )
    assert math.isinf(found.half_life_seconds)
    assert found.qos == {"high": 2}


def test_one_weight_alone_keeps_the_sum_at_one() -> None:
    found = policy_settings({"weights.credit": "0.3"}).weights
    assert found == Weights(fair_share=636_364, credit=272_727, age=90_909)
    parts = (found.fair_share, found.credit, found.age, found.slow_down)
    assert sum(parts) == MILLION


def test_words_become_assignments() -> None:
    words = ["weights.credit=.3", "half_life=1d", "queues.paper=-1"]
    assert parse_assignments(words) == {
        "weights.credit": ".3",
        "half_life": "1d",
        "queues.paper": "-1",
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("half_life", "is not KEY=VALUE"),
        ("=1d", "is not KEY=VALUE"),
        ("halflife=1d", "there is no setting 'halflife' .known: half_life"),
        ("qos.=1", "there is no setting 'qos.'"),
        ("qos.A B=1", "there is no setting"),
        ("half_life=0d", "half_life = '0d': it must be above 0"),
        ("half_life=-1d", "write a time such as"),
        ("half_life=soon", "or never"),
        ("half_life=99999w", "at most 10 years"),
        ("weights.age=-1", "a number from 0 to 999999"),
        ("weights.age=", "write a number such as"),
        ("weights.age=nan", "a number from 0 to 999999"),
        ("weights.age=1e3", "a number from 0 to 999999"),
        ("lane.fraction=0.6", "allowed are 0 to 0.5"),
        ("nice_max=1.5", "a whole number"),
        ("qos.high=1001", "allowed are -1000 to 1000"),
        ("lane.stops_max=-1", "allowed are 0 to 100"),
    ],
)
def test_what_is_not_allowed_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_assignments([word])


def test_a_key_given_twice_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="half_life is given twice"):
        parse_assignments(["half_life=1d", "half_life=2d"])
    with pytest.raises(UserError, match="nothing to set"):
        parse_assignments([])


def test_weights_that_sum_to_nothing_are_refused() -> None:
    nothing = {key: "0" for key in SETTINGS if key.startswith("weights.")}
    with pytest.raises(UserError, match="add up to nothing"):
        policy_settings(nothing)


def test_a_nested_file_is_read_by_dotted_keys() -> None:
    tree = {"half_life": "1d", "weights": {"age": 0.5}, "qos": {"high": 2}}
    found = flat_texts(tree)
    assert found == {"half_life": "1d", "weights.age": "0.5", "qos.high": "2"}
    with pytest.raises(UserError, match=r"no setting 'weights.old'"):
        flat_texts({"weights": {"old": 1}})


def test_every_key_says_what_it_is_for() -> None:
    assert all(about(key) for key in SETTINGS)
    assert "high" in about("qos.high")
