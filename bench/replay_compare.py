"""Shaken replays of every setting: ratios of a policy to the Slurm-like one.

Prints one JSON line a setting and the geometric means. Needs the logs beside the
checkout (../shared/data/logs) and says so when they are not there.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bench.replay import measure, read_log
from bench.replay_engine import POLICIES

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
    parser.add_argument("--policy", choices=sorted(POLICIES), default="default")
    parser.add_argument("--shakes", type=int, default=3)
    options = parser.parse_args(argv)
    if not LOGS.is_dir():
        print(f"{LOGS}: the job logs are not there", file=sys.stderr)
        return 2
    logs = []
    for name, capacity, window in SETTINGS:
        ratios = []
        for seed in range(1, options.shakes + 1):
            log = read_log(LOGS / name, capacity=capacity, window=window, seed=seed)
            base = measure(log, capacity, "slurm-like")
            ours = measure(log, capacity, options.policy)
            ratios.append([ours[figure] / base[figure] for figure in FIGURES])
        logs.append(np.log(ratios).mean(axis=0))
        print(
            json.dumps({"log": name, "window": window, **_named(logs[-1])}), flush=True
        )
    print(json.dumps({"geometric_mean": _named(np.mean(logs, axis=0))}))
    return 0


def _named(mean_logs: np.ndarray) -> dict[str, float]:
    return dict(zip(FIGURES, np.exp(mean_logs).round(3).tolist(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
