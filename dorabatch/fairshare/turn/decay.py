"""How past use fades: closed forms, so that no step length changes the result.

U(t + d) = U(t) 2^(-d/H) + r (H / ln 2) (1 - 2^(-d/H)) for a constant rate r.
Works on scalars and arrays; never reads a clock and never keeps state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dorabatch.errors import UserError

FloatArray = npt.NDArray[np.float64]
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
