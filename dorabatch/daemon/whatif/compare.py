"""What would have been under other settings: a site's history played several times.

Values in, values out: plays the same jobs under two policies, with submissions shaken,
and says which differences are larger than the shaking makes. Reads and starts nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from dorabatch.daemon.whatif.simulate import Budgets, Jobs, Rules, Simulation
from dorabatch.fairshare.ranking import Formula
from dorabatch.fairshare.settings import policy_settings
from dorabatch.fairshare.share_edit import seat_name, seated
from dorabatch.fairshare.shares import Account, build_tree

FloatArray = npt.NDArray[np.float64]

SHAKE_SECONDS = 600.0
FIGURES = ("wait_h", "slowdown", "credits")
NOISE = "inside the noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """One job of the history: seconds since the history's start, and GPUs."""

    user: str
    submit: float
    seconds: float
    limit: float | None
    gpus: int
    may_try: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to play: jobs, the tree, settings by key, weekly credits, price an hour."""

    jobs: tuple[PastJob, ...]
    accounts: tuple[Account, ...]
    then: Mapping[str, str]
    now: Mapping[str, str]
    credits: Mapping[str, float]
    price: float
    capacity: int
    shakes: int


def answer(
    question: Question, on_progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Per user and over all: each figure then and now, its range and a verdict."""
    users = sorted({job.user for job in question.jobs})
    played: dict[str, list[dict[str, FloatArray]]] = {"then": [], "now": []}
    total = 2 * question.shakes
    for seed in range(1, question.shakes + 1):
        for name, texts in (("then", question.then), ("now", question.now)):
            done = sum(len(one) for one in played.values())

            def progress(part: float, done: int = done) -> None:
                if on_progress is not None:
                    on_progress((done + part) / total)

            played[name].append(_play(question, users, texts, seed, progress))
    rows = [
        {"user": user, **_figures(played, place)} for place, user in enumerate(users)
    ]
    return {
        "jobs": len(question.jobs),
        "capacity": question.capacity,
        "shakes": question.shakes,
        "changed": {
            key: [question.then.get(key, ""), text]
            for key, text in sorted(question.now.items())
            if question.then.get(key) != text
        },
        "over_all": {"user": "all", **_figures(played, len(users))},
        "users": rows,
    }


def verdict(then: Sequence[float], now: Sequence[float]) -> str:
    """lower or higher where the ranges of the shaken replays do not meet."""
    if max(now) < min(then):
        return "lower"
    if min(now) > max(then):
        return "higher"
    return NOISE


def _play(
    question: Question,
    users: list[str],
    texts: Mapping[str, str],
    seed: int,
    on_progress: Callable[[float], None],
) -> dict[str, FloatArray]:
    """Each figure by user, and over all at the end."""
    tree = build_tree(seated(question.accounts, users))
    names = {row.name for row in question.accounts if not row.is_user}
    node = [tree.index[seat_name(user, names)] for user in users]
    jobs, who = _shaken(question, dict(zip(users, node, strict=True)), seed)
    budgets = None
    if question.credits and question.price > 0:
        credit = np.full(int(jobs.user.max()) + 1, math.inf)
        for user, seat in zip(users, node, strict=True):
            credit[seat] = question.credits.get(user, 0.0)
        budgets = Budgets(credit=credit, price=question.price)
    outcome = Simulation(
        jobs,
        question.capacity,
        rules_of(texts),
        tree=tree,
        budgets=budgets,
        on_progress=on_progress,
    ).run()
    wait = outcome.done - jobs.submit - jobs.duration
    slow = np.maximum(1.0, (wait + jobs.duration) / np.maximum(jobs.duration, 10.0))
    start, close = outcome.done - jobs.duration, float(jobs.submit.max())
    ran = np.clip(np.minimum(outcome.done, close) - start, 0, None) * jobs.size
    place = np.array([users.index(user) for user in who])
    return {
        "wait_h": _by_user(wait / 3600, place, len(users)),
        "slowdown": _by_user(slow, place, len(users)),
        "credits": _by_user(
            ran * question.price / 3600, place, len(users), is_sum=True
        ),
        "exhausted": np.append(outcome.exhausted[node], np.nan),
    }


def rules_of(texts: Mapping[str, str]) -> Rules:
    """The replay's rules under settings, as the daemon reads them."""
    settings = policy_settings(texts)
    formula = Formula(
        weights=settings.weights, age_full_seconds=settings.age_full_seconds
    )
    return Rules(
        formula=formula,
        half_life_seconds=settings.half_life_seconds,
        catch_up_seconds=settings.catch_up_seconds,
        lane=settings.lane if settings.lane.part_ppm else None,
    )


def _shaken(
    question: Question, node: Mapping[str, int], seed: int
) -> tuple[Jobs, list[str]]:
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-SHAKE_SECONDS, SHAKE_SECONDS, len(question.jobs))
    submit = np.array([job.submit for job in question.jobs]) + shift
    submit = np.maximum(0.0, submit).round()
    order = np.argsort(submit, kind="stable")
    jobs = [question.jobs[place] for place in order]
    limits = [math.inf if job.limit is None else job.limit for job in jobs]
    shaken = Jobs(
        submit=submit[order],
        duration=np.array([max(1.0, job.seconds) for job in jobs]),
        limit=np.array(limits),
        size=np.array([job.gpus for job in jobs], dtype=np.int64),
        user=np.array([node[job.user] for job in jobs], dtype=np.int64),
        may_try=np.array([job.may_try for job in jobs]),
    )
    return shaken, [job.user for job in jobs]


def _by_user(
    values: FloatArray,
    place: npt.NDArray[np.int64],
    users: int,
    *,
    is_sum: bool = False,
) -> FloatArray:
    sums = np.bincount(place, weights=values, minlength=users)
    if is_sum:
        return np.append(sums, values.sum())
    return np.append(sums / np.bincount(place, minlength=users), values.mean())


def _figures(
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


def plot_html(result: Mapping[str, Any]) -> str:
    """A page with bars of each user's mean wait, then and now, with its range."""
    rows = [result["over_all"], *result["users"]]
    most = max(
        [0.001, *(row["wait_h"][f"{n}_range"][1] for row in rows for n in _SIDES)]
    )
    height = 30 + 44 * len(rows)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<title>What if: mean wait</title><body><h1>Mean wait in hours</h1>"
        f"<p>{escape(_changed_text(result))}. Grey: then, blue: now; the line is the "
        f"range of {result['shakes']} shaken replays.</p>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        'font-family="sans-serif" font-size="13">'
    ]
    for place, row in enumerate(rows):
        top = 20 + 44 * place
        parts.append(f'<text x="0" y="{top + 18}">{escape(str(row["user"]))}</text>')
        for side, (name, colour) in enumerate(_SIDES.items()):
            figure = row["wait_h"]
            low, high = (500 * at / most for at in figure[f"{name}_range"])
            y = top + 16 * side
            parts.append(
                f'<rect x="160" y="{y}" width="{500 * figure[name] / most:.1f}" '
                f'height="13" fill="{colour}"/>'
                f'<path d="M{160 + low:.1f} {y + 6}H{160 + high:.1f}" stroke="black"/>'
                f'<text x="{168 + high:.1f}" y="{y + 11}">{figure[name]:.2f}</text>'
            )
    return "".join([*parts, "</svg></body></html>\n"])


_SIDES = {"then": "#999", "now": "#36c"}


def _changed_text(result: Mapping[str, Any]) -> str:
    pairs = result["changed"].items()
    return (
        ", ".join(f"{key}: {old} -> {new}" for key, (old, new) in pairs) or "no change"
    )
