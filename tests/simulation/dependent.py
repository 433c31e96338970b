"""Workloads that wait for others, and what must hold of them.

What holds is worked out here anew from the tables, by the words of docs/kinds.md.
"""

from dorabatch.queue.records import Container, Run, Workload, WorkloadId
from tests.simulation.deeds import wish
from tests.simulation.world import World

KINDS = ("after", "afterok", "afternotok", "afterany")


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
        disk = world.laws.on_disk()
        self.workloads = disk.workloads
        self.containers: dict[int, list[Container]] = {}
        for one in disk.containers:
            self.containers.setdefault(one.workload_id, []).append(one)
        owner = {one.container_id: one.workload_id for one in disk.containers}
        self.runs: dict[int, list[Run]] = {}
        for run in disk.runs:
            self.runs.setdefault(owner[run.container_id], []).append(run)

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
        shown = [c for c in self.containers.get(key, ()) if not c.removed]
        has_begun = any(c.started_at for c in self.containers.get(key, ())) or any(
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


def met_fates(world: World) -> set[tuple[str, bool]]:
    """What became of those that waited: each verdict, and whether it ran."""
    told = Told(world)
    return {
        (told.verdict(one), bool(told.runs.get(key)))
        for key, one in told.workloads.items()
        if one.dependency
    }
