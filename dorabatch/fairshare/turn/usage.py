"""Usage as state: what each node of the tree has used, faded and brought forward.

Decides what of a run counts as use, how use fades, and how far a returning user may be
behind (the catch-up cap). Values in, values out; never reads a clock and never touches
credits.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.account_tree import NO_PARENT, AccountTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

HALF_LIFE_SECONDS = 7 * 86_400.0


def decayed_usage(
    usage: FloatArray | float,
    rate: FloatArray | float,
    *,
    elapsed_seconds: FloatArray | float,
    half_life_seconds: float = HALF_LIFE_SECONDS,
) -> FloatArray:
    """Usage after so long at a constant rate per second.

    An infinite half-life keeps everything: usage grows by rate x time.
    """
    if not half_life_seconds > 0:
        raise UserError(
            f"half_life {half_life_seconds} s is not allowed; it must be above 0 "
            "(use .inf to never forget)"
        )
    elapsed = np.asarray(elapsed_seconds, dtype=np.float64)
    if math.isinf(half_life_seconds):
        return np.asarray(usage + np.asarray(rate) * elapsed, dtype=np.float64)
    # expm1 keeps the digits of a short step, where 1 - 2^x would cancel.
    lost = -np.expm1(-elapsed * (math.log(2) / half_life_seconds))
    grown = np.asarray(rate) * (half_life_seconds / math.log(2)) * lost
    return np.asarray(np.asarray(usage) * (1.0 - lost) + grown, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfLife:
    """A half-life and the moment from which it counts, in seconds."""

    since: float
    seconds: float


class Fading:
    """Half-lives that followed each other: a change fades what was used before it at
    the old pace up to its moment and at the new pace from then on.

    With one half-life this is `decayed_usage`.
    """

    def __init__(self, half_lives: Sequence[HalfLife]) -> None:
        first, *later = sorted(half_lives, key=lambda one: one.since)
        self.half_lives = (HalfLife(since=-math.inf, seconds=first.seconds), *later)
        for one in self.half_lives:
            decayed_usage(0.0, 0.0, elapsed_seconds=0.0, half_life_seconds=one.seconds)

    @property
    def present(self) -> float:
        """The newest half-life, in seconds."""
        return self.half_lives[-1].seconds

    def kept(self, start: FloatArray | float, end: float) -> FloatArray:
        """What is left at `end` of 1 at `start`; starts after the end keep 1."""
        lost = np.zeros_like(np.asarray(start, dtype=np.float64))
        for since, until, pace in self._spans():
            first = np.maximum(start, since)
            lost = lost + pace * np.maximum(0.0, min(end, until) - first)
        return np.asarray(np.exp(-lost), dtype=np.float64)

    def grown(
        self, start: FloatArray | float, end: FloatArray | float, at: float
    ) -> FloatArray:
        """What a rate of 1 per second from start to end has come to at `at`.

        Sum over the half-lives of (1 - e^(-pace length)) / pace, each faded from its
        own end to `at`; nothing counts after `at`.
        """
        begun = np.asarray(start, dtype=np.float64)
        ended = np.minimum(np.asarray(end, dtype=np.float64), at)
        total = np.zeros(np.broadcast(begun, ended).shape, dtype=np.float64)
        for since, until, pace in self._spans():
            last = np.minimum(ended, until)
            length = np.maximum(0.0, last - np.maximum(begun, since))
            part = -np.expm1(-pace * length) / pace if pace else length
            # A span that nothing lasted in adds 0, wherever it ends.
            total = total + part * self.kept(np.minimum(last, at), at)
        return total

    def _spans(self) -> list[tuple[float, float, float]]:
        ends = [one.since for one in self.half_lives[1:]] + [math.inf]
        return [
            (one.since, until, math.log(2) / one.seconds)
            for one, until in zip(self.half_lives, ends, strict=True)
        ]


CATCH_UP_SECONDS = 12 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the tree has used up to one moment.

    own[node]   decayed use of the node itself; accounts only hold caught-up use
    rate[node]  use per second since then
    at_seconds  the moment
    """

    own: FloatArray
    rate: FloatArray
    at_seconds: float


def no_usage(tree: AccountTree, *, at_seconds: float) -> Usage:
    """The state of a tree that nobody has used yet."""
    zero = np.zeros(len(tree), dtype=np.float64)
    return Usage(own=zero, rate=zero.copy(), at_seconds=at_seconds)


