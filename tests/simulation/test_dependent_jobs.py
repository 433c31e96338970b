"""Whatever happens: nothing starts before what it waits for, and all that may starts.

What holds is worked out here anew from the tables, by the words of docs/kinds.md.
"""

import logging
from pathlib import Path

import pytest

from dorabatch.db import Tx
from dorabatch.queue.records import Container, Run, Workload, WorkloadId
from dorabatch.queue.store import get_workload
from tests.simulation.deeds import DEEDS, interfere, step, wish
from tests.simulation.world import World, all_containers, all_runs

SEEDS = 6
STEPS = 250
KINDS = ("after", "afterok", "afternotok", "afterany")

pytestmark = pytest.mark.simulation


def submit_after(world: World) -> None:
    """A user submits what waits for one to three of the latest workloads."""
    draw, intake = world.random, world.parts.intake
    latest = sorted(world.books.board.workloads)[-12:]
    if not latest:
        return
    some = [draw.choice(latest) for _ in range(draw.choice((1, 1, 2, 3)))]
    parts = [f"{draw.choice(KINDS)}:{key}" for key in some]
    text = draw.choice((",", "?")).join(parts)
    document = wish(world, f"d{draw.randrange(10**6)}")
    spec = document.spec.model_copy(update={"dependency": text})
    document = document.model_copy(update={"spec": spec})
    who = world.caller(draw.choice(world.users()))
    new, _ = intake.admission.admit(who, document)
    intake.submissions.submit(new).result(20)


class Told:
    """The database as it is now, asked without any of the daemon's books."""

    def __init__(self, world: World) -> None:
        with world.effects.engine.connect() as connection:
            self.containers: dict[int, list[Container]] = {}
            for one in all_containers(connection):
                self.containers.setdefault(one.workload_id, []).append(one)
            owner = {
                c.container_id: c.workload_id
                for many in self.containers.values()
                for c in many
            }
            self.runs: dict[int, list[Run]] = {}
            for run in all_runs(connection):
                self.runs.setdefault(owner[run.container_id], []).append(run)
            found = [
                get_workload(Tx(connection), WorkloadId(key)) for key in self.containers
            ]
            self.workloads = {one.workload_id: one for one in found if one}

    def verdict(self, workload: Workload) -> str:
        """Whether what it waits for holds, waits or never will."""
        text = workload.dependency
        divider = "?" if "?" in text else ","
        each = [
            self._one(part.split(":")[0], int(key))
            for part in text.split(divider)
            for key in part.split(":")[1:]
        ]
        few, many = ("holds", "never") if divider == "?" else ("never", "holds")
        if few in each:
            return few
        return many if set(each) == {many} else "waits"

    def _one(self, kind: str, key: int) -> str:
        shown = [c for c in self.containers[key] if not c.removed]
        has_begun = any(c.started_at for c in self.containers[key]) or any(
            run.started_at for run in self.runs.get(key, [])
        )
        if kind == "after" and has_begun:
            return "holds"
        if self.workloads[WorkloadId(key)].ended_at is None:
            return "waits"
        is_ok = bool(shown) and all(c.outcome == "done" for c in shown)
        holds = {
            "after": has_begun,
            "afterok": is_ok,
            "afternotok": not is_ok,
            "afterany": True,
        }
        return "holds" if holds[kind] else "never"


def broken_waits(world: World) -> list[str]:
    """What started too early, and where the book is wrong."""
    told = Told(world)
    broken = []
    for key, one in told.workloads.items():
        if not one.dependency:
            continue
        verdict = told.verdict(one)
        if told.runs.get(key) and verdict != "holds":
            broken.append(f"{key} ran, and {one.dependency} {verdict}")
        if one.ended_at is None:
            (judged,) = world.books.dependencies.judged([key])
            if judged is None or str(judged.verdict) != verdict:
                broken.append(f"{key} {one.dependency}: {judged}, not {verdict}")
    return broken


def fates_of(seed: int, folder: Path) -> set[tuple[str, bool]]:
    """One run whose every step keeps the laws: each verdict, and whether it ran."""
    world = World(seed, folder)
    world.interfere = lambda: interfere(world)
    world.is_quiet = False
    for _ in range(STEPS):
        step(world, (*DEEDS, (submit_after, 12)))
        broken = [*broken_waits(world), *world.broken()]
        assert not broken, (seed, broken, world.trail[-25:])
    world.drain()
    assert not [*broken_waits(world), *world.broken_at_end()]
    assert len(world.books.dependencies) == 0
    told = Told(world)
    world.close()
    return {
        (told.verdict(one), bool(told.runs.get(key)))
        for key, one in told.workloads.items()
        if one.dependency
    }


def test_nothing_starts_before_what_it_waits_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "dorabatch")
    fates: set[tuple[str, bool]] = set()
    for seed in range(SEEDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        fates |= fates_of(seed, folder)
        assert not caplog.records, seed
    assert {("holds", True), ("never", False)} <= fates
