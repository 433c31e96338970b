"""Replay of arrivals against placement policies: python -m bench.placement --help.

Feeds tasks in order, a window at a time, and prints what share of the GPUs is held
when 90..130 % of capacity has been asked for. Windows end at these marks, so no task
is placed with knowledge of one that arrives after the mark. It never tunes anything.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.options import refuse_below
from bench.placement_books import Books
from bench.placement_churn import Churn, replay_day
from bench.placement_fgd import Fgd
from bench.placement_files import (
    TASK_COLUMNS,
    TIME_COLUMNS,
    Tasks,
    read_checked,
    read_nodes,
    tasks_from_rows,
    without_shares,
)
from dorabatch.errors import Refused
from dorabatch.placer.arrays.bins import BinHold, BinState, lay_bin_table
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.types import ClusterArrays, IntArray, Placement
from dorabatch.placer.explain.impossible import refuse_bad_amounts
from dorabatch.placer.plan.best_bin import Engine
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.plan_memo import PlanMemo
from dorabatch.placer.plan.planned_choice import Scored

RECENT = 4096
"""Past arrivals that `default` may read the demand from; FGD reads the whole list."""

MARKS = (90, 95, 100, 105, 110, 120, 130)
OWN = ("default", "first-fit", "best-fit", "random")


class Result(NamedTuple):
    """Percent allocated at each mark, refusals by GPUs asked (0 = CPUs only), speed."""

    policy: str
    allocated: dict[str, float]
    refused: dict[str, int]
    refused_at_100: dict[str, int]
    first_refused_percent: float | None
    placed: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rate = decisions_per_second(self)
        return {**self._asdict(), "decisions_per_s": rate}


def decisions_per_second(result: Result) -> float:
    """Tasks decided (placed or refused) per second."""
    decided = result.placed + sum(result.refused.values())
    return round(decided / max(result.seconds, 1e-9), 1)


def replay(
    cluster: ClusterArrays, tasks: Tasks, policy: PlacementPolicy, window: int
) -> Result:
    """Feed the tasks through place(), `window` at a time."""
    books, memo = Books(cluster, tasks), PlanMemo()
    spent = 0.0

    def step(rows: IntArray) -> tuple[Placement, ...]:
        nonlocal spent
        requests = tasks.requests(rows)
        first = int(rows[0]) if len(rows) else 0
        before = tasks.requests(np.arange(max(first - RECENT, 0), first))
        started = time.perf_counter()
        plan = place(requests, books.cluster, policy, before, memo)
        spent += time.perf_counter() - started
        return plan.placements

    marks, at_100 = _feed(books, step, window)
    return _result(policy.name, books, marks, at_100, spent)


def replay_fgd(cluster: ClusterArrays, tasks: Tasks) -> Result:
    """Feed the tasks through FGD one at a time; its mix is the whole task list."""
    books = Books(cluster, tasks)
    fgd = FgdWalk(cluster, tasks)
    spent = 0.0

    def step(rows: IntArray) -> tuple[Placement, ...]:
        nonlocal spent
        started = time.perf_counter()
        made = fgd.place(rows)
        spent += time.perf_counter() - started
        return made

    marks, at_100 = _feed(books, step, len(tasks))
    return _result("fgd", books, marks, at_100, spent)


class FgdWalk:
    """FGD with its own books, which hear of departures too."""

    def __init__(self, cluster: ClusterArrays, tasks: Tasks) -> None:
        classes = classes_of(tasks.requests(np.arange(len(tasks))))
        ground = lay_bin_table(classes, cluster)
        self.fgd = Fgd(classes, ground.model)
        state = BinState(ground, classes, cluster)
        self.engine = Engine(state, Scored(self.fgd.cost, len(state.free)))
        self.of = classes.of.tolist()
        self.holds: dict[int, BinHold] = {}

    def place(self, rows: IntArray) -> tuple[Placement, ...]:
        """Rows in order; a class that found no room is not tried again here."""
        made, dead = [], set()
        for row in rows.tolist():
            if self.of[row] in dead:
                continue
            found = _fgd_one(self.engine, self.fgd, row)
            if found is None:
                dead.add(self.of[row])
                continue
            made.append(found[0])
            self.holds[row] = found[1]
        return tuple(made)

    def ended(self, rows: list[int]) -> None:
        """Tasks that have ended give back what they held."""
        for row in rows:
            self.engine.give_back(self.holds.pop(row))


def _fgd_one(engine: Engine, fgd: Fgd, row: int) -> tuple[Placement, BinHold] | None:
    state = engine.state
    index = int(state.classes.of[row])
    bin_ = engine.best(index)
    if bin_ < 0:
        return None
    share = state.classes.gpu_count[index] and state.classes.gpu_milli[index] < 1000
    hold = state.plan_hold(index, bin_)
    if share:
        hold = hold._replace(slot=fgd.slot(state, index, bin_))
    engine.take(hold)
    gpus = [0] * state.classes.accepts.shape[1]
    if hold.gpus[0][1]:
        gpus[int(state.ground.model[bin_])] = hold.gpus[0][1]
    node = int(state.ground.node[bin_])
    return Placement(key=row, node=node, gpus=tuple(gpus), slot=hold.slot), hold


def _feed(
    books: Books, step: Callable[[IntArray], tuple[Placement, ...]], window: int
) -> tuple[dict[str, float], IntArray]:
    """Run `step` on windows that also end at every mark."""
    asked = np.cumsum(books.tasks.gpu_amount()) * 100.0 / books.capacity_milli
    ends = {mark: int(np.searchsorted(asked, mark)) for mark in MARKS}
    marks: dict[str, float] = {}
    at_100 = np.zeros(0, dtype=np.int64)
    start = 0
    for mark, end in ends.items():
        while start < end:
            stop = min(start + window, end)
            books.apply(step(np.arange(start, stop)))
            start = stop
        # 1e-6: the last task of a file made for 130 % may end a hair below it.
        if len(asked) and asked[-1] >= mark - 1e-6:
            marks[str(mark)] = round(books.percent(), 4)
        if mark == 100:
            at_100 = np.flatnonzero(~books.placed[:end])
    while start < len(books.tasks):
        stop = min(start + window, len(books.tasks))
        books.apply(step(np.arange(start, stop)))
        start = stop
    return marks, at_100


def _result(
    name: str,
    books: Books,
    marks: dict[str, float],
    at_100: IntArray,
    seconds: float,
) -> Result:
    tasks = books.tasks
    refused = np.flatnonzero(~books.placed)
    asked = np.cumsum(tasks.gpu_amount()) * 100.0 / books.capacity_milli
    first = round(float(asked[refused[0]]), 2) if len(refused) else None
    return Result(
        policy=name,
        allocated=marks,
        refused=_by_size(tasks, refused),
        refused_at_100=_by_size(tasks, at_100),
        first_refused_percent=first,
        placed=int(books.placed.sum()),
        seconds=round(seconds, 4),
    )


def _by_size(tasks: Tasks, rows: IntArray) -> dict[str, int]:
    amount = tasks.gpu_amount()[rows] / 1000.0
    names = np.where((amount > 0) & (amount < 1), "share", amount.astype(np.int64))
    kinds, counts = np.unique(names, return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))


def run(
    cluster: ClusterArrays, tasks: Tasks, name: str, options: argparse.Namespace
) -> Result:
    """One policy over one arrival file."""
    if name == "fgd":
        return replay_fgd(cluster, tasks)
    window = max(len(tasks), 1) if options.window == "all" else int(options.window)
    policy = PlacementPolicy(name=name, seed=options.seed, requests_max=10**9)
    return replay(cluster, tasks, policy, window)


def run_day(
    cluster: ClusterArrays, tasks: Tasks, name: str, options: argparse.Namespace
) -> Churn:
    """One policy over a file with times."""
    books = Books(cluster, tasks)
    if name == "fgd":
        fgd = FgdWalk(cluster, tasks)

        def fgd_step(
            rows: IntArray, _books: Books, ended: list[int]
        ) -> tuple[Placement, ...]:
            fgd.ended(ended)
            return fgd.place(rows)

        return replay_day(name, tasks, books, fgd_step)
    policy = PlacementPolicy(name=name, seed=options.seed, requests_max=10**9)
    memo = PlanMemo()

    def step(rows: IntArray, books: Books, _ended: list[int]) -> tuple[Placement, ...]:
        newest = int(rows.max(initial=-1)) + 1
        recent = tasks.requests(np.arange(max(newest - RECENT, 0), newest))
        plan = place(tasks.requests(rows), books.cluster, policy, recent, memo)
        return plan.placements

    return replay_day(name, tasks, books, step)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="bench.placement", description=__doc__)
    made.add_argument("--nodes", type=Path, required=True)
    made.add_argument("--tasks", type=Path, required=True)
    made.add_argument("--policy", nargs="+", choices=(*OWN, "fgd"), default=["default"])
    made.add_argument("--share", choices=("whole", "fractional"), default="whole")
    made.add_argument("--window", default="256", help="tasks seen at once, or all")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--node-seed", type=int, help="put nodes in a random order")
    made.add_argument(
        "--durations",
        action="store_true",
        help="tasks have submit_s and duration_s: waits and utilisation over their day",
    )
    made.add_argument("--json", action="store_true")
    return made


def main() -> int:
    """Read, replay, print; 2 with one sentence where the input makes no sense."""
    made = parser()
    options = made.parse_args()
    try:
        results = replay_files(options)
    except Refused as refused:
        sys.stderr.write(f"bench.placement: {refused}\n")
        return int(refused.exit_status)
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    for result in results:
        sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


def replay_files(options: argparse.Namespace) -> list[dict[str, object]]:
    """What each policy makes of the files; raises Refused for senseless input."""
    window = str(options.window)
    if window != "all" and not (window.isdecimal() and int(window) > 0):
        raise Refused(f"--window {window}: give a number of 1 or more, or all")
    refuse_below(0, seed=options.seed, node_seed=options.node_seed)
    cluster = read_nodes(options.nodes, seed=options.node_seed)
    if not cluster.gpus_total.sum():
        raise Refused(f"{options.nodes}: no node has a GPU; there is nothing to fill")
    columns = TASK_COLUMNS + (TIME_COLUMNS if options.durations else ())
    rows = read_checked(options.tasks, columns)
    if options.share == "whole":
        rows = without_shares(rows)
    tasks = tasks_from_rows(rows, cluster.models)
    refuse_bad_amounts(tasks.requests(np.arange(len(tasks))), cluster)
    replayed = run_day if options.durations else run
    return [
        replayed(cluster, tasks, name, options).as_dict() for name in options.policy
    ]


if __name__ == "__main__":
    sys.exit(main())
