"""The writer: many actions a commit, each on its own; nobody waits for ever."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, column, insert, table, text
from sqlalchemy.exc import IntegrityError, OperationalError

from dorabatch.db import Tx, Writer, is_in_transaction, open_engine, transaction
from dorabatch.errors import ConfigError, InvariantError, LeaseLost

SECONDS = 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with one table of one unique column."""
    made = open_engine(f"sqlite:///{tmp_path / 'new' / 'test.db'}")
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


class Commits:
    """A listener that remembers each commit, and a guard that can refuse."""

    def __init__(self) -> None:
        self.seen: list[list[object]] = []
        self.problem: Exception | None = None
        self.listener_problem: Exception | None = None
        self.guarded = 0

    def on_commit(self, changes: list[object]) -> None:
        """Remember."""
        if self.listener_problem is not None:
            raise self.listener_problem
        self.seen.append(list(changes))

    def guard(self, tx: Tx) -> None:
        """Refuse when told to."""
        self.guarded += 1
        if self.problem is not None:
            raise self.problem


@pytest.fixture
def commits() -> Commits:
    """What the writer tells."""
    return Commits()


@pytest.fixture
def writer(engine: Engine, commits: Commits) -> Iterator[Writer]:
    """A writer that runs."""
    made = Writer(engine, on_commit=commits.on_commit, guard=commits.guard)
    made.start()
    yield made
    made.stop()


def put(number: int) -> Callable[[Tx], int]:
    """An action that stores a number."""

    def action(tx: Tx) -> int:
        tx.connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
        tx.note(number)
        return number

    return action


def stored(engine: Engine) -> set[int]:
    """The numbers on disk."""
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT n FROM t")).scalars())


class Busy:
    """Keeps the writer busy, so that what is posted meanwhile is one batch."""

    def __init__(self, writer: Writer) -> None:
        self._go = threading.Event()
        began = threading.Event()

        def action(tx: Tx) -> None:
            began.set()
            self._go.wait(SECONDS)

        self.done = writer.post(action)
        assert began.wait(SECONDS)

    def end(self) -> None:
        """Let the writer go on."""
        self._go.set()


