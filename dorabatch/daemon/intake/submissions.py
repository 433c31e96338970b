"""Submissions: admit, gather, store many at once; each is on disk before its answer.

What waits while the disk is busy is stored together in one transaction. A key given
twice makes one workload. Places nothing.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError

from dorabatch.config import LimitSettings
from dorabatch.daemon.intake.dependencies import note_awaited
from dorabatch.daemon.steps import Step, Steps
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError, DorabatchError, Refused
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import NewWorkload, Workload, WorkloadId

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


_Batch = list[_Waiting]
_Answers = list[tuple["Future[Submitted]", Submitted | DorabatchError]]


class Submissions:
    """Gathers admitted submissions and stores them together.

    The batch that is open is written by whoever submits and closed by the writer's
    thread, under the lock; a batch that is closed is only read.
    """

    def __init__(
        self,
        *,
        limits: LimitSettings,
        board: Board,
        writer: Writer,
        steps: Steps,
        cycle_wanted: threading.Event,
    ) -> None:
        self._limits = limits
        self._board = board
        self._writer = writer
        self._steps = steps
        self._cycle_wanted = cycle_wanted
        self._lock = threading.Lock()
        self._open: _Batch | None = None

    def submit(self, new: NewWorkload) -> "Future[Submitted]":
        """Queue one submission; the Future is done once it is on disk."""
        self._check_room()
        waiting = _Waiting(new=new, answer=Future())
        # Nobody takes it back who stops waiting for it: it is stored all the same.
        waiting.answer.set_running_or_notify_cancel()
        with self._lock:
            batch, is_first = self._open, self._open is None
            if batch is None:
                batch = self._open = []
            batch.append(waiting)
        if is_first:
            self._post(batch)
        return waiting.answer

    def _post(self, batch: _Batch) -> None:
        stored = self._writer.post(lambda tx: self._store(tx, batch))
        # Done already, it answers in this thread, beside the writer's next batch.
        stored.add_done_callback(lambda done: self._answer(batch, done))

    def _check_room(self) -> None:
        limit = self._limits.pending_max
        waiting = len(self._board.pending)
        if waiting >= limit:
            raise Refused(
                f"the queue is full: {waiting} containers wait (allowed: {limit}); "
                "try again later"
            )

    def _close(self, batch: _Batch) -> None:
        """From now on nothing is added to this batch."""
        with self._lock:
            if self._open is batch:
                self._open = None

    def _store(self, tx: Tx, batch: _Batch) -> _Answers:
        self._close(batch)
        keys = [w.new.submission_key for w in batch if w.new.submission_key]
        known = store.ids_of_submissions(tx, keys)
        answers: _Answers = []
        fresh: _Batch = []
        for waiting in batch:
            key = waiting.new.submission_key
            if key is not None and key in known:
                answers.append((waiting.answer, _again(tx, known[key])))
            else:
                fresh.append(waiting)
        if fresh:
            made = _insert(tx, [waiting.new for waiting in fresh])
            answers += [
                (waiting.answer, _submitted(workload))
                for waiting, workload in zip(fresh, made, strict=True)
            ]
        return answers

    def _answer(self, batch: _Batch, done: "Future[_Answers]") -> None:
        # The transaction may have failed before it came to this batch.
        self._close(batch)
        error = done.exception()
        if isinstance(error, IntegrityError):
            self._sort_out(batch)
            return
        if error is not None:
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        self._steps.reach(Step.SUBMIT_STORED)
        self._cycle_wanted.set()
        for answer, value in done.result():
            _set(answer, value)

    def _sort_out(self, batch: _Batch) -> None:
        """One of a batch has a name in use, and none is stored: each by itself."""
        if len(batch) > 1:
            for waiting in batch:
                self._post([waiting])
            return
        (waiting,) = batch
        refusal = self._writer.post(lambda tx: _name_taken(tx, waiting.new))
        refusal.add_done_callback(
            lambda done: _set(waiting.answer, done.exception() or done.result())
        )


def _set(answer: "Future[Submitted]", value: "Submitted | BaseException") -> None:
    if isinstance(value, BaseException):
        answer.set_exception(value)
    else:
        answer.set_result(value)


def _again(tx: Tx, workload_id: WorkloadId) -> Submitted:
    workload = store.get_workload(tx, workload_id)
    assert workload is not None
    return _submitted(workload)


def _insert(tx: Tx, new: list[NewWorkload]) -> list[Workload]:
    # Ids are consecutive, so the automatic name can be known before the insert.
    first = store.take_ids(tx, "workload", len(new))
    named = [
        replace(one, name=f"w{first + index}") if one.name == AUTOMATIC_NAME else one
        for index, one in enumerate(new)
    ]
    made = store.insert_workloads(tx, named, first)
    note_awaited(tx, made)
    return made


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
            f"workload {new.workspace}/{new.name}: its name or submission key was in "
            "use a moment ago; submit again"
        )
    return ConflictError(
        f"workload {new.workspace}/{new.name} is live already (id {holder}); give "
        "another --name, cancel it, or change it with dora apply -f"
    )
