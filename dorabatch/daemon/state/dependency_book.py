"""Who waits for which workloads, and where each of these waits stands.

Keeps what has become of a workload only while somebody live waits for it. Written by
the writer's thread after each commit, read by the cycle and by those who tell of it;
reads the database at the daemon's start only. What a state means for a wait,
`queue.awaited` decides.
"""

import threading
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from dorabatch.queue.awaited import (
    AwaitedFact,
    Judged,
    judge_condition,
    judge_dependency,
    state_words,
)
from dorabatch.queue.awaited_rows import awaited_facts
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Workload, WorkloadId
from dorabatch.resources.dependency import Condition, parse_dependency


def awaited_ids(text: str) -> set[WorkloadId]:
    """The workloads that a stored dependency names."""
    conditions = parse_dependency(text).conditions if text else ()
    return {_id_of(one) for one in conditions}


def _id_of(condition: Condition) -> WorkloadId:
    return WorkloadId(int(condition.ref))


class _Wait:
    """One dependency and the live workloads that have it; `judged` while it is true."""

    __slots__ = ("dependency", "judged", "workloads")

    def __init__(self, text: str) -> None:
        self.dependency = parse_dependency(text)
        self.workloads: set[WorkloadId] = set()
        self.judged: Judged | None = None


class DependencyBook:
    """The dependencies of what is live in one zone."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._text_of: dict[WorkloadId, str] = {}
        self._waits: dict[str, _Wait] = {}
        self._waiters: dict[WorkloadId, set[str]] = {}
        self._facts: dict[WorkloadId, AwaitedFact] = {}

    def __len__(self) -> int:
        return len(self._text_of)

    def load(self, connection: Connection, live: Iterable[object]) -> None:
        """Begin with what is live, and read what has become of what it waits for."""
        self.apply(live)
        self.apply(awaited_facts(connection, list(self._waiters)))

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed, in its order."""
        with self._lock:
            for change in changes:
                if isinstance(change, Container):
                    self._take_container(change)
                elif isinstance(change, Workload):
                    self._take_workload(change)
                elif isinstance(change, AwaitedFact):
                    self._take_fact(change)

    def judged(self, workloads: Sequence[int]) -> list[Judged | None]:
        """Where each of these waiting workloads stands; None: not known yet."""
        with self._lock:
            return [self._judged(WorkloadId(key)) for key in workloads]

    def conditions(self, workload: Workload) -> list[tuple[Condition, Judged]]:
        """Each condition of a live workload with where it stands."""
        with self._lock:
            wait = self._waits.get(workload.dependency)
            if wait is None:
                return []
            conditions = wait.dependency.conditions
            return [(one, self._condition(one)) for one in conditions]

    def _judged(self, key: WorkloadId) -> Judged | None:
        workload = self._board.workloads.get(key)
        wait = self._waits.get(workload.dependency) if workload else None
        if wait is None:
            return None
        if wait.judged is None:
            wait.judged = judge_dependency(wait.dependency, self._condition)
        return wait.judged

    def _condition(self, condition: Condition) -> Judged:
        key = _id_of(condition)
        fact = self._facts.get(key) or AwaitedFact(workload_id=key)
        return judge_condition(
            condition, fact, lambda: state_words(self._board.containers_of(key))
        )

    def _take_container(self, container: Container) -> None:
        if container.workload_id not in self._waiters:
            return
        has_begun = container.started_at is not None
        self._take_fact(
            AwaitedFact(workload_id=container.workload_id, has_begun=has_begun)
        )

    def _take_workload(self, workload: Workload) -> None:
        key = workload.workload_id
        text = "" if workload.ended_at else workload.dependency
        before = self._text_of.get(key, "")
        if text == before:
            return
        if text:
            self._begin(key, text)
        else:
            del self._text_of[key]
        if before:
            self._leave(key, before)

    def _take_fact(self, fact: AwaitedFact) -> None:
        """Something has become of a workload, if anybody waits for it."""
        key = fact.workload_id
        if key not in self._waiters:
            return
        known = self._facts.get(key)
        self._facts[key] = fact if known is None else known.and_then(fact)
        for text in self._waiters[key]:
            self._waits[text].judged = None

    def _begin(self, key: WorkloadId, text: str) -> None:
        self._text_of[key] = text
        wait = self._waits.get(text)
        if wait is None:
            wait = self._waits[text] = _Wait(text)
            for one in wait.dependency.conditions:
                self._waiters.setdefault(_id_of(one), set()).add(text)
        wait.workloads.add(key)

    def _leave(self, key: WorkloadId, text: str) -> None:
        """A workload waits so no more; nothing is kept that nobody waits for."""
        wait = self._waits[text]
        wait.workloads.discard(key)
        if wait.workloads:
            return
        del self._waits[text]
        for one in wait.dependency.conditions:
            awaited = _id_of(one)
            left = self._waiters.get(awaited, set())
            left.discard(text)
            if not left:
                self._waiters.pop(awaited, None)
                self._facts.pop(awaited, None)
