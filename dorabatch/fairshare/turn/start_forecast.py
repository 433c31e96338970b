"""When what waits will start: a forward simulation over sampled ends, as a range.

In each sample every run lasts as long as one of its history's quantiles says; those
that wait take, in their order, the earliest place with enough free GPUs. Knows GPUs by
place (a model on a node) and nothing of cores, memory, ports or work that is not
submitted yet, so a forecast is checked afterwards. Pure; reads no clock.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SAMPLES = 40
LOW, HIGH = 0.1, 0.9
_STEP, _WIDEST = 0.05, 3.0
_NEAR_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """busy_for[sample, place, gpu]: seconds until a GPU is free; inf: there is none."""

    busy_for: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """GPUs that one run holds: (place, number) of each; left[sample] in seconds."""

    slots: tuple[tuple[int, int], ...]
    left: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What waits, in order; containers of one group start as soon as one of them does.

    gpus[row] on one place; accepts[kind, place] with kind[row]; runs[guess, sample]
    with guess[row] are the seconds it runs; group[row] is whose start is asked for.
    """

    gpus: IntArray
    kind: IntArray
    accepts: BoolArray
    guess: IntArray
    runs: FloatArray
    group: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRange:
    """Seconds from now: P10 and P90 of the start over the samples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Widening:
    """By how much simulated ranges are stretched: natural logarithms, 0 or more.

    Learned from what was shown and came: adaptive conformal inference (Gibbs and
    Candes 2021) on each end, in logarithms. A start outside an end moves that end out
    by 0.9 of a step, any other in by 0.1, so that in the long run one in ten is missed
    at each end, whatever the simulation leaves out.
    """

    early: float = 0.0
    late: float = 0.0

    def learned(self, *, is_early: bool, is_late: bool) -> "Widening":
        """The next one, after a start before its range, after it, or inside."""
        return Widening(
            early=_moved(self.early, is_missed=is_early),
            late=_moved(self.late, is_missed=is_late),
        )

    def applied(self, found: StartRange) -> StartRange:
        """A range as it is shown; what is near stretches as if a minute away."""
        out = math.exp(self.late)
        return StartRange(
            low=found.low * math.exp(-self.early),
            high=found.high * out + _NEAR_SECONDS * (out - 1.0),
        )


def sample_parts() -> tuple[float, ...]:
    """The quantiles that a run's samples are taken at, evenly spread."""
    return tuple((number + 0.5) / SAMPLES for number in range(SAMPLES))


def machine_of(counts: Sequence[int], holds: Iterable[Held]) -> Machine:
    """counts[place] GPUs, of which some are held by runs that end apart from others."""
    busy = np.full((SAMPLES, len(counts), max(counts)), np.inf)
    for place, count in enumerate(counts):
        busy[:, place, :count] = 0.0
    rng = np.random.default_rng(sum(counts))
    for held in holds:
        left = rng.permutation(held.left)
        for place, number in held.slots:
            here = busy[:, place, number]
            busy[:, place, number] = np.maximum(here, left)
    return Machine(busy_for=busy)


def forecast(machine: Machine, line: Line, *, seed: int = 0) -> dict[int, StartRange]:
    """Start ranges by group; a group that finds no place in some sample has none."""
    starts = simulated(machine, line, seed=seed)
    found: dict[int, StartRange] = {}
    for group in np.unique(line.group).tolist():
        first = np.sort(starts[:, line.group == group].min(axis=1))
        if np.isinf(first[-1]):
            continue
        count = len(first)
        low, high = int(LOW * count), int(np.ceil(HIGH * count)) - 1
        found[group] = StartRange(low=float(first[low]), high=float(first[high]))
    return found


def simulated(machine: Machine, line: Line, *, seed: int) -> FloatArray:
    """start[sample, row] in seconds from now; inf where no place is large enough."""
    busy = np.sort(machine.busy_for, axis=2)
    samples, _, widest = busy.shape
    each = np.arange(samples)
    rng = np.random.default_rng(seed)
    starts = np.full((samples, len(line.gpus)), np.inf)
    for row in range(len(line.gpus)):
        gpus = int(line.gpus[row])
        if not 0 < gpus <= widest:
            continue
        ready = busy[:, :, gpus - 1]
        ready = np.where(line.accepts[line.kind[row]], ready, np.inf)
        place = np.argmin(ready, axis=1)
        start = np.maximum(ready[each, place], 0.0)
        starts[:, row] = start
        # Runs are guessed apart from each other: not all long in the same sample.
        run = line.runs[line.guess[row]][rng.permutation(samples)]
        # Where no place will do, nothing is taken.
        here = np.flatnonzero(np.isfinite(start))
        taken = busy[here, place[here]]
        taken[:, :gpus] = (start + run)[here, None]
        busy[here, place[here]] = np.sort(taken, axis=1)
    return starts


def _moved(log: float, *, is_missed: bool) -> float:
    return min(_WIDEST, max(0.0, log + _STEP * (is_missed - LOW)))


def hit_text(hits: int, count: int) -> str:
    """How often such a range was right."""
    if count == 0:
        return "no forecast has been checked yet"
    plural = "" if count == 1 else "s"
    share = round(100 * hits / count)
    return f"in {share} % of {count} forecast{plural} the start was inside the range"
