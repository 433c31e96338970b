"""A what-if starts everything when the whole daemon did, on the same small history."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.whatif.ask import HistoryReader
from dorabatch.daemon.whatif.play import Pace, Play
from dorabatch.daemon.whatif.site_history import WhatifQuestion
from dorabatch.node.identity import parse_identity
from dorabatch.queue.records import Submitter
from tests import checkers
from tests.makers import ALICE, BOB, RTX, START, V100
from tests.simulation.hands import submit, work
from tests.simulation.world import LIMITS, PRICES, World

STEP = 5
"""Seconds from one cycle of the live daemon to the next."""
JOBS = 70
SPAN = 1200
CAROL = Submitter(user="carol", uid=2003, gid=2003)
POLICY: dict[str, Any] = {"qos": {"high": 2}, "queues": {"bob": 1}, "nice_max": 100}
LANE = {**POLICY, "lane": {"fraction": 0.2, "trial": "20s", "stops_max": 2}}

PACE = Pace(least=STEP, again=STEP, look=STEP, whole=True)
Starts = dict[tuple[int, int], float]

pytestmark = pytest.mark.simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What somebody submits, and how long each run of it takes."""

    at: int
    who: Submitter
    gpus: int
    options: dict[str, Any]
    seconds: int


def invented(seed: int) -> list[Job]:
    """More work than there is room for, of all kinds."""
    draw = Random(seed)
    return sorted(
        (
            Job(
                at=STEP * draw.randrange(1, SPAN // STEP),
                who=draw.choice((ALICE, ALICE, BOB, CAROL)),
                gpus=(gpus := draw.choice((0, 1, 1, 1, 2, 2, 4))),
                options=_options(draw, gpus),
                seconds=STEP * draw.choice((2, 4, 10, 30, 60)),
            )
            for _ in range(JOBS)
        ),
        key=lambda job: job.at,
    )


def _options(draw: Random, gpus: int) -> dict[str, Any]:
    found: dict[str, Any] = {"gpus": str(gpus) if gpus else None}
    models = draw.choice((None, [V100, RTX], [V100], [RTX]))
    found["gpu_models"] = models if gpus and (gpus < 4 or models != [RTX]) else None
    found["cpus"] = draw.choice((1, 1, 2, 4))
    found["restartable"] = draw.random() < 0.5
    if draw.random() < 0.2:
        found["nice"] = draw.choice((1, 50))
    if draw.random() < 0.2:
        found["qos"] = "high"
    if draw.random() < 0.3:
        found["time"] = "600s"
    if draw.random() < 0.2:
        found["replicas"] = 2
    return found


def lived(world: World, jobs: list[Job]) -> None:
    """Let the daemon run the jobs to the last, a cycle every STEP seconds.

    What waits for the credit of another week is left waiting.
    """
    seconds: dict[int, int] = {}
    left = list(jobs)
    while left or world.running() or _may_start(world):
        world.clock.advance(STEP)
        now = (world.clock.now() - START).total_seconds()
        while left and left[0].at <= now:
            job = left.pop(0)
            key = submit(world, job.who, job.gpus, **job.options)
            seconds[key] = job.seconds
        for node, name in world.running():
            facts = node.containers[name].facts
            identity = parse_identity(facts.labels)
            assert identity is not None and facts.started_at is not None
            ran = world.clock.now() - facts.started_at
            if ran >= timedelta(seconds=seconds[identity.workload_id]):
                world.end_job(node, name, 0, oom=False)
        work(world)
        work(world)
        world.daemon.turn()
        work(world)
        work(world)


def _may_start(world: World) -> bool:
    waits = world.books.latest.last.waits.values()
    short = sum(why.code == OUT_OF_CREDIT for why in waits)
    return bool(world.books.board.pending.arrays().key.size > short)


def history_of(world: World) -> HistoryReader:
    """What reads the history of a world."""
    return HistoryReader(
        engine=world.effects.engine,
        policy=world.books.policy,
        users=world.books.users,
        fleet=world.books.fleet,
        credits=world.books.credits,
        settings=world.books.settings,
    )


def starts(question: WhatifQuestion, at_s: list[float]) -> Starts:
    """By workload and replica."""
    keys = [(job.workload, job.replica) for job in question.jobs]
    return dict(zip(keys, at_s, strict=True))


def both(
    seed: int, policy: dict[str, Any], credits: str, folder: Path
) -> tuple[Starts, Starts]:
    """The starts that were, and those of the what-if's play."""
    world = World(seed, folder, policy, credits=credits)
    lived(world, invented(seed))
    question = history_of(world).ask({}, START, 1, world.clock.now())
    world.close()
    begin = question.start_us
    real = starts(question, [(job.started_us - begin) / 1e6 for job in question.jobs])
    played = Play(question, question.then, pace=PACE).run()
    assert len({round(at) for at in real.values()}) > JOBS // 3
    return real, starts(question, played.start_s.tolist())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("policy", "credits"), [(POLICY, ""), (LANE, ""), (POLICY, PRICES)]
)
def test_a_whatif_does_what_the_daemon_did(
    seed: int, policy: dict[str, Any], credits: str, tmp_path: Path
) -> None:
    real, played = both(seed, policy, credits, tmp_path)
    assert checkers.different_starts(real, played, STEP) == []


def test_where_credit_stops_and_frees_runs_most_starts_are_the_same(
    tmp_path: Path,
) -> None:
    real, played = both(0, POLICY, PRICES + LIMITS, tmp_path)
    others = checkers.different_starts(real, played, STEP)
    assert len(others) <= len(real) // 5
