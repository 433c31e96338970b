"""The database: engine, and one writer thread that commits many writes at once.

Every write of a daemon goes through `Writer`: what waits is done in one transaction
with one flush to disk (group commit), each piece in a savepoint of its own. Knows no
table and takes no decision.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Insert,
    Update,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler

from dorabatch.errors import ConfigError, DaemonUnavailable, invariant

_T = TypeVar("_T")
_IN_TRANSACTION: ContextVar[bool] = ContextVar("in_transaction", default=False)
_BATCH_MAX = 512

_WRITES = "dorabatch_writes"
_EVERYWHERE: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
    # Errors go into the log, and what people submit may hold their secrets.
    "hide_parameters": True,
}

WriteAction = Callable[["Tx"], Any]


class _Sent(NamedTuple):
    """A statement as a driver takes it.

    values: (key of a row, what makes its value) in the driver's order; names: of the
    parameters, None where they go by their order.
    """

    text: str
    values: Sequence[tuple[str, Callable[[Any], Any] | None]]
    names: Sequence[str] | None


@lru_cache(maxsize=64)
def _compiled(
    statement: Insert | Update, dialect: Dialect, names: tuple[str, ...]
) -> _Sent:
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    assert isinstance(compiled, SQLCompiler)
    order = list(compiled.positiontup or compiled.binds)
    binds = [compiled.binds[name] for name in order]
    values = [
        (bind.key, bind.type.dialect_impl(dialect).bind_processor(dialect))
        for bind in binds
    ]
    return _Sent(str(compiled), values, None if compiled.positional else order)


class Tx:
    """One write transaction: the connection, and what it changed.

    `changes` are handed to the listener only after the commit.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.changes: list[object] = []

    def write_rows(
        self, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]
    ) -> int:
        """Execute a statement once for each row; how many rows of the table it hit.

        The rows have the same keys. The same as `connection.execute`, which works out
        anew for each row how its values are sent: half the time of many rows.
        """
        if not rows:
            return 0
        names = tuple(rows[0])
        sent = _compiled(statement, self.connection.dialect, names)
        values = (
            [row[key] if made is None else made(row[key]) for key, made in sent.values]
            for row in rows
        )
        parameters: list[Any] = (
            [tuple(row) for row in values]
            if sent.names is None
            else [dict(zip(sent.names, row, strict=True)) for row in values]
        )
        return self.connection.exec_driver_sql(sent.text, parameters).rowcount

    def note(self, change: object) -> None:
        """Remember a change for whoever keeps a copy in memory."""
        self.changes.append(change)


def open_engine(url: str) -> Engine:
    """An engine for SQLite (WAL, durable commits) or PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": 30}, **_EVERYWHERE)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, **_EVERYWHERE)
    raise ConfigError(
        f"database: {parsed.get_backend_name()!r} is not supported "
        "(allowed: sqlite, postgresql+psycopg)"
    )


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver's own implicit BEGIN would come too late for savepoints.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # One that reads and only then writes would not wait for another's lock: it fails.
    is_writer = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def for_writing(engine: Engine) -> Engine:
    """The engine whose transactions wait for their turn to write as they begin."""
    if engine.get_execution_options().get(_WRITES, False):
        return engine
    return engine.execution_options(**{_WRITES: True})


def is_in_transaction() -> bool:
    """Whether the caller runs inside a transaction: no network call may."""
    return _IN_TRANSACTION.get()


@contextmanager
def one_state(engine: Engine) -> Iterator[Connection]:
    """A connection whose reads all see the same state of the database."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection


@contextmanager
def transaction(engine: Engine) -> Iterator[Tx]:
    """One transaction of its own, for start-up and tools."""
    with for_writing(engine).begin() as connection:
        token = _IN_TRANSACTION.set(True)
        try:
            yield Tx(connection)
        finally:
            _IN_TRANSACTION.reset(token)


_Work = tuple[WriteAction, "Future[Any]"]
_Answer = tuple["Future[Any]", Any, BaseException | None]


class Writer:
    """The one thread that writes.

    `do` waits for the answer; `post` gives a Future. An action that raises is rolled
    back alone; the rest of its batch is committed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        on_commit: Callable[[list[object]], None],
        guard: Callable[[Tx], None],
        before_commit: Callable[[Tx], None] | None = None,
    ) -> None:
        # Made once: with options of its own it costs more than a small transaction.
        self._engine = for_writing(engine)
        self._on_commit = on_commit
        self._guard = guard
        self._before_commit = before_commit
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.failed: BaseException | None = None
        self._gate = threading.Lock()
        self._is_stopped = False

    def start(self) -> None:
        """Begin to write."""
        self.thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        # Nothing may queue behind the end: nobody would ever answer it.
        with self._gate:
            self._is_stopped = True
            self._waiting.put(None)
        if self.thread.is_alive():
            self.thread.join()

    def post(self, action: Callable[[Tx], _T]) -> "Future[_T]":
        """Queue an action; the Future is done once it is on disk."""
        future: Future[_T] = Future()
        with self._gate:
            if self.failed is None and not self._is_stopped:
                self._waiting.put((action, future))
                return future
        future.set_exception(
            self.failed or DaemonUnavailable("the daemon is stopping; try again later")
        )
        return future

    def do(self, action: Callable[[Tx], _T]) -> _T:
        """Do an action and wait until it is on disk."""
        invariant(
            threading.current_thread() is not self.thread,
            "the writer thread may not wait for itself",
        )
        return self.post(action).result()

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH_MAX and not self._waiting.empty():
                batch.append(self._waiting.get())
            going_on = None not in batch
            # Whose asker has gone away meanwhile is left out; later nobody can.
            work = [
                item
                for item in batch
                if item is not None and item[1].set_running_or_notify_cancel()
            ]
            if work:
                self._write(work)

    def _write(self, work: list[_Work]) -> None:
        if self.failed is not None:
            for _, future in work:
                future.set_exception(self.failed)
            return
        try:
            answers = self._committed(work)
        except _Undone as undone:
            answers = [(work[0][1], None, undone.error)]
        # Whatever goes wrong here, nobody may wait for ever; only a database error
        # leaves memory and disk equal, so after anything else nothing is written.
        except Exception as error:
            if not isinstance(error, SQLAlchemyError):
                self.failed = error
            for _, future in work:
                future.set_exception(error)
            return
        for future, value, problem in answers:
            if problem is None:
                future.set_result(value)
            else:
                future.set_exception(problem)

    def _committed(self, work: list[_Work]) -> list[_Answer]:
        """Do all in one transaction, then tell the books."""
        attempt = _alone if len(work) == 1 else _attempt
        with transaction(self._engine) as tx:
            self._guard(tx)
            answers = [(future, *attempt(tx, action)) for action, future in work]
            if self._before_commit is not None:
                self._before_commit(tx)
        self._on_commit(tx.changes)
        return answers


class _Undone(Exception):
    """The only action of a transaction has raised, and nothing of it stays."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _alone(tx: Tx, action: WriteAction) -> tuple[Any, None]:
    """Do a transaction's only action: it needs no savepoint of its own."""
    try:
        return action(tx), None
    except Exception as error:
        raise _Undone(error) from error


def _attempt(tx: Tx, action: WriteAction) -> tuple[Any, BaseException | None]:
    before = len(tx.changes)
    savepoint = tx.connection.begin_nested()
    try:
        value = action(tx)
        savepoint.commit()
    # Whatever an action raises belongs to its caller, not to its batch.
    except Exception as error:
        savepoint.rollback()
        del tx.changes[before:]
        return None, error
    return value, None
