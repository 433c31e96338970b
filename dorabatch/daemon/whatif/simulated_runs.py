"""Containers in a play: they wait, start, stop and end in memory, at once and nodeless.

What the daemon's launcher, keepers and database do in months is done here by changing
records. Decides nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dorabatch.daemon.cycle.places import Places
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.state.claim_book import RunHistory
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.whatif.simulated_credit import SimulatedCredit
from dorabatch.placer.arrays.types import Placement
from dorabatch.queue import transitions as to
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId, Workload, WorkloadId
from dorabatch.queue.states import AfterStop, Outcome


class SimulatedRuns:
    """What waits and runs in a play; written and read by the one thread that plays."""

    def __init__(
        self,
        board: Board,
        usage: UsageBook,
        history: RunHistory,
        purse: SimulatedCredit,
    ) -> None:
        self._board = board
        self._usage = usage
        self._history = history
        self._purse = purse
        self._open: dict[WorkloadId, int] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits."""
        return len(self._board.pending) > 0

    @property
    def is_busy(self) -> bool:
        """Whether anything runs."""
        return len(self._board.held) > 0

    def get(self, key: ContainerId) -> Container:
        """A container as it is now."""
        return self._board.containers[key]

    def running(self) -> list[Container]:
        """Every container that holds something."""
        nodes = self._board.nodes_in_use()
        return [one for node in nodes for one in self._board.on_node(node)]

    def submit(self, workload: Workload, containers: Sequence[Container]) -> None:
        """Something new waits."""
        self._open[workload.workload_id] = len(containers)
        self.apply([workload, *containers])

    def start(
        self,
        scene: Scene,
        placements: Sequence[Placement],
        trials: dict[int, int],
        now: datetime,
    ) -> tuple[Container, ...]:
        """What found a place begins at once, where credit lets it."""
        places = Places(self._board, scene.snapshot, trials)
        placed = [after for _, after in places.taken(placements)]
        refused = self._purse.admit(placed, now).refused
        started = [
            to.running(to.starting(one), "", now)
            for one in placed
            if one.container_id not in refused
        ]
        self.apply(started)
        return tuple(started)

    def requeue(self, stopping: Container, now: datetime) -> Container:
        """What is to be stopped is gone and waits again."""
        self._purse.forgive(stopping, now)
        waiting = to.requeued(stopping, now)
        self.apply([waiting])
        return waiting

    def finish(self, key: ContainerId, outcome: Outcome, now: datetime) -> float:
        """A run ends by itself; what it cost, in credits."""
        one = self.get(key)
        stopping = to.stopping(one, AfterStop.FINISH, outcome, "")
        ended = replace(stopping, ended_at=now)
        run = self._usage.past_run(ended, now)
        assert run is not None
        meters = self._purse.meters_of(ended)
        row = self._usage.with_run(run, meters, now, self._usage.in_memory())
        cost = self._purse.settle(ended)
        changes: list[object] = [run, to.finished(ended, now)]
        changes += [row] if row is not None else []
        changes += self._workload_over(one.workload_id, now)
        self.apply(changes)
        return cost

    def apply(self, changes: Sequence[object]) -> None:
        """Let everything that is kept take over what changed."""
        for book in (self._board, self._usage, self._history):
            book.apply(changes)

    def _workload_over(self, key: WorkloadId, now: datetime) -> list[Workload]:
        """The workload, where this was the last of its containers."""
        self._open[key] -= 1
        if self._open[key]:
            return []
        del self._open[key]
        return [replace(self._board.workloads[key], ended_at=now)]
