"""Prices, charges, quotes, refunds and weeks against the exact tables."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dorabatch.errors import InvariantError, UserError
from dorabatch.fairshare.charge import (
    charges_for,
    last_paid_second,
    pro_rated,
    quote,
    refund_for_lost,
    rollover,
)
from dorabatch.fairshare.period import ResetRule, due_reset, period_at
from dorabatch.fairshare.price import Price, PriceBook, PriceSegment
from dorabatch.units import (
    MicroCredits,
    amount_for,
    parse_credits,
    parse_price,
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
        Price(zone="", model=model, per_hour=parse_price(text), valid_from=T0)
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
def test_prices_are_exact(written, expected):
    assert parse_price(written) == expected
    assert parse_price(render_credits(expected)) == expected


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
def test_bad_prices_are_refused_in_a_sentence(written, sentence):
    with pytest.raises(UserError, match=f"price .*{sentence}"):
        parse_price(written)


def test_amounts_are_rendered_for_people():
    assert [render_credits(n) for n in (0, 1, -2_500_000, 500_000_000)] == [
        "0",
        "0.000001",
        "-2.5",
        "500",
    ]
    assert parse_credits("500") == 500_000_000


def test_pro_rata_table():
    for row in GOLDEN["C1_pro_rata"]:
        if row["model"] == A100:
            continue
        found = amount_for(
            parse_price(PRICES[row["model"]]),
            gpu_milli=row["gpus"] * 1000,
            elapsed_microseconds=row["seconds"] * 1_000_000,
        )
        assert found == row["charge_ucr"]
    assert (
        amount_for(4_000_000, gpu_milli=8000, elapsed_microseconds=86400 * 10**6)
        == (GOLDEN["C1_pro_rata"][2]["charge_ucr"])
    )


def test_amounts_below_zero_are_bugs():
    for bad in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        with pytest.raises(InvariantError):
            amount_for(bad[0], gpu_milli=bad[1], elapsed_microseconds=bad[2])


def test_tick_length_changes_nothing():
    row = GOLDEN["C2_tick_invariance"]
    span = book().segments(
        "", RTX, start=T0, end=T0 + seconds(row["seconds"]), locked=True
    )
    for tick, total in row["total"].items():
        posted = 0
        moments = [*range(int(tick), row["seconds"], int(tick)), row["seconds"]]
        for moment in moments:
            (charge,) = charges_for(
                span, gpu_milli=row["gpus"] * 1000, until=T0 + seconds(moment)
            )
            posted += charge.total - posted
        assert posted == total


def test_last_paid_second_table():
    for row in GOLDEN["C5_exhaustion_instant"]:
        found = last_paid_second(
            row["balance"],
            per_hour=row["price"],
            gpu_milli=row["gpus"] * 1000,
            start=T0,
        )
        assert found == T0 + seconds(row["last_paid_second"])
    assert last_paid_second(5, per_hour=0, gpu_milli=1000, start=T0) is None
    assert last_paid_second(10**18, per_hour=1, gpu_milli=1, start=T0) is None
    assert last_paid_second(-5, per_hour=1, gpu_milli=1, start=T0) == T0


def test_price_change_locked_and_repriced():
    row = GOLDEN["C9_price_change"]
    changed = book(
        Price(
            zone="",
            model=V100,
            per_hour=MicroCredits(3_000_000),
            valid_from=T0 + seconds(1800),
        ),
        Price(
            zone="",
            model=V100,
            per_hour=MicroCredits(3_000_000),
            valid_from=T0 + seconds(2700),
        ),
    )
    end = T0 + seconds(3600)
    for locked, name in ((True, "locked"), (False, "repriced")):
        parts = changed.segments("z", V100, start=T0, end=end, locked=locked)
        charges = charges_for(parts, gpu_milli=row["gpus"] * 1000, until=end)
        assert sum(charge.total for charge in charges) == row[name]
        assert len(parts) == (1 if locked else 2)


def test_model_list_is_quoted_at_the_dearest_and_charged_as_placed():
    row = GOLDEN["C10_model_list"]
    limit = seconds(row["limit_s"])
    found = quote(
        book(), zone="z", models=row["accept"], gpu_milli=2000, limit=limit, at=T0
    )
    assert found.amount == row["lien"]
    parts = book().segments("z", row["placed"], start=T0, end=T0 + limit, locked=True)
    (charge,) = charges_for(parts, gpu_milli=2000, until=T0 + limit)
    assert charge.total == row["charge_2h"]
    assert found.amount - charge.total == row["released"]


def test_open_ended_work_is_quoted_one_hour():
    found = quote(book(), zone="z", models=[V100], gpu_milli=1000, limit=None, at=T0)
    assert (found.amount, found.horizon) == (2_500_000, timedelta(hours=1))


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


def test_a_segment_that_ends_before_it_starts_is_a_bug():
    bad = PriceSegment(start=T0, end=T0 - seconds(1), per_hour=MicroCredits(1))
    with pytest.raises(InvariantError, match="ends before"):
        charges_for([bad], gpu_milli=1, until=T0)


def test_refund_table():
    row = GOLDEN["C6_refund"]
    charged = row["charge_10h_8xV100"]
    lost = refund_for_lost(
        per_hour=2_500_000, gpu_milli=8000, lost=timedelta(hours=2), charged=charged
    )
    assert lost == row["refund_lost_2h"]
    assert charged - lost == row["net"]
    most = refund_for_lost(
        per_hour=2_500_000, gpu_milli=8000, lost=timedelta(hours=99), charged=charged
    )
    assert most == row["max_refund"]


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


def test_a_week_begins_once_across_clock_changes_and_downtime():
    rule = ResetRule(zone=ROME, weekday=6, hour=2, minute=30)
    resets, last = [], None
    now = datetime(2026, 3, 1, tzinfo=UTC)
    while now < datetime(2026, 11, 30, tzinfo=UTC):
        period = due_reset(now, rule, last_reset=last)
        if period is not None:
            resets.append(period)
            last = period.start
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
    long_after = last + timedelta(days=40)
    assert due_reset(long_after, rule, last_reset=last) == period_at(long_after, rule)
    assert due_reset(last - timedelta(days=9), rule, last_reset=last) is None


def test_reset_rules_are_checked():
    with pytest.raises(UserError, match="weekday 7"):
        ResetRule(zone=UTC, weekday=7)
    with pytest.raises(UserError, match="24:0"):
        ResetRule(zone=UTC, hour=24)