def test_do_answers_after_the_commit(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    assert writer.do(put(1)) == 1
    assert stored(engine) == {1}
    assert commits.seen == [[1]]


def test_what_waits_is_one_commit(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    busy = Busy(writer)
    futures = [writer.post(put(number)) for number in range(100)]
    busy.end()
    assert [future.result(SECONDS) for future in futures] == list(range(100))
    assert commits.seen == [[], list(range(100))]
    assert commits.guarded == 2
    assert stored(engine) == set(range(100))


def test_a_failing_action_is_rolled_back_alone(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    def half(tx: Tx) -> None:
        put(50)(tx)
        raise ValueError("half way")

    busy = Busy(writer)
    first, bad = writer.post(put(1)), writer.post(half)
    again, last = writer.post(put(1)), writer.post(put(2))
    busy.end()
    assert (first.result(SECONDS), last.result(SECONDS)) == (1, 2)
    with pytest.raises(ValueError, match="half way"):
        bad.result(SECONDS)
    with pytest.raises(IntegrityError):
        again.result(SECONDS)
    assert stored(engine) == {1, 2}
    assert commits.seen == [[], [1, 2]]
    assert writer.failed is None


def test_nothing_stays_of_an_action_that_fails_by_itself(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    def half(tx: Tx) -> None:
        put(50)(tx)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        writer.do(half)
    writer.do(put(1))
    with pytest.raises(IntegrityError):
        writer.do(put(1))
    assert stored(engine) == {1}
    assert commits.seen == [[1]]
    assert writer.failed is None


def test_nobody_hears_of_what_the_commit_itself_refused(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    def owed(tx: Tx) -> None:
        tx.connection.execute(
            text(
                "CREATE TABLE c (n INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
            )
        )
        tx.connection.execute(text("INSERT INTO c VALUES (99)"))
        tx.note(99)

    with pytest.raises(IntegrityError):
        writer.do(owed)
    writer.do(put(1))
    assert stored(engine) == {1}
    assert commits.seen == [[1]]


def test_a_refusing_guard_stops_the_writer(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    writer.do(put(1))
    commits.problem = LeaseLost("another daemon")
    with pytest.raises(LeaseLost, match="another daemon"):
        writer.do(put(2))
    assert isinstance(writer.failed, LeaseLost)
    commits.problem = None
    with pytest.raises(LeaseLost):
        writer.do(put(3))
    assert stored(engine) == {1}


def test_nothing_is_written_once_memory_may_differ_from_disk(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    busy = Busy(writer)
    commits.listener_problem = InvariantError("the copy is broken")
    # More than one batch waits: the later ones were posted before the failure.
    futures = [writer.post(put(number)) for number in range(1200)]
    busy.end()
    with pytest.raises(InvariantError):
        busy.done.result(SECONDS)
    for future in futures:
        assert isinstance(future.exception(SECONDS), InvariantError)
    assert stored(engine) == set()


def test_a_database_error_fails_the_batch_and_the_writer_goes_on(
    writer: Writer, engine: Engine, commits: Commits
) -> None:
    commits.problem = OperationalError("SELECT", {}, Exception("disk I/O error"))
    with pytest.raises(OperationalError):
        writer.do(put(1))
    commits.problem = None
    assert writer.do(put(2)) == 2
    assert stored(engine) == {2}


def test_stop_writes_what_waits(engine: Engine, commits: Commits) -> None:
    writer = Writer(engine, on_commit=commits.on_commit, guard=commits.guard)
    writer.start()
    busy = Busy(writer)
    futures = [writer.post(put(number)) for number in range(700)]
    busy.end()
    writer.stop()
    assert [future.result(SECONDS) for future in futures] == list(range(700))


def test_nobody_waits_on_a_writer_that_has_stopped(
    engine: Engine, commits: Commits
) -> None:
    writer = Writer(engine, on_commit=commits.on_commit, guard=commits.guard)
    writer.start()
    writer.stop()
    assert writer.post(put(1)).exception(SECONDS) is not None
    assert stored(engine) == set()


def test_a_writer_outlives_an_asker_that_has_gone_away(
    writer: Writer, engine: Engine
) -> None:
    busy = Busy(writer)
    gone, last = writer.post(put(1)), writer.post(put(2))
    assert gone.cancel()
    busy.end()
    assert last.result(SECONDS) == 2
    assert writer.do(put(3)) == 3
    assert stored(engine) == {2, 3}


def test_a_writer_waits_for_the_lock_of_another_process(
    engine: Engine, tmp_path: Path
) -> None:
    def reads(tx: Tx) -> None:
        tx.connection.execute(text("SELECT count(*) FROM t")).scalar()

    other = sqlite3.connect(
        tmp_path / "new" / "test.db", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO t VALUES (7)")
    writer = Writer(engine, on_commit=lambda changes: None, guard=reads)
    writer.start()
    asked = writer.post(put(8))
    letting_go = threading.Timer(1.0, lambda: other.execute("COMMIT"))
    letting_go.start()
    assert asked.result(SECONDS) == 8
    letting_go.join()
    other.close()
    writer.stop()
    assert stored(engine) == {7, 8}


def test_reads_need_no_turn_to_write(engine: Engine) -> None:
    with transaction(engine), engine.connect() as reader:
        assert reader.execute(text("SELECT count(*) FROM t")).scalar() == 0


def test_errors_do_not_show_what_was_to_be_written(writer: Writer) -> None:
    secret = text("INSERT INTO missing VALUES (:spec)")
    rows = insert(table("missing", column("spec")))

    def one(tx: Tx) -> None:
        tx.connection.execute(secret, {"spec": "TOKEN=hunter2"})

    def many(tx: Tx) -> None:
        tx.write_rows(rows, [{"spec": "TOKEN=hunter2"}])

    for action in (one, many):
        with pytest.raises(OperationalError, match="missing") as found:
            writer.do(action)
        assert "hunter2" not in str(found.value)


def test_the_writer_may_not_wait_for_itself(writer: Writer) -> None:
    with pytest.raises(InvariantError, match="wait for itself"):
        writer.do(lambda tx: writer.do(put(1)))


def test_a_transaction_is_known_inside_and_only_inside(
    writer: Writer, engine: Engine
) -> None:
    assert writer.do(lambda tx: is_in_transaction()) is True
    assert is_in_transaction() is False
    with pytest.raises(ValueError, match="x"), transaction(engine) as tx:
        assert is_in_transaction() is True
        put(1)(tx)
        raise ValueError("x")
    assert is_in_transaction() is False
    assert stored(engine) == set()


def test_sqlite_commits_are_durable(engine: Engine) -> None:
    with engine.connect() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_other_databases_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'mysql' is not supported .*postgresql"):
        open_engine("mysql://u@h/d")
