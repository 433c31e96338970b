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

from bench.options import refuse_below
from bench.placement_files import (
    TASK_COLUMNS,
    read_checked,
    read_nodes,
    without_shares,
)
from dorabatch.errors import Refused

PERCENT_MAX = 100_000
LOAD_MAX = 100
DURATION_MAX_S = 6 * 3600
DAY_S = 24 * 3600


def arrival_rows(
    pods: list[dict[str, str]], gpus: int, *, seed: int, percent: float
) -> list[dict[str, str]]:
    """Return pods in arrival order until `percent` of `gpus` has been asked for.

    Raises Refused where no pod asks for a GPU, for then they never ask for so many.
    """
    if not any(gpu_amount(pod) for pod in pods):
        raise Refused("no pod asks for a GPU; the arrivals would never fill the nodes")
    stream = np.random.default_rng(seed)
    order = stream.permutation(len(pods)).tolist()
    wanted = gpus * percent / 100.0
    asked, rows = 0.0, []
    while asked < wanted:
        if not order:
            order = stream.integers(0, len(pods), size=len(pods)).tolist()
        pod = pods[order.pop(0)]
        asked += gpu_amount(pod)
        rows.append({name: pod[name] for name in TASK_COLUMNS})
    return rows


def gpu_amount(pod: dict[str, str]) -> float:
    """GPUs a pod asks for, shares counted as shares."""
    count = float(pod["num_gpu"] or 0)
    return float(pod["gpu_milli"]) / 1000.0 if count == 1 else count


def timed_rows(
    pods: list[dict[str, str]],
    durations: list[int],
    gpus: int,
    *,
    seed: int,
    load: float,
) -> list[dict[str, str]]:
    """A day of Poisson arrivals whose GPU-seconds are `load` of the capacity.

    Raises Refused where no pod asks for a GPU or nothing arrives in a day.
    """
    stream = np.random.default_rng(seed)
    mean_gpus = float(np.mean([gpu_amount(pod) for pod in pods]))
    if mean_gpus == 0:
        raise Refused("no pod asks for a GPU; no number of them makes a load")
    rate = load * gpus / (mean_gpus * float(np.mean(durations)))
    count = int(stream.poisson(rate * DAY_S))
    if count == 0:
        raise Refused(f"--load {load}: nothing arrives in a day; give a larger one")
    times = np.sort(stream.uniform(0, DAY_S, size=count)).astype(np.int64)
    picks = stream.integers(0, len(pods), size=count).tolist()
    lengths = stream.integers(0, len(durations), size=count).tolist()
    rows = []
    for when, pick, length in zip(times.tolist(), picks, lengths, strict=True):
        row = {name: pods[pick][name] for name in TASK_COLUMNS}
        row["submit_s"], row["duration_s"] = str(when), str(durations[length])
        rows.append(row)
    return rows


def openb_durations(path: Path) -> list[int]:
    """Running times of a pod list that has them, capped at six hours.

    Raises Refused for a list without any.
    """
    found = []
    for row in read_checked(path, ("scheduled_time", "deletion_time")):
        if row["scheduled_time"] and row["deletion_time"]:
            ran = int(float(row["deletion_time"])) - int(float(row["scheduled_time"]))
            found.append(min(max(ran, 1), DURATION_MAX_S))
    if not found:
        raise Refused(f"{path}: no row has both scheduled_time and deletion_time")
    return found


def main() -> int:
    """Write one arrival file to stdout or --out; 2 with one sentence if it cannot."""
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
    if options.load is not None and options.durations is None:
        parser.error("--load needs --durations, a pod list with scheduled_time")
    try:
        _write_out(options.out, drawn_rows(options))
    except Refused as refused:
        sys.stderr.write(f"bench.arrivals: {refused}\n")
        return int(refused.exit_status)
    return 0


def drawn_rows(options: argparse.Namespace) -> list[dict[str, str]]:
    """The arrivals that the options ask for; raises Refused for senseless input."""
    refuse_below(0, seed=options.seed)
    if not 0 < options.percent <= PERCENT_MAX:
        raise Refused(
            f"--percent {options.percent}: give more than 0, up to {PERCENT_MAX}"
        )
    if options.load is not None and not 0 < options.load <= LOAD_MAX:
        raise Refused(f"--load {options.load}: give more than 0, up to {LOAD_MAX}")
    pods = read_checked(options.pods, TASK_COLUMNS)
    if options.share == "whole":
        pods = without_shares(pods)
    gpus = int(read_nodes(options.nodes, seed=None).gpus_total.sum())
    if not gpus:
        raise Refused(f"{options.nodes}: no node has a GPU; there is nothing to fill")
    if options.load is None:
        return arrival_rows(pods, gpus, seed=options.seed, percent=options.percent)
    lengths = openb_durations(options.durations)
    return timed_rows(pods, lengths, gpus, seed=options.seed, load=options.load)


def _write_out(out: Path | None, rows: list[dict[str, str]]) -> None:
    columns = list(rows[0])
    if out is None:
        _write(sys.stdout, columns, rows)
        return
    try:
        with out.open("w", newline="") as target:
            _write(target, columns, rows)
    except OSError as error:
        raise Refused(f"--out {out}: cannot be written ({error.strerror})") from error


def _write(target: TextIO, columns: list[str], rows: list[dict[str, str]]) -> None:
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
