"""Time and memory of one plan: python -m bench.placement_speed --help.

Repeats the node list until there are enough nodes, draws the waiting tasks from a pod
list, and times place() on empty nodes, repeats apart; with --window, on nodes that fill
as the tasks come a window at a time. It recounts every placement and never tunes
anything.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from bench.options import refuse_below
from bench.placement import RECENT
from bench.placement_books import Books
from bench.placement_files import (
    TASK_COLUMNS,
    Tasks,
    read_checked,
    read_nodes,
    tasks_from_rows,
    without_shares,
)
from dorabatch.errors import Refused
from dorabatch.placer.arrays.types import ClusterArrays
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.plan_memo import PlanMemo

POLICY = PlacementPolicy(requests_max=10**9)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="bench.placement_speed", description=__doc__)
    made.add_argument("--node-list", type=Path, required=True)
    made.add_argument("--pods", type=Path, required=True)
    made.add_argument("--nodes", type=int, default=9704)
    made.add_argument("--pending", type=int, default=100_000)
    made.add_argument("--share", choices=("whole", "fractional"), default="whole")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument(
        "--window",
        type=int,
        help="tasks come so many at a time and stay: milliseconds of each plan",
    )
    made.add_argument(
        "--recent",
        type=int,
        default=RECENT,
        help="past arrivals that a plan of a window may read the demand from",
    )
    made.add_argument("--json", action="store_true")
    return made


def first_nodes(path: Path, count: int, seed: int) -> ClusterArrays:
    """`count` empty nodes: the list as often as needed, in a random order."""
    listed = len(read_nodes(path, seed=None))
    return read_nodes(path, seed=seed, copies=-(-count // listed), most=count)


def draw(options: argparse.Namespace) -> tuple[ClusterArrays, Tasks]:
    """The empty nodes and the tasks that will wait."""
    cluster = first_nodes(options.node_list, options.nodes, options.seed)
    rows = read_checked(options.pods, TASK_COLUMNS)
    if options.share == "whole":
        rows = without_shares(rows)
    stream = np.random.default_rng(options.seed)
    drawn = stream.integers(0, len(rows), size=options.pending)
    return cluster, tasks_from_rows([rows[at] for at in drawn.tolist()], cluster.models)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of each run, by the clock and of processor time.

    `again` are runs that are given the plan of the first.
    """
    cluster, tasks = draw(options)
    requests = tasks.requests(np.arange(len(tasks)))
    memo, seconds, busy = PlanMemo(), [], []
    for _ in range(options.runs + 1):
        began, worked = time.perf_counter(), time.process_time()
        plan = place(requests, cluster, POLICY, None, memo)
        seconds.append(round(time.perf_counter() - began, 4))
        busy.append(round(time.process_time() - worked, 4))
    books = Books(cluster, tasks)
    books.apply(plan.placements)
    return {
        **_about(options, books),
        "first_s": seconds[0],
        "first_cpu_s": busy[0],
        "again_s": seconds[1:],
        "again_cpu_s": busy[1:],
        "explanations": len(plan.explanations),
    }


def measure_stream(options: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of processor time of each window, and of those that place all.

    Nodes, memo and past arrivals are carried on from window to window; what finds no
    room does not come again.
    """
    cluster, tasks = draw(options)
    books, memo = Books(cluster, tasks), PlanMemo()
    spent, placed_all = [], []
    for start in range(0, len(tasks), options.window):
        rows = np.arange(start, min(start + options.window, len(tasks)))
        before = np.arange(max(start - options.recent, 0), start)
        requests, recent = tasks.requests(rows), tasks.requests(before)
        worked = time.process_time()
        plan = place(requests, books.cluster, POLICY, recent, memo)
        spent.append((time.process_time() - worked) * 1000.0)
        placed_all.append(len(plan.placements) == len(rows))
        books.apply(plan.placements)
    roomy = [one for one, all_ in zip(spent, placed_all, strict=True) if all_]
    return {
        **_about(options, books),
        "window": options.window,
        "recent": options.recent,
        "all": _summary(spent),
        "all_placed": _summary(roomy),
        "window_cpu_ms": [round(one, 2) for one in spent],
    }


def _summary(spent: list[float]) -> dict[str, float]:
    """Windows, mean and 95th percentile of milliseconds."""
    return {
        "windows": len(spent),
        "mean_cpu_ms": round(float(np.mean(spent or [0.0])), 2),
        "p95_cpu_ms": round(float(np.percentile(spent or [0.0], 95)), 2),
    }


def _about(options: argparse.Namespace, books: Books) -> dict[str, object]:
    """What was measured on, and what became of it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "nodes": len(books.cluster),
        "pending": len(books.tasks),
        "share": options.share,
        "placed": int(books.placed.sum()),
        "allocated_percent": round(books.percent(), 3),
        "memory_peak_mib": peak,
    }


def main() -> int:
    """Measure and print; 2 with one sentence where the input makes no sense."""
    options = parser().parse_args()
    try:
        refuse_below(
            1,
            nodes=options.nodes,
            pending=options.pending,
            runs=options.runs,
            window=options.window,
        )
        refuse_below(0, recent=options.recent, seed=options.seed)
        found = (measure_stream if options.window else measure)(options)
    except Refused as refused:
        sys.stderr.write(f"bench.placement_speed: {refused}\n")
        return int(refused.exit_status)
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
