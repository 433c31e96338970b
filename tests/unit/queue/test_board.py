"""The board equals the database after every commit, whatever was committed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from dorabatch.daemon.runs.settle import end_containers, settle_gone
from dorabatch.daemon.schema import migrate
from dorabatch.daemon.state.spec_units import demand_of
from dorabatch.db import Tx, Writer, open_engine
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.checkers import illegal_moves, misplaced_holds
from tests.makers import (
    START,
    ZONE,
    container,
    hold,
    later,
    new_workload,
    no_billing,
    workload,
)
from tests.unit.queue.test_pending import rows_of

ENDED_MAX = 1000


def new_board(ended_max: int = ENDED_MAX) -> Board:
    """An empty board."""
    return Board(ended_max=ended_max, demand_of=demand_of)


class Ground:
    """A database, its writer, the live board, and each container's states."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self.engine = open_engine(url)
        self.board = new_board()
        self.histories: dict[int, list[State]] = {}
        self.writer = Writer(
            self.engine, on_commit=self.on_commit, guard=lambda tx: None
        )
        self.writer.start()

    def on_commit(self, changes: list[object]) -> None:
        """Tell the board, and remember what became of each container."""
        self.board.apply(changes)
        for one in changes:
            if isinstance(one, Container):
                self.histories.setdefault(one.container_id, []).append(one.state)

    def rebuilt(self) -> Board:
        """A board made from the database, as at a start."""
        board = new_board()
        with self.engine.connect() as connection:
            board.apply(store.load_ended(connection, ZONE, ENDED_MAX))
            board.apply(store.load_live(connection, ZONE))
        return board

    def stop(self) -> None:
        """Let go of the database."""
        self.writer.stop()
        self.engine.dispose()


@pytest.fixture
def ground(sqlite_url: str) -> Iterator[Ground]:
    """A ground on SQLite."""
    made = Ground(sqlite_url)
    yield made
    made.stop()


def same(live: Board, rebuilt: Board) -> None:
    """Both boards know the same."""
    assert live.workloads == rebuilt.workloads
    assert live.containers == rebuilt.containers
    assert live.replicas == rebuilt.replicas
    assert live.live_names == rebuilt.live_names
    held = {n: h for n, h in live.holding.items() if h}
    assert held == {n: h for n, h in rebuilt.holding.items() if h}
    assert live.nodes_in_use() == rebuilt.nodes_in_use() == set(held)
    assert rows_of(live.pending) == rows_of(rebuilt.pending)


