"""What the command bench makes of times, and which it calls too slow."""

from bench.commands import (
    BASE,
    FULL,
    FULL_JSON,
    MILLISECONDS_MAX,
    RATIOS_MAX,
    over_budget,
    summed_up,
)


def all_at(ratio: float, milliseconds: float) -> dict[str, dict[str, float]]:
    return {
        name: {"ratio": ratio, "median_ms": milliseconds}
        for name in (*RATIOS_MAX, *MILLISECONDS_MAX)
    }


def test_the_first_time_is_left_out_of_the_median() -> None:
    found = summed_up({BASE: [99.0, 10.0, 10.0], "dstat": [500.0, 15.0, 25.0]})
    assert found["dstat"] == {"median_ms": 20.0, "ratio": 2.0, "first_ms": 500.0}


def test_times_within_the_budget_pass() -> None:
    assert over_budget(all_at(2.0, 60.0)) == []


def test_a_slow_command_is_named() -> None:
    assert set(over_budget(all_at(3.01, 1.0))) == set(RATIOS_MAX)


def test_a_slow_long_list_is_named_only_for_the_full_queue() -> None:
    slow = all_at(1.0, 301.0)
    assert over_budget(slow) == [FULL, FULL_JSON]
    assert over_budget(slow, is_full=False) == []
