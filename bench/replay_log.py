"""Job logs for replays: reads them, names the policies, counts what came of them.

Reads files and measures; every decision is the package's own.
"""

import csv
import gzip
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from bench.counted import Jobs, Rules, Simulation
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.lane import LaneRule
from dorabatch.fairshare.turn.pool_decide import PauseRule
from dorabatch.fairshare.turn.ranking import Formula, Weights

DAY = 86_400
SHAKE_SECONDS = 600
COLUMNS = ("submit_s", "duration_s")
SIZES = ("gpus", "cpus")
OWNERS = ("user", "group")

# Fair share, age and size as 10000 : 1000 : 1000, the manual's example.
SLURM_WEIGHTS = Weights(fair_share=909_091, credit=0, age=90_909, slow_down=0)

POLICIES = {
    "fifo": Rules(is_fair=False, backfills=False, predicts=False),
    "fifo-easy": Rules(is_fair=False, predicts=False),
    "slurm-like": Rules(
        predicts=False,
        formula=Formula(weights=SLURM_WEIGHTS, age_step_seconds=0.0),
        large_points=90_909,
        catch_up_seconds=None,
    ),
    "default": Rules(lane=LaneRule()),
    "idle-trials": Rules(lane=LaneRule(on_idle=True)),
    "preemptive": Rules(pause=PauseRule()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of a log: the first, and how many."""

    first: int = 0
    days: int = 10**6

    def has(self, submit: float) -> bool:
        """Whether a moment lies in it."""
        return self.first * DAY <= submit < (self.first + self.days) * DAY


def read_log(path: Path, *, capacity: int, window: Window, seed: int) -> Jobs:
    """Jobs of the window, submissions shaken by up to 10 minutes by a seed above 0.

    Jobs without a run time or a size, or larger than the pool, are left out. Raises
    UserError for a file that is not such a log.
    """
    if capacity < 1:
        raise UserError(f"capacity {capacity} is not allowed; give 1 or more GPUs")
    rng = random.Random(seed)
    users: dict[str, int] = {}
    rows = []
    for number, row in enumerate(_rows(path), start=2):
        submit, duration, limit, size = _numbers(path, number, row)
        if not window.has(submit) or not 0 < size <= capacity or duration <= 0:
            continue
        shaken = submit + (rng.uniform(-1, 1) * SHAKE_SECONDS if seed else 0)
        name = row.get("user") or row.get("group") or ""
        user = users.setdefault(name, len(users))
        rows.append((round(shaken), min(duration, limit), limit, size, user))
    if not rows:
        raise UserError(
            f"{path}: no job of 1 to {capacity} GPUs with a run time is in the "
            "window; look at --capacity and --window"
        )
    rows.sort()
    columns = np.array(rows, dtype=float).T
    return Jobs(
        submit=columns[0] - columns[0].min(),
        duration=columns[1],
        limit=columns[2],
        size=columns[3].astype(np.int64),
        user=columns[4].astype(np.int64),
        may_try=np.ones(len(rows), dtype=np.bool_),
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with _opened(path) as file:
            reader = csv.DictReader(file)
            _check_columns(path, list(reader.fieldnames or ()))
            yield from reader
    except gzip.BadGzipFile as error:
        raise UserError(
            f"{path} is not packed with gzip; name a plain log FILE.csv"
        ) from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it ends in the middle"
        raise UserError(f"{path} cannot be read: {reason}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV text: {error}") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="")
    return path.open(newline="")


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    for choice in (SIZES, OWNERS):
        if not any(name in names for name in choice):
            missing.append(" or ".join(choice))
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)} (it has: "
            f"{', '.join(names) or 'none'})"
        )


def _numbers(
    path: Path, number: int, row: dict[str, str]
) -> tuple[float, float, float, int]:
    """(submission, run time, limit, GPUs) of a line; a limit of 0 means none."""
    name = ""
    try:
        values = []
        for name in ("submit_s", "duration_s", "requested_s", "gpus", "cpus"):
            value = float(row.get(name) or 0)
            if not math.isfinite(value) or value < 0:
                raise ValueError
            values.append(value)
    except ValueError as error:
        raise UserError(
            f"{path}, line {number}: {name} = {row.get(name)!r} is not a number of "
            "0 or more"
        ) from error
    submit, duration, limit, gpus, cpus = values
    return submit, duration, limit or math.inf, int(gpus) or int(cpus)


def jain_by_day(jobs: Jobs, done: np.ndarray) -> float:
    """Mean over days of Jain's index on use of users queued for half of the day.

    A run counts as if it ran without a pause until it was done.
    """
    start = done - jobs.duration
    found = []
    users = int(jobs.user.max()) + 1
    for day in range(int(jobs.submit.max() // DAY) + 1):
        low, high = day * DAY, (day + 1) * DAY
        queued = np.clip(np.minimum(start, high) - np.maximum(jobs.submit, low), 0, DAY)
        longest = np.zeros(users)
        np.maximum.at(longest, jobs.user, queued)
        used = np.clip(np.minimum(done, high) - np.maximum(start, low), 0, DAY)
        use = np.bincount(jobs.user, weights=used * jobs.size, minlength=users)
        mine = use[longest >= DAY / 2]
        if len(mine) > 1 and mine.any():
            found.append(mine.sum() ** 2 / (len(mine) * (mine**2).sum()))
    return float(np.mean(found)) if found else 1.0


def measure(jobs: Jobs, capacity: int, policy: str) -> dict[str, float]:
    """One replay's figures; a wait is all the time from submission to the end that is
    not the run itself, pauses included."""
    began = time.perf_counter()
    outcome = Simulation(jobs, capacity, POLICIES[policy]).run()
    took = time.perf_counter() - began
    wait = outcome.done - jobs.submit - jobs.duration
    slow = np.maximum(1.0, (wait + jobs.duration) / np.maximum(jobs.duration, 10.0))
    per_user = np.bincount(jobs.user, weights=slow) / np.bincount(jobs.user)
    span = float(outcome.done.max())
    return {
        "jobs": len(wait),
        "unfinished": int(np.isnan(outcome.done).sum()),
        "wait_mean_h": float(wait.mean()) / 3600,
        "wait_median_h": float(np.median(wait)) / 3600,
        "wait_p95_h": float(np.percentile(wait, 95)) / 3600,
        "slowdown_mean": float(slow.mean()),
        "slowdown_worst_user": float(per_user.max()),
        "jain": jain_by_day(jobs, outcome.done),
        "utilisation": float((jobs.duration * jobs.size).sum()) / (span * capacity),
        "restarts": outcome.restarts,
        "pauses": outcome.pauses,
        "wasted_part": outcome.wasted_gpu_seconds / (span * capacity),
        "seconds": took,
    }