class Play:
    """Random duties, as a daemon would commit them."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._random = Random(seed)
        self._seconds = 0

    def turn(self) -> None:
        """One duty on one workload."""
        self._seconds += 1
        board = self._ground.board
        live = [w for w in board.workloads.values() if w.ended_at is None]
        if not live or self._random.random() < 0.2:
            self._ground.writer.do(self._submit)
            return
        chosen = self._random.choice(live)
        duties: list[Callable[[Tx, Container], None]] = [
            self._step, self._step, self._step, self._step, self._cancel, self._fail
        ]  # fmt: skip
        duty = self._random.choice(duties)
        one = self._random.choice(board.containers_of(chosen.workload_id))
        if one.state is not State.FINISHED:
            self._ground.writer.do(lambda tx: duty(tx, one))

    def _submit(self, tx: Tx) -> None:
        first = store.take_ids(tx, "workload", 1)
        new = new_workload(
            f"w{first % 7}-{first}",
            replicas=self._random.randint(1, 3),
            submitted_at=later(self._seconds),
            options=self._random.choice([{"gpus": "2"}, {"cpus": "500m"}]),
        )
        store.insert_workloads(tx, [new], first)

    def _step(self, tx: Tx, one: Container) -> None:
        now = later(self._seconds)
        if one.state is State.STOPPING:
            settle_gone(tx, no_billing(), one, now)
            return
        if one.state is State.QUEUED:
            where = hold(node=f"n{self._random.randint(1, 3)}")
            after = to.placed(one, where, 1)
            store.insert_runs(tx, [to.new_run(after, now)])
        elif one.state is State.PLACED:
            after = to.starting(one)
        elif one.state is State.STARTING:
            after = to.running(one, "d", now)
        else:
            after = to.stopping(one, AfterStop.FINISH, Outcome.DONE, "")
        store.save_containers(tx, [(one, after)])

    def _cancel(self, tx: Tx, one: Container) -> None:
        every = store.containers_of(tx, one.workload_id)
        end_containers(
            tx,
            every,
            outcome=Outcome.CANCELLED,
            reason="x",
            now=later(self._seconds),
        )

    def _fail(self, tx: Tx, one: Container) -> None:
        if one.state not in (State.STARTING, State.RUNNING):
            return
        wish = self._random.choice([AfterStop.REQUEUE, AfterStop.RESTART])
        after = to.stopping(one, wish, Outcome.FAILED, "why")
        after = to.with_failures(
            after, fast=1, lost=0, ready_at=later(self._seconds + 5)
        )
        store.save_containers(tx, [(one, after)])


@pytest.mark.parametrize("seed", range(3))
def test_a_rebuilt_board_equals_the_live_one(ground: Ground, seed: int) -> None:
    play = Play(ground, seed)
    for turn in range(150):
        play.turn()
        assert misplaced_holds(ground.board.containers.values()) == []
        if turn % 50 == 49:
            same(ground.board, ground.rebuilt())
    assert illegal_moves(ground.histories) == []
    states = {state for seen in ground.histories.values() for state in seen}
    assert states == set(State)


def test_the_comparison_notices_a_difference(ground: Ground) -> None:
    Play(ground, 1).turn()
    (key,) = list(ground.board.workloads)[:1]
    ended = replace(ground.board.workloads[key], ended_at=START)
    ground.board.apply([ended])
    with pytest.raises(AssertionError):
        same(ground.board, ground.rebuilt())


def test_changes_of_a_rolled_back_action_never_reach_the_board(
    ground: Ground,
) -> None:
    def half(tx: Tx) -> None:
        first = store.take_ids(tx, "workload", 1)
        store.insert_workloads(tx, [new_workload("a")], first)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        ground.writer.do(half)
    assert ground.board.workloads == {}
    same(ground.board, ground.rebuilt())


def test_only_the_last_ended_workloads_are_remembered() -> None:
    board = new_board(ended_max=2)
    for key in range(1, 5):
        one = workload(key)
        board.apply([one, container(key, workload_id=one.workload_id)])
        over = container(key, workload_id=one.workload_id, state=State.FINISHED)
        board.apply([over, replace(one, ended_at=later(key))])
    assert sorted(board.workloads) == [3, 4]
    assert sorted(board.containers) == [3, 4]
    assert len(board.pending) == 0
    assert board.live_names == {}


def test_removed_replicas_are_not_shown() -> None:
    board = new_board()
    board.apply([workload(1), container(1), container(2, replica=2, removed=True)])
    assert [c.replica for c in board.containers_of(1)] == [1]


def test_each_commit_is_a_new_revision() -> None:
    board = new_board()
    board.apply([])
    board.apply([workload(1)])
    assert board.revision == 2


def test_what_holds_a_place_is_never_seen_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, seen = new_board(), []
    waiting = container()
    board.apply([workload(), waiting])
    drop, put = board.pending.drop, board.held.put

    def look() -> None:
        held = [one.container_id for one in board.on_node("n1")]
        seen.append((held, len(board.held), len(board.pending)))

    def dropping(key: ContainerId) -> None:
        look()
        drop(key)

    def putting(one: Container, claim: Claim) -> None:
        look()
        put(one, claim)

    monkeypatch.setattr(board.pending, "drop", dropping)
    monkeypatch.setattr(board.held, "put", putting)
    placed = to.placed(waiting, hold(node="n1"), 1)
    board.apply([placed])
    assert seen == [([1], 0, 1), ([1], 1, 1)]
    board.apply([to.starting(placed)])
    assert seen[2:] == [([1], 1, 0), ([1], 1, 0)]
