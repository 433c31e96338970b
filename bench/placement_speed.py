"""Time and memory of one plan: python -m bench.placement_speed --help.

Repeats the node list until there are enough nodes, draws the waiting tasks from a pod
list, and times place() on empty nodes, repeats apart. It recounts every placement and
never tunes anything.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from bench.placement_books import Books
from bench.placement_files import (
    TASK_COLUMNS,
    read_checked,
    read_nodes,
    tasks_from_rows,
    without_shares,
)
from dorabatch.errors import Refused
from dorabatch.placer.arrays import ClusterArrays
from dorabatch.placer.memo import PlanMemo
from dorabatch.placer.pack import place
from dorabatch.placer.policy import PlacementPolicy


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
    made.add_argument("--json", action="store_true")
    return made


def first_nodes(path: Path, count: int, seed: int) -> ClusterArrays:
    """`count` empty nodes: the list as often as needed, in a random order."""
    listed = len(read_nodes(path, seed=None))
    return read_nodes(path, seed=seed, copies=-(-count // listed), most=count)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of each run, by the clock and of processor time.

    `again` are runs that are given the plan of the first.
    """
    cluster = first_nodes(options.node_list, options.nodes, options.seed)
    rows = read_checked(options.pods, TASK_COLUMNS)
    if options.share == "whole":
        rows = without_shares(rows)
    stream = np.random.default_rng(options.seed)
    drawn = stream.integers(0, len(rows), size=options.pending)
    tasks = tasks_from_rows([rows[at] for at in drawn.tolist()], cluster.models)
    requests = tasks.requests(np.arange(len(tasks)))
    policy = PlacementPolicy(requests_max=10**9)
    memo, seconds, busy = PlanMemo(), [], []
    for _ in range(options.runs + 1):
        began, worked = time.perf_counter(), time.process_time()
        plan = place(requests, cluster, policy, None, memo)
        seconds.append(round(time.perf_counter() - began, 4))
        busy.append(round(time.process_time() - worked, 4))
    books = Books(cluster, tasks)
    books.apply(plan.placements)
    return {
        "nodes": len(cluster),
        "pending": len(tasks),
        "share": options.share,
        "first_s": seconds[0],
        "first_cpu_s": busy[0],
        "again_s": seconds[1:],
        "again_cpu_s": busy[1:],
        "placed": len(plan.placements),
        "explanations": len(plan.explanations),
        "allocated_percent": round(books.percent(), 3),
        "memory_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    """Measure and print; 2 with one sentence where the input makes no sense."""
    options = parser().parse_args()
    try:
        for name in ("nodes", "pending", "runs"):
            if getattr(options, name) < 1:
                raise Refused(f"--{name} {getattr(options, name)}: give 1 or more")
        found = measure(options)
    except Refused as refused:
        sys.stderr.write(f"bench.placement_speed: {refused}\n")
        return int(refused.exit_status)
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
