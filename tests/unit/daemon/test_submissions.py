"""Submissions: each is on disk before its answer, and each is answered."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dorabatch.config import LimitSettings
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
    assert list(parts.services.board.workloads) == [first.workload_id]


def test_a_live_name_is_refused_and_the_rest_of_its_batch_stored(
    parts: Parts,
) -> None:
    parts.submit("a")
    submit = parts.context.submissions.submit
    futures = [submit(new_workload(name)) for name in ("b", "a", "c")]
    assert futures[0].result(SECONDS).name == "b"
    with pytest.raises(ConflictError, match=r"alice/a is live already \(id 1\)"):
        futures[1].result(SECONDS)
    assert futures[2].result(SECONDS).name == "c"


def test_a_full_queue_refuses(parts: Parts) -> None:
    limits = LimitSettings(pending_max=2)
    services = parts.services
    services.settings = services.settings.model_copy(update={"limits": limits})
    parts.submit("a", replicas=2)
    with pytest.raises(Refused, match=r"2 containers wait \(allowed: 2\)"):
        parts.submit("b")


def test_a_database_error_is_answered_and_the_next_submission_stored(
    parts: Parts,
) -> None:
    writer = parts.services.writer
    writer.do(
        lambda tx: tx.connection.execute(text("ALTER TABLE versions RENAME TO v"))
    )
    future = parts.context.submissions.submit(new_workload("a"))
    assert isinstance(future.exception(SECONDS), SQLAlchemyError)
    writer.do(
        lambda tx: tx.connection.execute(text("ALTER TABLE v RENAME TO versions"))
    )
    assert parts.submit("b").name == "b"


def test_an_overtaken_daemon_answers_that_it_is(parts: Parts) -> None:
    writer = parts.services.writer
    writer.do(lambda tx: tx.connection.execute(text("UPDATE daemons SET epoch = 9")))
    for name in ("a", "b"):
        future = parts.context.submissions.submit(new_workload(name))
        assert isinstance(future.exception(SECONDS), LeaseLost)


def test_the_cycle_is_woken(parts: Parts) -> None:
    parts.services.cycle_wanted.clear()
    parts.submit("a")
    assert parts.services.cycle_wanted.is_set()
