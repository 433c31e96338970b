"""Shaken replays of every setting: ratios of policies to the Slurm-like one.

Prints one JSON line a setting and policy, then geometric means over the settings and
over the logs (each log's settings counted as one). Needs the logs beside the checkout
(../shared/data/logs) and says so when they are not there; never writes a file.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bench.replay import known_policy, parse_window
from bench.replay_log import measure, read_log
from dorabatch.errors import UserError

LOGS = Path("../shared/data/logs")
SETTINGS = (
    ("ceritsc_2013.csv.gz", 1400, ""),
    ("philly_2017.csv.gz", 520, "35,21"),
    ("philly_2017.csv.gz", 520, "60,21"),
    ("philly_2017.csv.gz", 520, "80,21"),
)
FIGURES = ("slowdown_mean", "wait_mean_h", "wait_p95_h", "slowdown_worst_user", "jain")


def main(argv: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", nargs="+", default=["default", "preemptive"])
    parser.add_argument("--shakes", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args(argv)
    if not LOGS.is_dir():
        print(f"{LOGS}: the job logs are not there", file=sys.stderr)
        return 2
    try:
        policies = [known_policy(name) for name in options.policy]
    except UserError as error:
        print(f"replay_compare: {error.message}", file=sys.stderr)
        return 2
    first = options.first_seed
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in policies}
    for log, capacity, window in SETTINGS:
        shaken: dict[str, list[list[float]]] = {name: [] for name in policies}
        for seed in range(first, first + options.shakes):
            jobs = read_log(
                LOGS / log, capacity=capacity, window=parse_window(window), seed=seed
            )
            base = measure(jobs, capacity, "slurm-like")
            for name in policies:
                ours = measure(jobs, capacity, name)
                ratios = [ours[figure] / base[figure] for figure in FIGURES]
                shaken[name].append([*ratios, ours["seconds"]])
        for name in policies:
            rows = np.array(shaken[name])
            # A wait of 0 makes a geometric mean of 0.
            with np.errstate(divide="ignore"):
                means = np.log(rows[:, :-1]).mean(axis=0)
            found[name].setdefault(log, []).append(means)
            head = {"log": log, "window": window, "policy": name}
            seconds = {"seconds_max": round(float(rows[:, -1].max()), 1)}
            print(json.dumps({**head, **_named(means), **seconds}), flush=True)
    for name, by_log in found.items():
        every = np.mean([one for logs in by_log.values() for one in logs], axis=0)
        each = np.mean([np.mean(logs, axis=0) for logs in by_log.values()], axis=0)
        print(json.dumps({"policy": name, "over": "settings", **_named(every)}))
        print(json.dumps({"policy": name, "over": "logs", **_named(each)}))
    return 0


def _named(mean_logs: np.ndarray) -> dict[str, float]:
    return dict(zip(FIGURES, np.exp(mean_logs).round(3).tolist(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
