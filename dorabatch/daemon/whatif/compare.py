"""What would have been under other settings: several plays of one history, compared.

Pure: says which differences are larger than shaking the submissions makes, and how near
the play is to what really was. Plays and starts nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dorabatch.daemon.whatif.site_history import FloatArray, Played, WhatifQuestion

FIGURES = ("wait_h", "slowdown", "credits")
NOISE = "inside the noise"
NEAR_SECONDS = 600.0
"""A played wait is near a real one within so much, or half of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plays:
    """The plays of a question: shaken under both policies, and once as it was."""

    then: Sequence[Played]
    now: Sequence[Played]
    as_it_was: Played


def compared(question: WhatifQuestion, plays: Plays) -> dict[str, Any]:
    """Per user and over all: each figure then and now, its range and a verdict."""
    users = question.users
    figures = {
        name: [_figures_of(question, users, one) for one in getattr(plays, name)]
        for name in ("then", "now")
    }
    jobs = sum(job.is_counted for job in question.jobs)
    return {
        "jobs": jobs,
        "beside": len(question.jobs) - jobs,
        "left_out": question.left_out,
        "nodes": len(question.nodes),
        "capacity": question.gpus,
        "shakes": question.shakes,
        "cycles": plays.as_it_was.cycles,
        "changed": {
            key: [question.then.get(key, ""), text]
            for key, text in sorted(question.now.items())
            if question.then.get(key) != text
        },
        "credibility": credibility(question, plays.as_it_was),
        "over_all": {"user": "all", **_compared(figures, len(users))},
        "users": [
            {"user": user, **_compared(figures, place)}
            for place, user in enumerate(users)
        ],
    }


def credibility(question: WhatifQuestion, played: Played) -> dict[str, float]:
    """How near the waits of a play that was not shaken are to those that really were.

    Mean waits in hours, and the part of the jobs whose wait is near.
    """
    counts = np.array([job.is_counted for job in question.jobs])
    real = np.array([job.waited_us / 1e6 for job in question.jobs])[counts]
    wait = played.wait_s[counts]
    came = np.isfinite(wait)
    near = np.abs(wait[came] - real[came]) <= np.maximum(NEAR_SECONDS, real[came] / 2)
    return {
        "real_wait_h": float(real.mean()) / 3600,
        "played_wait_h": float(wait[came].mean()) / 3600 if came.any() else 0.0,
        "near": float(near.sum()) / len(real),
        "never_started": int((~came).sum()),
    }


def verdict(then: Sequence[float], now: Sequence[float]) -> str:
    """lower or higher where the ranges of the shaken replays do not meet."""
    if max(now) < min(then):
        return "lower"
    if min(now) > max(then):
        return "higher"
    return NOISE


def _figures_of(
    question: WhatifQuestion, users: Sequence[str], played: Played
) -> dict[str, FloatArray]:
    """Each figure by user, and over all at the end; what never started is left out."""
    number = {user: place for place, user in enumerate(users)}
    rows = [
        row
        for row, job in enumerate(question.jobs)
        if job.is_counted and math.isfinite(played.wait_s[row])
    ]
    jobs = [question.jobs[row] for row in rows]
    who = np.array([number[job.user] for job in jobs], dtype=np.int64)
    run = np.array([job.run_us / 1e6 for job in jobs], dtype=np.float64)
    wait = played.wait_s[rows]
    slow = np.maximum(1.0, (wait + run) / np.maximum(run, 10.0))
    cost = played.cost[rows]
    sums = np.bincount(who, weights=cost, minlength=len(users))
    short = [played.short_s.get(user, math.nan) for user in users]
    return {
        "wait_h": _means(wait / 3600, who, len(users)),
        "slowdown": _means(slow, who, len(users)),
        "credits": np.append(sums, cost.sum()),
        "exhausted": np.array([*short, math.nan]),
    }


def _means(values: FloatArray, who: np.ndarray, users: int) -> FloatArray:
    sums = np.bincount(who, weights=values, minlength=users)
    count = np.maximum(1, np.bincount(who, minlength=users))
    return np.append(sums / count, values.sum() / max(1, len(values)))


def _compared(
    played: Mapping[str, list[dict[str, FloatArray]]], place: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for figure in FIGURES:
        then = [float(one[figure][place]) for one in played["then"]]
        now = [float(one[figure][place]) for one in played["now"]]
        found[figure] = {
            "then": float(np.median(then)),
            "now": float(np.median(now)),
            "then_range": [min(then), max(then)],
            "now_range": [min(now), max(now)],
            "verdict": verdict(then, now),
        }
    for name in ("then", "now"):
        moments = [float(one["exhausted"][place]) for one in played[name]]
        known = [at for at in moments if not math.isnan(at)]
        # Used up in most of the replays, else not said to be.
        is_used_up = len(known) * 2 > len(moments)
        found[f"exhausted_{name}_s"] = float(np.median(known)) if is_used_up else None
    return found
