"""Meters: any tick gives the same bill, the last paid moment, and the golden table."""

import json
import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.fairshare.money.meter import (
    Draw,
    Item,
    Meter,
    present_draws,
    read_meter,
    run_charges,
    runs_out_at,
    terms_json,
)
from dorabatch.fairshare.money.price import Price, PriceBook
from dorabatch.units import MicroCredits, microseconds_of

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "cases" / "credits_golden.json").read_text()
)
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
START_US = microseconds_of(START)
SECOND = 1_000_000
HOUR = 3600 * SECOND * 1000
"""One GPU for an hour, in thousandths x microseconds."""


PRICES = {
    "Tesla V100-SXM2-16GB": 2_500_000,
    "Quadro RTX 6000": 1_100_000,
    "A100-SXM4-80GB": 4_000_000,
}


def prices(per_hour: int, *later: tuple[int, int]) -> PriceBook:
    """A price, and others from so many seconds after the start on."""
    rows = [(START - timedelta(days=1), per_hour)]
    rows += [(START + timedelta(seconds=after), price) for after, price in later]
    return PriceBook(
        Price(zone="z", model="V", per_hour=MicroCredits(price), valid_from=moment)
        for moment, price in rows
    )


def meter(gpus: int, limit: int | None = None) -> Meter:
    """What so many GPUs are billed for."""
    return Meter(
        run="1.1/1",
        number=0,
        at=START_US - 5,
        zone="z",
        chain=("ana",),
        items=(Item(model="V", milli=gpus * 1000),),
        limit_us=None if limit is None else limit * SECOND,
        is_billed=True,
    )


def total(meters: list[Meter], book: PriceBook, seconds: float, *, locked=True) -> int:
    """The cost after so many seconds."""
    until = START_US + int(seconds * SECOND)
    found = run_charges(meters, book, started=START_US, until=until, locked=locked)
    return sum(one.total for one in found)


@pytest.mark.parametrize("row", GOLDEN["C1_pro_rata"])
def test_a_run_costs_price_times_gpus_times_time(row: dict[str, Any]) -> None:
    mine, book = [meter(row["gpus"])], prices(PRICES[row["model"]])
    found = total(mine, book, row["seconds"])
    assert found == row["charge_ucr"] == math.floor(Fraction(row["exact"]))


@pytest.mark.parametrize("row", GOLDEN["C5_exhaustion_instant"])
def test_the_last_paid_second(row: dict[str, int]) -> None:
    mine, book = [meter(row["gpus"])], prices(row["price"])
    for passed in (0, 7, 600):
        now = START_US + passed * SECOND
        draws = present_draws(mine, book, started=START_US, now=now, locked=True)
        left = row["balance"] - total(mine, book, passed)
        at = runs_out_at(now, draws=draws, funds=left)
        assert at is not None
        assert (at - START_US) // SECOND == row["last_paid_second"]
        assert total(mine, book, (at - START_US) / SECOND) <= row["balance"]


def test_credit_that_ran_out_before_now() -> None:
    mine, book = [meter(2)], prices(2_500_000)
    now = START_US + 10_000 * SECOND
    draws = present_draws(mine, book, started=START_US, now=now, locked=True)
    at = runs_out_at(now, draws=draws, funds=12_500_000 - total(mine, book, 10_000))
    assert at is not None
    assert (at - START_US) // SECOND == 9000


def test_what_is_free_never_runs_out() -> None:
    draws = present_draws(
        [meter(2)], prices(0), started=START_US, now=START_US, locked=True
    )
    assert runs_out_at(START_US, draws=draws, funds=0) is None


@settings(max_examples=300)
@given(
    runs=st.lists(
        st.tuples(st.integers(0, 10**10), st.integers(1, 8000), st.integers(0, 10**12)),
        min_size=1,
        max_size=6,
    ),
    funds=st.integers(-(10**6), 10**7),
)
def test_what_ends_together_has_cost_all_that_is_covered(
    runs: list[tuple[int, int, int]], funds: int
) -> None:
    """runs: price an hour, thousandths, microseconds so far."""
    now = 2 * 10**12

    def cost(at: int) -> int:
        """What all have cost at a moment, beyond what they have now."""
        return sum(
            price * milli * (lasted + at - now) // HOUR - price * milli * lasted // HOUR
            for price, milli, lasted in runs
        )

    draws = [
        Draw(rate=price * milli, rest=price * milli * lasted % HOUR)
        for price, milli, lasted in runs
    ]
    at = runs_out_at(now, draws=draws, funds=funds)
    if not any(draw.rate for draw in draws):
        assert at is None
        return
    assert at is not None
    assert cost(at - 1) < cost(at) <= funds
    # The next that falls due is not covered any more: it may be one for each run.
    later = min(
        -(-(HOUR - _rest(draw, at - now)) // draw.rate) for draw in draws if draw.rate
    )
    assert cost(at + later) > funds


def _rest(draw: Draw, span: int) -> int:
    return (draw.rest + draw.rate * span) % HOUR


def test_a_new_price_draws_from_its_moment_on() -> None:
    book = prices(1_000_001, (1800, 3_000_000))
    now = START_US + 1800 * SECOND
    found = present_draws([meter(1)], book, started=START_US, now=now, locked=False)
    assert found == [Draw(rate=3_000_000_000, rest=0)]
    found = present_draws([meter(1)], book, started=START_US, now=now, locked=True)
    assert found == [Draw(rate=1_000_001_000, rest=HOUR // 2)]


def test_a_price_change_cuts_what_is_not_locked() -> None:
    row = GOLDEN["C9_price_change"]
    (first, half), (second, _) = row["segments"]
    mine, book = [meter(row["gpus"])], prices(first, (half, second))
    assert total(mine, book, 3600) == row["locked"]
    assert total(mine, book, 3600, locked=False) == row["repriced"]


def test_the_limit_bounds_the_bill() -> None:
    mine, book = [meter(1, limit=3600)], prices(2_500_000)
    assert total(mine, book, 3600) == total(mine, book, 4000) == 2_500_000


def test_meters_follow_each_other_without_gap_or_overlap() -> None:
    book, first = prices(3_600_000), meter(4)
    lost = first.next(START_US + 10 * SECOND, "lost", items=(meter(3).items[0],))
    free = lost.next(START_US + 20 * SECOND, "out", is_billed=False)
    back = free.next(START_US + 30 * SECOND, "back", is_billed=True)
    mine = [first, lost, free, back]
    sums = [total(mine, book, at) // 1000 for at in (0, 10, 20, 30, 40)]
    assert sums == [0, 40, 70, 70, 100]


def test_a_stored_meter_reads_back() -> None:
    made = meter(2, limit=60)
    row = {
        "run": made.run,
        "number": made.number,
        "at": made.at,
        "terms": terms_json(made),
        "reason": made.reason,
    }
    assert read_meter(row) == made
