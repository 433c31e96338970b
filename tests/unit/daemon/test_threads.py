"""Threads outlive what a round raises; a dead one is told of, or ends the daemon."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from dorabatch.config import MailSettings
from dorabatch.daemon.api.health import Health, HealthReport
from dorabatch.daemon.runs import node_keeper
from dorabatch.daemon.runs.launcher import Launcher
from dorabatch.daemon.runs.node_keeper import NodeKeeper
from dorabatch.daemon.runs.node_work import ExpectedRuns, NodeWork, Wakeups
from dorabatch.daemon.runs.reconcile import Correction, Duty
from dorabatch.daemon.service import Daemon
from dorabatch.daemon.state import threads as threads_module
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.state.threads import RoundRecord, WatchedThreads, keep_on
from dorabatch.daemon.timers import forecasts, mail_sender
from dorabatch.daemon.timers.forecasts import Forecaster
from dorabatch.daemon.timers.mail_sender import MailSender
from dorabatch.errors import DorabatchError, InvariantError
from dorabatch.node.fake import FakeNode
from dorabatch.queue.records import ContainerId
from dorabatch.resources.cluster import NodeSpec
from tests.makers import node_settings
from tests.unit.daemon.conftest import SECONDS, Parts, caller

AWAY = OperationalError("SELECT", {}, Exception("database is locked"))
ERRORS: list[Exception] = [
    AWAY, ValueError("a bug"), DorabatchError("refused"), OSError("disk full")
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "_PAUSE_SECONDS", 0.001)


class Failing:
    """Rounds that raise one error after the other; `over` is set by one that works."""

    def __init__(self, *errors: Exception) -> None:
        self.left = list(errors)
        self.over = threading.Event()

    def __call__(self, *_: Any) -> int:
        if self.left:
            raise self.left.pop(0)
        self.over.set()
        return 0


def ended_thread(name: str) -> threading.Thread:
    thread = threading.Thread(target=lambda: None, name=name)
    thread.start()
    thread.join(SECONDS)
    return thread


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_rounds_go_on_after_every_error(caplog: pytest.LogCaptureFixture) -> None:
    rounds = Failing(*ERRORS, InvariantError("broken"))
    threads, stopping = WatchedThreads(), threading.Event()
    thread = threads.start("some", rounds, stopping)
    assert rounds.over.wait(SECONDS)
    assert threads.dead() == ()
    stopping.set()
    thread.join(SECONDS)
    assert threads.dead() == ()
    failures = [one for one in caplog.records if one.getMessage() == "round-failed"]
    assert len(failures) == len(ERRORS) + 1
    assert all(one.exc_info for one in failures)


def test_a_broken_invariant_ends_what_is_vital() -> None:
    rounds = Failing(AWAY, InvariantError("broken"))
    with pytest.raises(InvariantError, match="broken"):
        keep_on("some", rounds, threading.Event(), RoundRecord(), is_vital=True)
    assert not rounds.over.is_set()


@pytest.mark.parametrize("error", ERRORS)
def test_a_node_is_ready_once_its_facts_could_be_written(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write = Failing(error)
    monkeypatch.setattr(node_keeper, "save_facts", write)
    made = parts.again(
        open_driver=lambda node: FakeNode(node.name, now=parts.clock.now)
    )
    made.books.fleet.put(node_settings("n1"))
    made.keepers.restart("n1")
    try:
        assert write.over.wait(SECONDS)
        wait_until(lambda: made.books.fleet.get("n1").state is NodeState.READY)
    finally:
        made.keepers.stop()


@pytest.mark.parametrize("error", ERRORS)
def test_events_are_followed_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    follow = Failing(error)
    monkeypatch.setattr(NodeKeeper, "_follow_events", follow)
    made = parts.again(
        open_driver=lambda node: FakeNode(node.name, now=parts.clock.now)
    )
    made.books.fleet.put(node_settings("n1"))
    made.keepers.restart("n1")
    try:
        assert follow.over.wait(SECONDS)
    finally:
        made.keepers.stop()


@pytest.fixture
def busy(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Parts with a node and a relay for mail; forecasts and mail hardly pause."""
    monkeypatch.setattr(forecasts, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(mail_sender, "_LOOK_SECONDS", 0.001)
    made = parts.again(
        settings=parts.books.settings.model_copy(
            update={"mail": MailSettings(host="127.0.0.1", port=1)}
        ),
        open_driver=lambda node: FakeNode(node.name, now=parts.clock.now),
    )
    spec = NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey="SHA256:" + "A" * 43)
    made.nodes.save(caller(is_admin=True), "n1", spec)
    return made


