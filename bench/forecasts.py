"""Hit rate of start forecasts: python -m bench.forecasts --log FILE --capacity N.

Replays a log as the daemon schedules (without a lane) and forecasts, with the daemon's
own functions, the start of jobs that still wait 30 s after their submission: a range
that is to hold the start in 80 % of the cases, widened by what came of earlier ones.
Prints how often it did, by size. GPUs are counted as one place; the log's columns are
those of `bench.replay`. Writes no file.
"""

import argparse
import heapq
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.counted import TICK, Jobs, Rules, Simulation
from bench.replay import parse_window
from bench.replay_log import read_log
from dorabatch.daemon.timers.forecasts import EVERY_SECONDS
from dorabatch.daemon.views.expected_starts import ROWS_MAX, moments_of
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.pool_decide import Decision, Move
from dorabatch.fairshare.turn.start_forecast import (
    HIGH,
    LOW,
    SAMPLES,
    Held,
    Line,
    StartRange,
    Widening,
    forecast,
    machine_of,
    sample_parts,
)

SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIZES = ((1, "1"), (4, "2 to 4"), (8, "5 to 8"), (64, "9 to 64"), (10**9, "65 or more"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """A job's range as shown, and as simulated before it is widened.

    In seconds of the log; None: too far back, or no place in time.
    """

    row: int
    shown: tuple[float, float] | None = None
    simulated: tuple[float, float] | None = None


class Foretelling(Simulation):
    """A replay that forecasts some of its jobs, once each."""

    def __init__(self, jobs: Jobs, capacity: int, asked: Iterable[int]) -> None:
        super().__init__(jobs, capacity, Rules())
        self.began = np.full(len(jobs.submit), np.nan)
        self.foretold: list[Foretold] = []
        self.widening = Widening()
        self._unknown: list[Foretold] = []
        due = ((float(jobs.submit[row]) + EVERY_SECONDS, int(row)) for row in asked)
        self._due = sorted(due)

    def _step(self) -> int:
        while self._due and self._due[0][0] <= self.events[0][0]:
            when, row = self._due.pop(0)
            if row in self.waiting:
                # An event of its own brings the replay to this very moment.
                heapq.heappush(self.events, (when, TICK, -1, 0))
                ended = super()._step()
                if row in self.waiting:
                    self._learn()
                    one = self._foretell(row)
                    self.foretold.append(one)
                    self._unknown.append(one)
                return ended
        return super()._step()

    def _do(self, decisions: list[Decision]) -> None:
        for move, row in decisions:
            if move is Move.START and np.isnan(self.began[row]):
                self.began[row] = self.now
        super()._do(decisions)

    def _foretell(self, row: int) -> Foretold:
        order = self._ranked()
        place = int(np.flatnonzero(order == row)[0])
        if place >= ROWS_MAX:
            return Foretold(row=row)
        # Who comes later changes nothing for this one.
        rows = order[: place + 1]
        machine = machine_of([self.capacity], self._holds())
        found = forecast(machine, self._line(rows), seed=int(rows[0])).get(row)
        if found is None:
            return Foretold(row=row)
        return Foretold(
            row=row,
            shown=self._seconds(self.widening.applied(found)),
            simulated=self._seconds(found),
        )

    def _learn(self) -> None:
        """Take over what became of forecasts until now, in the order of the starts."""
        rows = {one.row: one for one in self._unknown if one.shown is not None}
        known = [row for row in rows if self.began[row] <= self.now]
        for row in sorted(known, key=lambda row: (self.began[row], row)):
            low, high = rows.pop(row).shown or (0.0, 0.0)
            at = float(self.began[row])
            self.widening = self.widening.learned(is_early=at < low, is_late=at > high)
        self._unknown = list(rows.values())

    def _seconds(self, found: StartRange) -> tuple[float, float]:
        moments = moments_of(found, EPOCH + timedelta(seconds=self.now))
        low, high = ((one - EPOCH) / SECOND for one in (moments.low, moments.high))
        return low, high

    def _holds(self) -> Iterable[Held]:
        taken = 0
        for row in np.flatnonzero(~np.isnan(self.stint_began)).tolist():
            size = int(self.jobs.size[row])
            slots = tuple((0, number) for number in range(taken, taken + size))
            taken += size
            ran = self.now - float(self.stint_began[row])
            left = np.maximum(self._runs(row, ran) - ran, 0.0)
            yield Held(slots=slots, left=left)

    def _runs(self, row: int, ran: float = 0.0) -> np.ndarray:
        found = self.history.quantiles(
            sample_parts(),
            user=int(self.jobs.user[row]),
            gpus=int(self.jobs.size[row]),
            limit=float(self.jobs.limit[row]),
            ran=ran,
        )
        return np.array(found)

    def _line(self, rows: np.ndarray) -> Line:
        return Line(
            gpus=self.jobs.size[rows],
            kind=np.zeros(len(rows), dtype=np.int64),
            accepts=np.ones((1, 1), dtype=np.bool_),
            guess=np.arange(len(rows)),
            runs=np.array([self._runs(row) for row in rows.tolist()]),
            group=rows,
        )


def rated(
    replay: Foretelling, rows: list[Foretold], which: str = "shown"
) -> dict[str, float]:
    """How often the start was in, before and after the range; widths and waits in h."""
    jobs, made = replay.jobs, [one for one in rows if one.shown is not None]
    at = np.array([one.row for one in made], dtype=np.int64)
    ranges = np.array([getattr(one, which) for one in made], dtype=float)
    low, high = ranges.reshape(-1, 2).T
    start, count = replay.began[at], len(made)
    if not count:
        return {"forecasts": 0, "without": len(rows)}
    before, after = int((start < low).sum()), int((start > high).sum())
    return {
        "forecasts": count,
        "without": len(rows) - count,
        "inside": round((count - before - after) / count, 3),
        "before": round(before / count, 3),
        "after": round(after / count, 3),
        "width_median_h": round(float(np.median(high - low)) / 3600, 2),
        "wait_median_h": round(float(np.median(start - jobs.submit[at])) / 3600, 2),
    }


def measured(jobs: Jobs, capacity: int, sample: int) -> dict[str, Any]:
    """The figures of a replay; about `sample` jobs, evenly spread, are asked about."""
    if sample < 1:
        raise UserError(f"--sample {sample}: give 1 or more jobs")
    asked = np.unique(np.linspace(0, len(jobs.submit) - 1, sample).astype(np.int64))
    replay = Foretelling(jobs, capacity, asked.tolist())
    replay.run()
    sizes: dict[str, object] = {}
    least = 0
    for most, name in SIZES:
        rows = [
            one for one in replay.foretold if least < int(jobs.size[one.row]) <= most
        ]
        if rows:
            sizes[name] = rated(replay, rows)
        least = most
    return {
        "jobs": len(jobs.submit),
        "asked": len(asked),
        "aimed_at": HIGH - LOW,
        "samples": SAMPLES,
        "all": rated(replay, replay.foretold),
        "before_widening": rated(replay, replay.foretold, "simulated"),
        "by_gpus": sizes,
    }


def main(argv: list[str] | None = None) -> int:
    """Run and print; 2 for what cannot be replayed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--capacity", type=int, required=True, help="GPUs of the pool")
    parser.add_argument("--window", default="", help="FIRST,DAYS: part of the log")
    parser.add_argument("--sample", type=int, default=1000, help="jobs to ask about")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        window = parse_window(options.window)
        jobs = read_log(options.log, capacity=options.capacity, window=window, seed=0)
        found = measured(jobs, options.capacity, options.sample)
    except UserError as error:
        print(f"forecasts: {error.message}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    names = ("all", "before_widening")
    for name, row in {**{n: found[n] for n in names}, **found["by_gpus"]}.items():
        print(f"{name:16}", *(f"{key} {value}" for key, value in row.items()), sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
