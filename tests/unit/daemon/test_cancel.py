"""Cancelling: what is meant, who may, and what becomes of waiting and running."""

import pytest

from dorabatch.daemon.intake.cancel import Selection
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.object_store import StoredObject
from dorabatch.errors import AlreadyFinished, NotAllowed, NotFound, UserError
from dorabatch.queue.states import Outcome, State
from tests.makers import ALICE, BOB, START, document, hold, later
from tests.unit.daemon.conftest import Parts, caller


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
