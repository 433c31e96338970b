"""Use by day, fairness and forecast accuracy, on values."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dorabatch.fairshare.money.report_rows import Foretold
from dorabatch.fairshare.report.report_use import (
    Span,
    accuracy_sheets,
    fairness,
    jain_index,
    usage_sheets,
)

HOUR = 3_600_000_000
ROME = ZoneInfo("Europe/Rome")


def at(day: int, hour: float, month: int = 3) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC) + timedelta(hours=hour)


def span(
    user: str, start: datetime, hours: float, gpus: int = 1, wait: float = 0
) -> Span:
    return Span(
        user=user,
        models=("V100",) * gpus,
        start=start,
        end=start + timedelta(hours=hours),
        waited=timedelta(hours=wait),
    )


def days(spans: list[Span], start: datetime, end: datetime) -> dict[str, int]:
    usage, _ = usage_sheets(spans, {}, start=start, end=end, zone=ROME)
    return {str(row[2]): int(str(row[3])) for row in usage.rows}


def test_days_are_local_and_the_spring_day_has_23_hours() -> None:
    found = days([span("ana", at(27, 12), 72)], at(1, 0), at(31, 0))
    assert found == {
        "2026-03-27": 11 * HOUR,
        "2026-03-28": 24 * HOUR,
        "2026-03-29": 23 * HOUR,
        "2026-03-30": 14 * HOUR,
    }


def test_use_is_cut_to_the_period() -> None:
    found = days([span("ana", at(1, 0), 48, gpus=2)], at(1, 12), at(1, 15))
    assert found == {"2026-03-01": 6 * HOUR}
    assert days([span("ana", at(1, 0), 5)], at(2, 0), at(3, 0)) == {}


def test_a_share_of_two_thirds_that_got_two_thirds_is_even() -> None:
    spans = [span("ana", at(1, 0), 2, gpus=2), span("bob", at(1, 0), 2)]
    parts = {"ana": 0.5, "bob": 0.25, "away": 0.25}
    found = fairness(spans, parts, start=at(1, 0), end=at(2, 0))
    assert found.jain == pytest.approx(1.0)
    assert [row[4] for row in found.sheet.rows] == [1.0, 1.0]


def test_one_who_got_nothing_is_the_worst() -> None:
    spans = [span("ana", at(1, 0), 4, wait=2), span("bob", at(3, 0), 1)]
    found = fairness(spans, {}, start=at(1, 0), end=at(2, 0))
    assert (found.worst, found.jain) == ("bob", pytest.approx(0.5))
    assert found.sheet.rows[0][6:] == (7200.0, 7200.0)


def test_no_runs_make_no_rows() -> None:
    found = fairness([], {"ana": 1.0}, start=at(1, 0), end=at(2, 0))
    assert (found.sheet.rows, found.worst) == ((), "")
    assert accuracy_sheets([], ROME)[0].rows == ()


def test_bounds_belong_to_a_forecast() -> None:
    rows = [
        Foretold(workload_id=n, made_at=0, low=10, high=20, started_at=started)
        for n, started in enumerate((9, 10, 20, 21, None))
    ]
    (sheet,) = accuracy_sheets(rows, ROME)
    assert sheet.rows[-1][1:7] == (5, 4, 2, 1, 1, 0.5)


def test_jain() -> None:
    assert jain_index([3, 6], [1, 2]) == pytest.approx(1)
    assert jain_index([3, 0], [1, 1]) == pytest.approx(0.5)
    assert jain_index([0, 0], [1, 1]) == 1