def brought_forward(
    usage: Usage, now_seconds: float, *, half_life_seconds: float = HALF_LIFE_SECONDS
) -> Usage:
    """The same state at a later moment; a clock that went back changes nothing."""
    elapsed = max(0.0, now_seconds - usage.at_seconds)
    own = decayed_usage(
        usage.own,
        usage.rate,
        elapsed_seconds=elapsed,
        half_life_seconds=half_life_seconds,
    )
    return replace(usage, own=own, at_seconds=usage.at_seconds + elapsed)


def whole_usage(usage: Usage) -> IntArray:
    """usage[node] as integers, what `ranking.fair_tree` compares exactly."""
    return np.rint(usage.own).astype(np.int64)


def caught_up(
    tree: AccountTree,
    own: FloatArray,
    *,
    joining: IntArray,
    active: BoolArray,
    capacity_rate: float,
    catch_up_seconds: float = CATCH_UP_SECONDS,
) -> FloatArray:
    """own[node] after the joining users' use is raised to the catch-up floor.

    At each level where a node turns from idle to active:
    U <- max(U, s min(U_i / s_i over the active) - c R s / S), S the shares of the
    active with the joining one, R what the level's parent is entitled to of the
    capacity. `active[node]` are the users that were active before.
    """
    raised = own.copy()
    was_active = _active_nodes(tree, active)
    for user in joining:
        for node in _path(tree, int(user)):
            if was_active[node]:
                break
            total = tree.totals(raised)
            floor = _floor(
                tree, total, was_active, node, catch_up_seconds * capacity_rate
            )
            raised[node] += max(0.0, floor - total[node])
        was_active[_path(tree, int(user))] = True
    return raised


def _path(tree: AccountTree, node: int) -> list[int]:
    path: list[int] = []
    while node != NO_PARENT:
        path.append(node)
        node = int(tree.above[node])
    return path


def _active_nodes(tree: AccountTree, active: BoolArray) -> BoolArray:
    nodes = active.copy()
    for level in range(int(tree.level.max(initial=0)), 0, -1):
        rows = np.flatnonzero((tree.level == level) & nodes)
        nodes[tree.above[rows]] = True
    return nodes


def _floor(
    tree: AccountTree,
    total: FloatArray,
    active: BoolArray,
    node: int,
    allowance: float,
) -> float:
    """The least use of a node that joins now; `allowance` is c R for the whole."""
    own_shares = int(tree.shares[node])
    others = _rivals(tree, active, node)
    if own_shares <= 0 or len(others) == 0:
        return 0.0
    part = 1.0
    for above in _path(tree, node)[1:]:
        part *= _fraction(tree, active, above)
    least = float(np.min(total[others] / tree.shares[others]))
    return own_shares * least - allowance * part * _fraction(tree, active, node)


def _rivals(tree: AccountTree, active: BoolArray, node: int) -> IntArray:
    same = (tree.above == tree.above[node]) & (tree.shares > 0) & active
    same[node] = False
    return np.flatnonzero(same)


def _fraction(tree: AccountTree, active: BoolArray, node: int) -> float:
    own_shares = max(0, int(tree.shares[node]))
    total = own_shares + int(tree.shares[_rivals(tree, active, node)].sum())
    return own_shares / total if total else 1.0


def use_rate(weights: Iterable[float], gpu_milli: int) -> float:
    """Thousandths of weighted GPUs that a run uses; one weight a GPU it holds."""
    return sum(weights) * gpu_milli


def counted_spans(
    start: float, end: float, turns: Sequence[tuple[float, bool]]
) -> list[tuple[float, float]]:
    """The parts of a run that count as use.

    `turns` are (moment, whether it is paid from then on); a later one replaces those
    before it from its moment on. Without any it counts as a whole. What is free, as
    scavenger or as stopped trial, is nobody's use.
    """
    if not turns:
        return [(start, end)]
    moments = [moment for moment, _ in turns]
    ends = [min([*moments[place:], end]) for place in range(1, len(moments) + 1)]
    spans = [
        (max(start, since), min(until, end))
        for (since, is_paid), until in zip(turns, ends, strict=True)
        if is_paid
    ]
    return [(since, until) for since, until in spans if since < until]
