"""Cancelling: what is meant, who may, and what becomes of waiting and running."""

from pathlib import Path
from random import Random

import pytest
from sqlalchemy import event

from dorabatch.daemon.intake import cancel
from dorabatch.daemon.intake.cancel import Selection
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.object_store import StoredObject
from dorabatch.errors import (
    AlreadyFinished,
    DaemonUnavailable,
    NotAllowed,
    NotFound,
    UserError,
)
from dorabatch.queue import history
from dorabatch.queue.records import WorkloadId
from dorabatch.queue.states import Outcome, State
from tests.makers import ALICE, BOB, START, document, hold, later, new_workload
from tests.simulation import hands
from tests.simulation.world import World
from tests.unit.daemon.conftest import SECONDS, Parts, caller


def chosen(parts: Parts, **wanted: object) -> list[int]:
    """Ids that a selection of alice's means."""
    selection = Selection(**wanted)  # type: ignore[arg-type]
    found = parts.daemon.intake.cancelling.selected(parts.caller(), selection)
    return [int(one.workload_id) for one in found]


def cancel_all(parts: Parts, *refs: str) -> int:
    """Cancel workloads of alice's."""
    cancelling = parts.daemon.intake.cancelling
    found = cancelling.selected(caller(), Selection(refs=refs))
    return cancelling.cancel(caller(), found)


def test_what_waits_ends_at_once(parts: Parts) -> None:
    parts.submit("a", replicas=3)
    parts.clock.advance(5)
    assert cancel_all(parts, "a") == 1
    assert parts.states(1) == [State.FINISHED] * 3
    board = parts.books.board
    assert board.workloads[1].ended_at == later(5)
    assert len(board.pending) == 0
    assert {c.outcome for c in board.containers_of(1)} == {Outcome.CANCELLED}
    assert {c.reason for c in board.containers_of(1)} == {"cancelled by alice"}
    with pytest.raises(AlreadyFinished, match=r"alice/a \(id 1\) has ended .*CA"):
        chosen(parts, refs=("1",))


def test_what_runs_keeps_its_hold_until_it_is_gone(parts: Parts) -> None:
    parts.submit("a", replicas=2)
    parts.run(parts.container(1))
    assert cancel_all(parts, "1") == 1
    assert parts.states(1) == [State.STOPPING, State.FINISHED]
    assert parts.container(1).hold == hold()
    assert parts.books.board.workloads[1].ended_at is None
    assert cancel_all(parts, "1") == 0


def test_of_what_is_named_only_what_is_live_is_ended(parts: Parts) -> None:
    for name in ("a", "b"):
        parts.submit(name)
    cancel_all(parts, "a")
    assert chosen(parts, refs=("1", "2")) == [2]
    assert cancel_all(parts, "1", "b") == 1
    with pytest.raises(AlreadyFinished, match=r"alice/a \(id 1\) has ended .*CA"):
        chosen(parts, refs=("1", "2"))


def test_many_end_in_parts_and_others_write_in_between(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "AT_ONCE", 2)
    for number in range(5):
        parts.submit(f"w{number}")
    left, engine = [], parts.effects.engine
    others = []

    def committed(_connection: object) -> None:
        board = parts.books.board
        left.append(sum(one.ended_at is None for one in board.workloads.values()))
        if len(left) == 1:
            others.append(parts.submissions.submit(new_workload("other")))

    event.listen(engine, "commit", committed)
    try:
        assert cancel_all(parts, *(f"w{number}" for number in range(5))) == 5
    finally:
        event.remove(engine, "commit", committed)
    # At each commit, what was live before it: the other one came in between.
    assert left == [5, 3, 4, 2]
    assert others[0].result(SECONDS).name == "other"
    with engine.connect() as connection:
        told = [
            one.kind for key in (5, 6) for one in history.events_of(connection, key)
        ]
    assert told == ["submit", "stop", "submit"]


def test_one_transaction_ends_many_with_one_statement_a_table(parts: Parts) -> None:
    for number in range(20):
        parts.submit(f"w{number}", replicas=2)
    statements = []

    def executed(*seen: object) -> None:
        statements.append(str(seen[2]).split()[0])

    event.listen(parts.effects.engine, "before_cursor_execute", executed)
    try:
        assert cancel_all(parts, *(f"w{number}" for number in range(20))) == 20
    finally:
        event.remove(parts.effects.engine, "before_cursor_execute", executed)
    assert statements.count("UPDATE") == 2
    assert statements.count("INSERT") == 1
    assert len(parts.books.board.pending) == 0


