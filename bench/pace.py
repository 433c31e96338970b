"""How good the forecast of credit's pace is: python -m bench.pace --log FILE.csv.gz.

Each day of a log, each owner's use of the last 14 days is forecast as `dcredit
forecast` does it, and compared with their mean use of the 7 days that follow; beside it
the mean of the 14 days with 1.28 standard errors. Jobs run from their submission on.
The log's columns are those of `bench.replay`. Writes no file.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.counted import Jobs
from bench.replay_log import DAY, Window, read_log
from dorabatch.errors import UserError
from dorabatch.fairshare.money.credit_forecast import DAYS, forecast

AHEAD = 7
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
Range = Callable[[np.ndarray], tuple[float, float]]


def daily_use(jobs: Jobs) -> np.ndarray:
    """[user, day] GPU-seconds, to the day of the last submission."""
    days = int(jobs.submit.max() // DAY)
    found = np.zeros((int(jobs.user.max()) + 1, days))
    ends = jobs.submit + jobs.duration
    for day in range(days):
        low, high = day * DAY, (day + 1) * DAY
        ran = np.clip(np.minimum(ends, high) - np.maximum(jobs.submit, low), 0, None)
        np.add.at(found[:, day], jobs.user, ran * jobs.size)
    return found


def windows_range(use: np.ndarray) -> tuple[float, float]:
    """The range that the commands show."""
    found = forecast([round(one) for one in use], 0, _SOME_MOMENT)
    return found.burn_low, found.burn_high


def error_range(use: np.ndarray) -> tuple[float, float]:
    """The mean with 1.28 standard errors: four of five cases were days alike."""
    margin = 1.28 * use.std(ddof=1) / np.sqrt(len(use))
    return max(0.0, use.mean() - margin), use.mean() + margin


def rated(use: np.ndarray, range_of: Range) -> dict[str, float]:
    """How often the mean of the days that followed was in the range, and its width."""
    hits, widths = [], []
    for mine in use:
        for day in range(DAYS, len(mine) - AHEAD + 1):
            past, after = mine[day - DAYS : day], mine[day : day + AHEAD].mean()
            if past.sum() > 0:
                low, high = range_of(past)
                hits.append(low <= after <= high)
                widths.append((high - low) / past.mean())
    if not hits:
        raise UserError(
            f"the log is too short; give one of {DAYS + AHEAD} days or more"
        )
    return {
        "forecasts": len(hits),
        "inside": round(float(np.mean(hits)), 3),
        "width_median": round(float(np.median(widths)), 2),
    }


def main(argv: list[str] | None = None) -> int:
    """Run and print; 2 for what is no such log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        jobs = read_log(options.log, capacity=10**6, window=Window(), seed=0)
        use = daily_use(jobs)
        found = {
            "windows": rated(use, windows_range),
            "standard error": rated(use, error_range),
        }
    except UserError as error:
        print(f"pace: {error.message}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, row in found.items():
            print(name, *(f"{key} {value}" for key, value in row.items()), sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
