"""Submissions: each is on disk before its answer, and each is answered."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from dorabatch.config import LimitSettings
from dorabatch.daemon.intake.submissions import Submitted
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, LeaseLost, Refused
from tests.makers import new_workload
from tests.unit.daemon.conftest import SECONDS, Parts


def test_an_unnamed_workload_is_called_by_its_id(parts: Parts) -> None:
    parts.submit("first")
    done = parts.submit("", replicas=2)
    assert (done.name, done.replicas) == (f"w{done.workload_id}", 2)


def test_a_key_given_twice_makes_one_workload(parts: Parts) -> None:
    first = parts.submit("a", submission_key="k")
    assert parts.submit("b", submission_key="k") == first
    assert list(parts.books.board.workloads) == [first.workload_id]


def test_a_live_name_is_refused_and_the_rest_of_its_batch_stored(
    parts: Parts,
) -> None:
    parts.submit("a")
    submit = parts.submissions.submit
    futures = [submit(new_workload(name)) for name in ("b", "a", "c")]
    assert futures[0].result(SECONDS).name == "b"
    with pytest.raises(ConflictError, match=r"alice/a is live already \(id 1\)"):
        futures[1].result(SECONDS)
    assert futures[2].result(SECONDS).name == "c"


def test_a_full_queue_refuses(parts: Parts) -> None:
    limits = LimitSettings(pending_max=2)
    settings = parts.books.settings.model_copy(update={"limits": limits})
    parts = parts.again(settings=settings)
    parts.submit("a", replicas=2)
    with pytest.raises(Refused, match=r"2 containers wait \(allowed: 2\)"):
        parts.submit("b")


def test_a_database_error_is_answered_and_the_next_submission_stored(
    parts: Parts,
) -> None:
    writer = parts.effects.writer
    writer.do(
        lambda tx: tx.connection.execute(text("ALTER TABLE versions RENAME TO v"))
    )
    future = parts.submissions.submit(new_workload("a"))
    assert isinstance(future.exception(SECONDS), SQLAlchemyError)
    writer.do(
        lambda tx: tx.connection.execute(text("ALTER TABLE v RENAME TO versions"))
    )
    assert parts.submit("b").name == "b"


def test_an_overtaken_daemon_answers_that_it_is(parts: Parts) -> None:
    writer = parts.effects.writer
    writer.do(lambda tx: tx.connection.execute(text("UPDATE daemons SET epoch = 9")))
    for name in ("a", "b"):
        future = parts.submissions.submit(new_workload(name))
        assert isinstance(future.exception(SECONDS), LeaseLost)


def test_the_cycle_is_woken(parts: Parts) -> None:
    parts.effects.cycle_wanted.clear()
    parts.submit("a")
    assert parts.effects.cycle_wanted.is_set()


class LateWriter:
    """Does each action at once; of the first batch nobody is told until later.

    What is to be committed later is rolled back: only the moments count.
    """

    def __init__(self, engine: Engine, between: Callable[[], None]) -> None:
        self.posted: list[Future[Any]] = []
        self._engine = engine
        self._between = between

    def post(self, action: Callable[[Tx], Any]) -> "Future[Any]":
        """The first is done before its Future is given, and others come meanwhile."""
        future: Future[Any] = Future()
        self.posted.append(future)
        with self._engine.connect() as connection:
            value = action(Tx(connection))
        if len(self.posted) == 1:
            future.set_result(value)
            self._between()
        return future


def test_a_batch_is_answered_by_its_own_transaction_only(parts: Parts) -> None:
    answers: list[Future[Submitted]] = []

    def between() -> None:
        answers.append(submissions.submit(new_workload("b")))

    writer = LateWriter(parts.effects.engine, between)
    submissions = parts.again(writer=writer).submissions
    assert submissions.submit(new_workload("a")).result(SECONDS).name == "a"
    (second,) = answers
    assert not second.done()
    writer.posted[1].set_exception(LeaseLost("another dorad has taken over"))
    assert isinstance(second.exception(SECONDS), LeaseLost)


def test_who_stops_waiting_takes_no_submission_back(parts: Parts) -> None:
    answer = parts.submissions.submit(new_workload("a"))
    assert not answer.cancel()
    assert answer.result(SECONDS).name == "a"
