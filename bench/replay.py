"""Replay a job log under a policy: python -m bench.replay --log FILE --capacity N.

Prints waits, bounded slow-down, fairness and use. `--against slurm-like` adds ratios.
"""

import argparse
import csv
import gzip
import json
import random
import sys
import time
from pathlib import Path

import numpy as np

from bench.replay_engine import POLICIES, Engine, Log

DAY = 86_400
SHAKE_SECONDS = 600
DEFAULT_LIMIT = 7 * DAY


def read_log(path: Path, *, capacity: int, window: str, seed: int) -> Log:
    """Jobs of the window ("FIRST_DAY,DAYS"), submissions shaken by a seed above 0."""
    first, days = (int(part) for part in window.split(",")) if window else (0, 10**6)
    rng = random.Random(seed)
    users: dict[str, int] = {}
    rows = []
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            submit = float(row["submit_s"])
            size = int(row["gpus"] or 0) or int(row["cpus"] or 0)
            duration = float(row["duration_s"])
            in_window = first * DAY <= submit < (first + days) * DAY
            if not in_window or not 0 < size <= capacity or duration <= 0:
                continue
            limit = float(row["requested_s"] or DEFAULT_LIMIT)
            shaken = submit + (rng.uniform(-1, 1) * SHAKE_SECONDS if seed else 0)
            name = row["user"] or row["group"]
            user = users.setdefault(name, len(users))
            duration = min(duration, limit)
            rows.append((max(0.0, round(shaken)), duration, limit, size, user))
    rows.sort()
    columns = np.array(rows, dtype=float).T
    return Log(
        submit=columns[0] - columns[0].min(),
        duration=columns[1],
        limit=columns[2],
        size=columns[3].astype(np.int64),
        user=columns[4].astype(np.int64),
    )


def jain_by_day(log: Log, start: np.ndarray) -> float:
    """Mean over days of Jain's index on use of users queued for half of the day."""
    end = start + log.duration
    found = []
    users = int(log.user.max()) + 1
    for day in range(int(log.submit.max() // DAY) + 1):
        low, high = day * DAY, (day + 1) * DAY
        queued = np.clip(np.minimum(start, high) - np.maximum(log.submit, low), 0, DAY)
        longest = np.zeros(users)
        np.maximum.at(longest, log.user, queued)
        used = np.clip(np.minimum(end, high) - np.maximum(start, low), 0, DAY)
        use = np.bincount(log.user, weights=used * log.size, minlength=users)
        mine = use[longest >= DAY / 2]
        if len(mine) > 1 and mine.any():
            found.append(mine.sum() ** 2 / (len(mine) * (mine**2).sum()))
    return float(np.mean(found)) if found else 1.0


def measure(log: Log, capacity: int, policy: str) -> dict[str, float]:
    """One replay's figures."""
    began = time.perf_counter()
    engine = Engine(log, capacity, POLICIES[policy])
    start = engine.run()
    took = time.perf_counter() - began
    wait = start - log.submit
    slow = np.maximum(1.0, (wait + log.duration) / np.maximum(log.duration, 10.0))
    per_user = np.bincount(log.user, weights=slow) / np.bincount(log.user)
    span = float((start + log.duration).max())
    return {
        "jobs": len(wait),
        "unstarted": int(np.isnan(start).sum()),
        "wait_mean_h": float(wait.mean()) / 3600,
        "wait_median_h": float(np.median(wait)) / 3600,
        "wait_p95_h": float(np.percentile(wait, 95)) / 3600,
        "slowdown_mean": float(slow.mean()),
        "slowdown_worst_user": float(per_user.max()),
        "jain": jain_by_day(log, start),
        "utilisation": float((log.duration * log.size).sum()) / (span * capacity),
        "restarts": engine.restarts,
        "wasted_part": engine.wasted / (span * capacity),
        "seconds": took,
    }


def main(argv: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--capacity", type=int, required=True)
    parser.add_argument("--policy", choices=sorted(POLICIES), default="default")
    parser.add_argument("--against", choices=sorted(POLICIES))
    parser.add_argument("--window", default="", help="FIRST_DAY,DAYS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if not options.log.exists():
        print(f"{options.log}: there is no such log", file=sys.stderr)
        return 2
    log = read_log(
        options.log,
        capacity=options.capacity,
        window=options.window,
        seed=options.seed,
    )
    result: dict[str, object] = dict(measure(log, options.capacity, options.policy))
    result["policy"] = options.policy
    if options.against:
        other = measure(log, options.capacity, options.against)
        result["against"] = {"policy": options.against, **other}
        result["ratio"] = {
            name: float(result[name]) / value if value else None  # type: ignore[arg-type]
            for name, value in other.items()
            if name.startswith(("wait", "slow", "jain"))
        }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
