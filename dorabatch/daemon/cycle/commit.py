"""Part of a plan -> guarded writes: QUEUED becomes PLACED where nothing has changed.

Runs inside the writer's transaction: holds, liens, history and events together. A
placement that no longer matches is left for the next cycle; nothing here talks to a
node.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dorabatch.daemon.cycle.places import Places
from dorabatch.daemon.cycle.plan_words import EVENT_KIND, choice_text
from dorabatch.daemon.state.charging import Billing, Placing
from dorabatch.daemon.state.credit_book import run_name
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.db import Tx
from dorabatch.errors import LeaseLost
from dorabatch.placer.arrays.types import Placement, RequestArrays
from dorabatch.placer.explain.why_here import NodeChoice
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Happening
from dorabatch.queue.transitions import new_run

MILLI = 1000

PART = 2000
"""So many placements or a few more are one transaction: other writes come between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What came of a plan: placed containers, and how many were stale.

    `refused[container]` says why credit does not let it start.
    """

    placed: tuple[Container, ...] = ()
    stale: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)

    def and_then(self, more: "Committed") -> "Committed":
        """What came of both."""
        return Committed(
            placed=self.placed + more.placed,
            stale=self.stale + more.stale,
            refused={**self.refused, **more.refused},
        )


def parts(
    placements: Sequence[Placement], requests: RequestArrays
) -> Iterator[list[Placement]]:
    """The placements in order, some PART at a time; all of a gang in one part."""
    gangs = requests.key[requests.gang], requests.group[requests.gang]
    gang_of = dict(zip(*(column.tolist() for column in gangs), strict=True))
    part: list[Placement] = []
    for one in placements:
        gang = gang_of.get(one.key)
        same = part and gang is not None and gang == gang_of.get(part[-1].key)
        if len(part) >= PART and not same:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


class PlanCommitter:
    """Writes what a plan comes to on the devices that are free right now."""

    def __init__(
        self,
        board: Board,
        snapshot: Snapshot,
        fleet: Fleet,
        billing: Billing,
        choices: Sequence[NodeChoice] = (),
        places: Places | None = None,
    ) -> None:
        self._board = board
        self._fleet = fleet
        self._billing = billing
        self._names = snapshot.cluster.names
        self._choices = {choice.key: choice for choice in choices}
        self._places = places or Places(board, snapshot, {})

    def commit(
        self, tx: Tx, placements: Sequence[Placement], now: datetime
    ) -> Committed:
        """Write a part of the plan; runs inside the writer's transaction."""
        # A node may have been removed or lost since the plan was made.
        views = {one.node: self._fleet.get(self._names[one.node]) for one in placements}
        gone = {row for row, view in views.items() if view is None or view.lost}
        there = [one for one in placements if one.node not in gone]
        changed = self._places.taken(there)
        admission = self._billing.admit(
            tx, [self._placing(after) for _, after in changed], now
        )
        refused = admission.refused
        done = _save(
            tx, [pair for pair in changed if pair[0].container_id not in refused]
        )
        self._billing.open(tx, admission, {run_name(after) for _, after in done}, now)
        store.insert_runs(tx, [new_run(after, now) for _, after in done])
        placed_now = [after for _, after in done]
        events = [_placed_event(after, now) for after in placed_now]
        store.insert_events(tx, events + self._choice_events(placed_now, now))
        return Committed(
            placed=tuple(after for _, after in done),
            stale=len(placements) - len(done) - len(refused),
            refused=refused,
        )

    def _placing(self, container: Container) -> Placing:
        workload = self._board.workloads[container.workload_id]
        return Placing(container=container, workload=workload)

    def _choice_events(
        self, placed_now: Sequence[Container], now: datetime
    ) -> list[Happening]:
        return [
            Happening(
                workload_id=one.workload_id,
                at=now,
                replica=one.replica,
                kind=EVENT_KIND,
                text=choice_text(
                    self._choices[one.container_id], self._names, one.attempt
                ),
            )
            for one in placed_now
            for choice in [self._choices.get(one.container_id)]
            if choice is not None
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committers:
    """Makes the committer of each plan."""

    board: Board
    fleet: Fleet
    billing: Billing
    policy: SitePolicy

    def of(
        self,
        snapshot: Snapshot,
        choices: Sequence[NodeChoice],
        trials: Mapping[int, int],
    ) -> PlanCommitter:
        """The one for a plan that was made on this snapshot."""
        places = Places(self.board, snapshot, trials, self.policy)
        return PlanCommitter(
            self.board, snapshot, self.fleet, self.billing, choices, places
        )


def _save(
    tx: Tx, changed: Sequence[tuple[Container, Container]]
) -> list[tuple[Container, Container]]:
    noted = len(tx.changes)
    savepoint = tx.connection.begin_nested()
    try:
        store.save_containers(tx, changed)
    except LeaseLost:
        savepoint.rollback()
        del tx.changes[noted:]
    else:
        savepoint.commit()
        return list(changed)
    # Somebody cancelled one of them in the same moment: find out which.
    done = []
    for pair in changed:
        savepoint = tx.connection.begin_nested()
        try:
            store.save_containers(tx, [pair])
        except LeaseLost:
            savepoint.rollback()
        else:
            savepoint.commit()
            done.append(pair)
    return done


def _placed_event(container: Container, now: datetime) -> Happening:
    hold = container.hold
    assert hold is not None
    count = len(hold.gpus) * hold.gpu_milli / MILLI
    gpus = f", {count:g} x {hold.gpu_models[0]}" if hold.gpus else ""
    seconds = container.trial_seconds
    trial = "" if seconds is None else f", on trial for {seconds} s"
    return Happening(
        workload_id=container.workload_id,
        at=now,
        replica=container.replica,
        kind="place",
        text=f"attempt {container.attempt} placed on {hold.node}{gpus}{trial}",
    )
