"""Submissions: admit, gather, store many at once; each is on disk before its answer.

What waits while the disk is busy is stored together in one transaction. A key given
twice makes one workload. Places nothing.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError

from dorabatch.daemon.state.services import Services
from dorabatch.daemon.steps import Step
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, DorabatchError, Refused
from dorabatch.queue import store
from dorabatch.queue.records import Workload, WorkloadId
from dorabatch.queue.store import NewWorkload

AUTOMATIC_NAME = ""
"""A submission of this name is called w<id>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What a submission has become."""

    workload_id: WorkloadId
    workspace: str
    name: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    new: NewWorkload
    answer: "Future[Submitted]"


_Answers = list[tuple["Future[Submitted]", Submitted | DorabatchError]]


class Submissions:
    """Gathers admitted submissions and stores them together."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._taken: list[_Waiting] = []

    def submit(self, new: NewWorkload) -> "Future[Submitted]":
        """Queue one submission; the Future is done once it is on disk."""
        self._check_room()
        answer: Future[Submitted] = Future()
        with self._lock:
            self._waiting.append(_Waiting(new=new, answer=answer))
            is_first = len(self._waiting) == 1
        if is_first:
            self._services.writer.post(self._store).add_done_callback(self._answer)
        return answer

    def _check_room(self) -> None:
        limit = self._services.settings.limits.pending_max
        waiting = len(self._services.board.pending)
        if waiting >= limit:
            raise Refused(
                f"the queue is full: {waiting} containers wait (allowed: {limit}); "
                "try again later"
            )

    def _store(self, tx: Tx) -> _Answers:
        with self._lock:
            batch, self._waiting = self._waiting, []
        self._taken = batch
        keys = [w.new.submission_key for w in batch if w.new.submission_key]
        known = store.ids_of_submissions(tx, keys)
        answers: _Answers = []
        fresh: list[_Waiting] = []
        for waiting in batch:
            key = waiting.new.submission_key
            if key is not None and key in known:
                answers.append((waiting.answer, self._again(tx, known[key])))
            else:
                fresh.append(waiting)
        answers += self._insert(tx, fresh)
        return answers

    def _again(self, tx: Tx, workload_id: WorkloadId) -> Submitted | DorabatchError:
        workload = store.get_workload(tx, workload_id)
        assert workload is not None
        return _submitted(workload)

    def _insert(self, tx: Tx, fresh: list[_Waiting]) -> _Answers:
        if not fresh:
            return []
        noted = len(tx.changes)
        try:
            with tx.connection.begin_nested():
                made = _insert_named(tx, [waiting.new for waiting in fresh])
        except IntegrityError:
            del tx.changes[noted:]
        else:
            pairs = zip(fresh, made, strict=True)
            return [(w.answer, _submitted(workload)) for w, workload in pairs]
        if len(fresh) == 1:
            return [(fresh[0].answer, _name_taken(tx, fresh[0].new))]
        # One of them has a name in use: find out which, storing the others.
        return [found for waiting in fresh for found in self._insert(tx, [waiting])]

    def _answer(self, done: "Future[_Answers]") -> None:
        taken, self._taken = self._taken, []
        error = done.exception()
        if error is not None:
            self._fail(taken, error)
            return
        self._services.steps.reach(Step.SUBMIT_STORED)
        self._services.cycle_wanted.set()
        for answer, value in done.result():
            if isinstance(value, DorabatchError):
                answer.set_exception(value)
            elif isinstance(value, Submitted):
                answer.set_result(value)

    def _fail(self, taken: list[_Waiting], error: BaseException) -> None:
        batch = taken
        if not batch:
            # The transaction failed before it came to these submissions.
            with self._lock:
                batch, self._waiting = self._waiting, []
        for waiting in batch:
            waiting.answer.set_exception(error)


def _insert_named(tx: Tx, new: list[NewWorkload]) -> list[Workload]:
    # Ids are consecutive, so the automatic name can be known before the insert.
    first = store.take_ids(tx, "workload", len(new))
    named = [
        replace(one, name=f"w{first + index}") if one.name == AUTOMATIC_NAME else one
        for index, one in enumerate(new)
    ]
    return store.insert_workloads(tx, named, first)


def _submitted(workload: Workload) -> Submitted:
    return Submitted(
        workload_id=workload.workload_id,
        workspace=workload.workspace,
        name=workload.name,
        replicas=workload.replicas,
    )


def _name_taken(tx: Tx, new: NewWorkload) -> DorabatchError:
    holder = store.live_id(tx, new.zone, new.workspace, new.name)
    if holder is None:
        return ConflictError(
            f"workload {new.workspace}/{new.name}: its submission key was used in the "
            "same moment; submit again"
        )
    return ConflictError(
        f"workload {new.workspace}/{new.name} is live already (id {holder}); give "
        "another --name, cancel it, or change it with dora apply -f"
    )