def test_a_cancel_that_is_cut_off_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "AT_ONCE", 2)
    world = World(1, tmp_path, credits="")
    try:
        ids = [str(hands.submit(world, ALICE, 1)) for _ in range(7)]
        hands.turn(world)
        hands.work(world)
        world.is_quiet = False
        world.random = Random(0)
        world.doom(4)  # after the second part is on disk, before anybody is told
        world.attempt(lambda: cancel_in(world, ids))
        world.is_quiet = True
        assert world.kills == 1
        ended = [key for key in ids if cancelled(world, key)]
        assert ended == ids[:4]
        cancel_in(world, ids)
        hands.turn(world, 20)
        hands.work(world)
        assert all(cancelled(world, key) for key in ids)
        assert world.broken() == []
    finally:
        world.close()


def cancel_in(world: World, ids: list[str]) -> None:
    """Alice cancels these."""
    cancelling, who = world.parts.intake.cancelling, caller()
    cancelling.cancel(who, cancelling.selected(who, Selection(refs=tuple(ids))))


def cancelled(world: World, workload_id: str) -> bool:
    """Whether it is over, or is being ended for good."""
    found = world.books.board.containers_of(WorkloadId(int(workload_id)))
    return all(one.reason == "cancelled by alice" for one in found)


def test_a_daemon_that_ends_says_how_many_are_cancelled(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "AT_ONCE", 2)
    for number in range(5):
        parts.submit(f"w{number}")
    parts.effects.writer.stop()
    with pytest.raises(DaemonUnavailable, match="; 0 of 5 workloads are cancelled: "):
        cancel_all(parts, *(f"w{number}" for number in range(5)))


def test_selections(parts: Parts) -> None:
    team = StoredObject(
        kind="Workspace", zone="", workspace="", name="team", spec="{}",
        owner="alice", created_at=START, changed_at=START,
    )  # fmt: skip
    parts.books.rights.apply([team])
    parts.submit("a")
    parts.submit("b")
    parts.submit("c", submitter=BOB, workspace="bob")
    parts.submit("d", workspace="team")
    parts.run(parts.container(2))
    assert chosen(parts, refs=("a", "1", "alice/a", "team/d")) == [1, 4]
    assert chosen(parts, is_all=True) == [1, 2, 4]
    assert chosen(parts, states=("running",)) == [2]
    assert chosen(parts, states=("PD", "R")) == [1, 2, 4]
    assert chosen(parts, workspace="team") == [4]
    assert chosen(parts, user="alice", states=("pending",)) == [1, 4]


def test_what_belongs_to_others_is_refused(parts: Parts) -> None:
    parts.submit("c", submitter=BOB, workspace="bob")
    for wanted in ({"refs": ("1",)}, {"user": "bob"}, {"workspace": "bob"}):
        with pytest.raises(NotAllowed, match="belongs to bob"):
            chosen(parts, **wanted)
    admin = caller(ALICE, is_admin=True)
    cancelling = parts.daemon.intake.cancelling
    assert cancelling.selected(admin, Selection(refs=("bob/c",)))


def test_a_selection_of_nothing_is_refused(parts: Parts) -> None:
    with pytest.raises(UserError, match="nothing to cancel"):
        chosen(parts)
    with pytest.raises(UserError, match="--state: unknown state 'x'"):
        chosen(parts, states=("x",))
    with pytest.raises(NotFound, match="no workload 'zz' in workspace 'alice'"):
        chosen(parts, refs=("zz",))
    assert chosen(parts, is_all=True) == []


def test_scaled_away_and_cancelled_while_it_stops_ends_when_it_is_gone(
    parts: Parts,
) -> None:
    wanted = document(name="a")
    parts.applier.apply(caller(), wanted)
    parts.run(parts.container(1))
    parts.applier.apply(caller(), document(name="a", replicas="0"))
    assert parts.states(1) == [State.STOPPING]
    assert cancel_all(parts, "1") == 0
    one, now = parts.container(1), parts.clock.now()
    parts.effects.writer.do(lambda tx: settle_gone(tx, parts.books.billing, one, now))
    assert parts.books.board.workloads[1].ended_at == now