@pytest.mark.parametrize("error", ERRORS)
def test_cycle_forecasts_and_mail_go_on(
    busy: Parts, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    turn, forecast, send = Failing(error), Failing(error), Failing(error)
    monkeypatch.setattr(Daemon, "turn", turn)
    monkeypatch.setattr(Forecaster, "turn", forecast)
    monkeypatch.setattr(MailSender, "send_due", send)
    daemon = Daemon(busy.daemon)
    daemon.start()
    try:
        for rounds in (turn, forecast, send):
            assert rounds.over.wait(SECONDS)
        assert busy.effects.threads.dead() == ()
    finally:
        daemon.stop()


def test_every_thread_is_watched(busy: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    busy.keepers.stop()
    monkeypatch.setattr(threads_module, "keep_on", lambda *_, **__: None)
    daemon = Daemon(busy.daemon)
    daemon.start()
    try:
        names = {"cycle", "forecast", "mail", "keep-n1", "listen-n1"}
        wait_until(lambda: set(busy.effects.threads.dead()) == names)
        with pytest.raises(InvariantError, match="thread cycle has ended"):
            daemon.run_until(threading.Event(), threading.Event())
    finally:
        daemon.stop()


def test_a_writer_that_ends_ends_the_daemon(busy: Parts) -> None:
    daemon = Daemon(busy.daemon)
    daemon.start()
    try:
        busy.effects.writer.stop()
        with pytest.raises(InvariantError, match="thread writer has ended"):
            daemon.run_until(threading.Event(), threading.Event())
    finally:
        daemon.stop()


def test_a_container_is_worked_on_again_after_a_bug(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    do = Failing(*ERRORS)
    monkeypatch.setattr(NodeWork, "_do", do)
    work = NodeWork(
        cast(ExpectedRuns, Nothing()), cast(Launcher, Nothing()), None, None,
        Refusing(), Wakeups(cycle=threading.Event(), look=threading.Event()),
    )  # type: ignore[arg-type]  # fmt: skip
    one = Correction(container_id=ContainerId(1), duty=Duty.LAUNCH)
    with pytest.raises(RuntimeError, match="no thread"):
        work.assign(one)
    for _ in range(len(ERRORS) + 1):
        work.assign(one)
        wait_until(lambda: not work._busy)
    assert do.over.is_set()
    bugs = [one for one in caplog.records if one.getMessage() == "work-bug"]
    assert len(bugs) == len(ERRORS)
    work.stop()


class Nothing:
    """A node without containers."""

    node = "n1"

    def here(self) -> list[Any]:
        return []

    def find(self, _key: Any) -> None:
        return None

    def stop(self) -> None:
        return None


class Refusing(ThreadPoolExecutor):
    """A pool that can start no thread at first."""

    def __init__(self) -> None:
        super().__init__(1)
        self._refused = False

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._refused:
            self._refused = True
            raise RuntimeError("no thread")
        return super().submit(*args, **kwargs)


def health(parts: Parts) -> HealthReport:
    one = Health(
        clock_steps=parts.effects.clock_steps,
        threads=parts.effects.threads,
        writer=parts.effects.writer,
        seconds_max=0.1,
    )
    return asyncio.run(one.check())


def test_health_tells_of_dead_threads(parts: Parts) -> None:
    asked, alive = threading.Event(), threading.Event()
    asked.set()
    threads = parts.effects.threads
    threads.watch(ended_thread("let-go"), asked)
    threads.watch(threading.current_thread(), alive)
    assert (health(parts).is_ok, health(parts).sentence) == (True, "ok")
    threads.watch(ended_thread("listen-n1"), alive)
    assert not health(parts).is_ok
    assert health(parts).sentence == "thread listen-n1 has ended"
    assert threads.dead_vital() == ()


def test_health_tells_of_a_thread_whose_every_round_fails(parts: Parts) -> None:
    errors: list[Exception] = [OSError(28, "No space left on device")] * 4
    rounds = Failing(*errors, ValueError("a bug"), AWAY)
    go_on = threading.Semaphore(0)

    def one_round() -> None:
        go_on.acquire(timeout=SECONDS)
        rounds()

    threads, stopping = parts.effects.threads, threading.Event()
    thread = threads.start("mail", one_round, stopping)
    try:
        go_on.release(2)
        wait_until(lambda: len(rounds.left) == 4)
        assert health(parts).is_ok
        go_on.release(1)
        wait_until(lambda: not health(parts).is_ok)
        said = "[Errno 28] No space left on device"
        assert health(parts).sentence == (
            f"thread mail: its last 3 rounds failed: OSError: {said}"
        )
        go_on.release(3)
        wait_until(lambda: "6 rounds" in health(parts).sentence)
        assert health(parts).threads_failing == {
            "mail": "its last 6 rounds failed: OperationalError; the daemon's log "
            "says why"
        }
        go_on.release(1)
        wait_until(lambda: health(parts).is_ok)
    finally:
        stopping.set()
        go_on.release(9)
        thread.join(SECONDS)


def test_health_tells_of_a_database_that_does_not_answer(parts: Parts) -> None:
    writer, go = parts.effects.writer, threading.Event()
    held = writer.post(lambda tx: go.wait(SECONDS))
    assert health(parts).database == "no answer within 0.1 s"
    go.set()
    assert held.result(SECONDS)
    # The question that nobody waited for did not hurt the writer.
    assert writer.do(lambda tx: 1) == 1
    assert health(parts).is_ok


def test_health_tells_of_a_database_that_fails(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: Future[None] = Future()
    failed.set_exception(AWAY)
    monkeypatch.setattr(parts.effects.writer, "post", lambda action: failed)
    found = "failed with OperationalError; the daemon's log says why"
    assert health(parts).database == found
    monkeypatch.undo()
    parts.effects.writer.stop()
    assert health(parts).database == "the daemon is stopping; try again later"
