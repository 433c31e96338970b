"""What a reader of a log gets, by the state of the container."""

import asyncio

import pytest

from dorabatch.daemon.api.log_routes import LogRoutes, Reading
from dorabatch.daemon.runs.assembly import requests_of
from dorabatch.daemon.runs.log_tails import LogTails
from dorabatch.errors import NotFound, UserError
from dorabatch.queue import transitions as to
from dorabatch.queue.board import Board
from dorabatch.queue.states import Outcome
from tests.unit.daemon.conftest import SECONDS, Parts

BYTES_MAX = 1000


@pytest.fixture
def ended(parts: Parts) -> Parts:
    """Workload 1 ran once and is done; its log is on disk."""
    parts.submit("a")
    one, now = parts.run(parts.container(1)), parts.clock.now()
    path = parts.effects.log_files.path(1, 1, 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\n")
    stopped = parts.change(one, lambda c: to.told_to_end(c, Outcome.DONE, "", now))
    parts.change(stopped, lambda c: to.finished(c, now))
    return parts


def logs_of(parts: Parts) -> LogRoutes:
    return LogRoutes(
        finder=parts.views.finder,
        keepers=parts.keepers,
        requests=requests_of(parts.books, parts.effects),
        files=parts.effects.log_files,
        tails=LogTails(parts.books.settings.state_dir, BYTES_MAX),
    )


async def copy(logs: LogRoutes, board: Board, **query: str) -> bytes:
    reading = Reading(logs, board.workloads[1], query)
    await reading.begin()
    return b"".join([piece async for piece in reading.pieces()])


def read(parts: Parts, **query: str) -> bytes:
    """All that a reader gets."""
    return asyncio.run(copy(logs_of(parts), parts.books.board, **query))


def test_the_log_of_what_has_ended_is_read_whole(ended: Parts) -> None:
    assert read(ended) == b"one\ntwo\n"
    assert read(ended, follow="1") == b"one\ntwo\n"
    assert read(ended, follow="1", tail="1") == b"two\n"


@pytest.mark.parametrize("follow", ["", "1"])
def test_an_attempt_that_never_was_is_named(ended: Parts, follow: str) -> None:
    with pytest.raises(NotFound, match=r"no attempt 2 of container 1 \(it had: 1\)"):
        read(ended, attempt="2", follow=follow)


@pytest.mark.parametrize("name", ["replica", "attempt"])
def test_there_is_no_number_0(ended: Parts, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: '0' .*a whole number from 1"):
        read(ended, **{name: "0"})


def test_a_reader_who_waits_for_the_start_is_told_of_the_end(parts: Parts) -> None:
    parts.submit("a")
    logs, board = logs_of(parts), parts.books.board

    async def wait_and_cancel() -> bytes:
        reader = asyncio.create_task(copy(logs, board, follow="1"))
        await asyncio.sleep(0)
        assert not reader.done()
        assert board._watchers
        one, now = parts.container(1), parts.clock.now()
        await asyncio.to_thread(
            parts.change, one, lambda c: to.told_to_end(c, Outcome.CANCELLED, "", now)
        )
        return await asyncio.wait_for(reader, SECONDS)

    assert asyncio.run(wait_and_cancel()) == b""
    assert board._watchers == {}
