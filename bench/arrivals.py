"""Arrival files from a pod list: python -m bench.arrivals --help.

Shuffles the list once, then draws with replacement until the GPUs asked for pass the
wanted percentage of the nodes' GPUs. With --load it adds Poisson submit times and
durations. It never places anything.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from bench.placement_files import read_rows, without_shares

COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
DURATION_MAX_S = 6 * 3600
DAY_S = 24 * 3600


def arrival_rows(
    pods: list[dict[str, str]], gpus: int, *, seed: int, percent: float
) -> list[dict[str, str]]:
    """Return pods in arrival order until `percent` of `gpus` has been asked for."""
    stream = np.random.default_rng(seed)
    order = stream.permutation(len(pods)).tolist()
    wanted = gpus * percent / 100.0
    asked, rows = 0.0, []
    while asked < wanted:
        if not order:
            order = stream.integers(0, len(pods), size=len(pods)).tolist()
        pod = pods[order.pop(0)]
        asked += gpu_amount(pod)
        rows.append({name: pod[name] for name in COLUMNS})
    return rows


def gpu_amount(pod: dict[str, str]) -> float:
    """GPUs a pod asks for, shares counted as shares."""
    count = int(pod["num_gpu"])
    return int(pod["gpu_milli"]) / 1000.0 if count == 1 else float(count)


def timed_rows(
    pods: list[dict[str, str]],
    durations: list[int],
    gpus: int,
    *,
    seed: int,
    load: float,
) -> list[dict[str, str]]:
    """A day of Poisson arrivals whose GPU-seconds are `load` of the capacity."""
    stream = np.random.default_rng(seed)
    mean_gpus = float(np.mean([gpu_amount(pod) for pod in pods]))
    rate = load * gpus / (mean_gpus * float(np.mean(durations)))
    count = int(stream.poisson(rate * DAY_S))
    times = np.sort(stream.uniform(0, DAY_S, size=count)).astype(np.int64)
    picks = stream.integers(0, len(pods), size=count).tolist()
    lengths = stream.integers(0, len(durations), size=count).tolist()
    rows = []
    for when, pick, length in zip(times.tolist(), picks, lengths, strict=True):
        row = {name: pods[pick][name] for name in COLUMNS}
        row["submit_s"], row["duration_s"] = str(when), str(durations[length])
        rows.append(row)
    return rows


def openb_durations(path: Path) -> list[int]:
    """Running times of a pod list that has them, capped at six hours."""
    found = []
    for row in read_rows(path):
        if row.get("scheduled_time") and row.get("deletion_time"):
            ran = int(row["deletion_time"]) - int(row["scheduled_time"])
            found.append(min(max(ran, 1), DURATION_MAX_S))
    return found


def main() -> None:
    """Write one arrival file to stdout or --out."""
    parser = argparse.ArgumentParser(prog="bench.arrivals", description=__doc__)
    parser.add_argument("--pods", type=Path, required=True)
    parser.add_argument("--nodes", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--percent", type=float, default=130.0)
    parser.add_argument("--share", choices=("whole", "fractional"), default="whole")
    parser.add_argument("--load", type=float, help="with times; needs --durations")
    parser.add_argument("--durations", type=Path, help="pod list with times")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pods = read_rows(options.pods)
    if options.share == "whole":
        pods = without_shares(pods)
    gpus = sum(int(row["gpu"] or 0) for row in read_rows(options.nodes))
    if options.load is None:
        rows = arrival_rows(pods, gpus, seed=options.seed, percent=options.percent)
    elif options.durations is None:
        parser.error("--load needs --durations, a pod list with scheduled_time")
    else:
        lengths = openb_durations(options.durations)
        rows = timed_rows(pods, lengths, gpus, seed=options.seed, load=options.load)
    columns = list(rows[0])
    if options.out is None:
        _write(sys.stdout, columns, rows)
    else:
        with options.out.open("w", newline="") as target:
            _write(target, columns, rows)


def _write(target: TextIO, columns: list[str], rows: list[dict[str, str]]) -> None:
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
