"""Prices, amounts and weeks against the exact tables."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dorabatch.errors import InvariantError, UserError
from dorabatch.fairshare.money.price import Price, PriceBook
from dorabatch.fairshare.money.week import pro_rated, rollover
from dorabatch.fairshare.money.week_start import ResetRule, period_at
from dorabatch.units import (
    MicroCredits,
    amount_for,
    parse_credits,
    render_credits,
)

CASES = Path(__file__).parents[2] / "cases"
GOLDEN = json.loads((CASES / "credits_golden.json").read_text())
T0 = datetime(2026, 3, 2, tzinfo=UTC)
V100, RTX, A100 = "Tesla V100-SXM2-16GB", "Quadro RTX 6000", "A100-SXM4-80GB"
PRICES = {V100: "2.5", RTX: "1.1", A100: "4"}
ROME = ZoneInfo("Europe/Rome")


def book(*extra):
    rows = [
        Price(zone="", model=model, per_hour=parse_credits(text), valid_from=T0)
        for model, text in PRICES.items()
    ]
    return PriceBook([*rows, *extra])


def seconds(count):
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2.5", 2_500_000),
        (2.5, 2_500_000),
        (2, 2_000_000),
        (Decimal("0.000001"), 1),
        (" 1.1 ", 1_100_000),
        ("0", 0),
        ("1e3", 1_000_000_000),
    ],
)
def test_credits_are_exact(written, expected):
    assert parse_credits(written) == expected
    assert parse_credits(render_credits(expected)) == expected


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("-1", "below zero"),
        (-0.5, "below zero"),
        ("dear", "not a number"),
        ("", "not a number"),
        (None, "not a number"),
        (True, "not a number"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("0.0000001", "6 decimals"),
        ("1e30", "too large"),
        ([2], "not a number"),
    ],
)
def test_bad_credits_are_refused_in_a_sentence(written, sentence):
    with pytest.raises(UserError, match=f"credits .*{sentence}"):
        parse_credits(written)


def test_amounts_are_rendered_for_people():
    assert [render_credits(n) for n in (0, 1, -2_500_000, 500_000_000)] == [
        "0",
        "0.000001",
        "-2.5",
        "500",
    ]
    assert parse_credits("500") == 500_000_000


def test_amounts_below_zero_are_bugs():
    for bad in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        with pytest.raises(InvariantError):
            amount_for(bad[0], gpu_milli=bad[1], elapsed_microseconds=bad[2])


def test_same_model_two_zones_two_prices():
    both = book(Price(zone="dear", model=V100, per_hour=MicroCredits(9), valid_from=T0))
    assert both.price_at("dear", V100, T0) == 9
    assert both.price_at("other", V100, T0) == 2_500_000
    assert both.price_at("dear", V100, T0 - seconds(1)) == 0
    assert both.price_at("dear", "unknown", T0) == 0
    assert both.is_priced("other", V100)
    assert not both.is_priced("other", "unknown")


def test_price_rows_are_checked():
    row = Price(zone="", model=V100, per_hour=MicroCredits(1), valid_from=T0)
    with pytest.raises(UserError, match="set twice"):
        PriceBook([row, row])
    with pytest.raises(UserError, match="0 or more"):
        PriceBook(
            [Price(zone="", model=V100, per_hour=MicroCredits(-1), valid_from=T0)]
        )
    with pytest.raises(UserError, match="no time zone"):
        PriceBook(
            [
                Price(
                    zone="",
                    model=V100,
                    per_hour=MicroCredits(1),
                    valid_from=T0.replace(tzinfo=None),
                )
            ]
        )


def test_rollover_and_pro_rated_tables():
    for row in GOLDEN["C7_rollover"]:
        found = rollover(row["left"], period_amount=500_000_000, rollover_ppm=500_000)
        assert (found.rolled, found.expired) == (row["rolled"], row["expired"])
        assert 500_000_000 + found.rolled == row["opening"]
    with pytest.raises(UserError, match="rollover_ppm -1"):
        rollover(1, period_amount=1, rollover_ppm=-1)
    row = GOLDEN["C8_pro_rated_deposit"]
    week = timedelta(days=7)
    assert row["deposit"] == pro_rated(
        row["weekly"], left=seconds(row["seconds_left"]), period=week
    )
    assert pro_rated(7, left=2 * week, period=week) == 7
    with pytest.raises(UserError, match="above 0"):
        pro_rated(7, left=week, period=timedelta())


def test_a_week_begins_once_across_clock_changes():
    rule = ResetRule(zone=ROME, weekday=6, hour=2, minute=30)
    resets = []
    now = datetime(2026, 3, 1, tzinfo=UTC)
    while now < datetime(2026, 11, 30, tzinfo=UTC):
        period = period_at(now, rule)
        assert period.start <= now < period.end
        if period not in resets:
            resets.append(period)
        now += timedelta(minutes=30)
    assert len(resets) == 41
    for earlier, later in pairwise(resets):
        assert earlier.end == later.start
    lengths = {period.length for period in resets}
    assert timedelta(days=7) in lengths
    # 29 March 2026: 2:30 does not exist; 25 October: it comes twice, the first counts.
    starts = [period.start for period in resets]
    assert datetime(2026, 3, 29, 1, 30, tzinfo=UTC) in starts
    assert datetime(2026, 10, 25, 0, 30, tzinfo=UTC) in starts


def test_reset_rules_are_checked():
    with pytest.raises(UserError, match="weekday 7"):
        ResetRule(zone=UTC, weekday=7)
    with pytest.raises(UserError, match="24:0"):
        ResetRule(zone=UTC, hour=24)
