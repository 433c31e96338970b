"""Applying: create, scale, update, leave alone, delete."""

from collections.abc import Callable
from typing import Any

import pytest

from dorabatch.daemon.intake.kind_table import Applied
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.object_store import StoredObject
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, NotAllowed, Refused
from dorabatch.queue import history
from dorabatch.queue import transitions as to
from dorabatch.queue.demand import Claim
from dorabatch.queue.records import Submitter
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.resources.manifest import parse_json_document
from tests.makers import ALICE, BOB, START, document, hold
from tests.unit.daemon.conftest import Parts, caller


def apply(parts: Parts, who: Submitter = ALICE, **options: object) -> Applied:
    """Apply a workload called a."""
    wanted = document(name="a", **options)
    return parts.applier.apply(parts.caller(who), wanted)


def grant(parts: Parts, user: str, workspace: str) -> None:
    """Give somebody the role `user` in a workspace."""
    role = {"kind": "All", "zone": "All", "workspace": workspace, "role": "user"}
    head = {"apiVersion": "v1", "kind": "User", "metadata": {"name": user}}
    document = parse_json_document({**head, "spec": {"resources": [role]}})
    parts.apply(caller(is_admin=True), document)


def delete(parts: Parts) -> str:
    """Delete workload 1."""
    workload = parts.books.board.workloads[1]
    return parts.applier.delete(caller(), workload)


def gone(parts: Parts, replica: int = 1) -> None:
    """A stopping replica of workload 1 is confirmed gone."""
    one, now = parts.container(1, replica), parts.clock.now()
    parts.effects.writer.do(lambda tx: settle_gone(tx, parts.books.billing, one, now))


def test_created_then_not_changed(parts: Parts) -> None:
    done = apply(parts, env=["A=1", "B=2"])
    assert (done.result, done.message) == ("created", "alice/a created (id 1)")
    assert apply(parts, env=["B=2", "A=1"]).result == "not changed"
    board = parts.books.board
    assert (list(board.workloads), board.workloads[1].version) == ([1], 1)


def test_scaled_up_and_down(parts: Parts) -> None:
    apply(parts)
    parts.run(parts.container(1))
    assert apply(parts, replicas="3").message == "a: 1 -> 3 containers"
    assert parts.states(1) == [State.RUNNING, State.QUEUED, State.QUEUED]
    parts.run(parts.container(1, 2), hold(gpus=("GPU-1",), cores=(3,)))
    assert apply(parts, replicas="1").result == "scaled"
    assert parts.states(1) == [State.RUNNING, State.STOPPING, State.FINISHED]
    board = parts.books.board
    assert [c.replica for c in board.containers_of(1)] == [1]
    assert board.workloads[1].version == 1
    gone(parts, 2)
    assert board.workloads[1].ended_at is None
    apply(parts, replicas="3")
    assert parts.states(1) == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert [c.replica for c in board.containers_of(1)] == [1, 2, 3]


def test_a_changed_spec_starts_every_container_anew(parts: Parts) -> None:
    apply(parts, replicas="2", gpus="1")
    parts.run(parts.container(1))
    done = apply(parts, replicas="2", gpus="2")
    assert (done.result, done.message) == ("updated", "a: version 2")
    assert parts.states(1) == [State.STOPPING, State.QUEUED]
    assert parts.container(1).after_stop is AfterStop.REQUEUE
    waiting = parts.books.board.pending.arrays()
    assert waiting.gpu_count.tolist() == [2]
    gone(parts)
    waiting = parts.books.board.pending.arrays()
    assert waiting.gpu_count.tolist() == [2, 2]
    with parts.effects.engine.connect() as connection:
        versions = [v for v, *_ in history.versions_of(connection, 1)]
    assert versions == [1, 2]


@pytest.mark.mission("M62")
def test_deleted_or_draining(parts: Parts) -> None:
    apply(parts, replicas="2")
    parts.run(parts.container(1))
    assert delete(parts) == "draining"
    assert parts.books.board.workloads[1].ended_at is None
    gone(parts)
    assert parts.books.board.workloads[1].ended_at == START
    assert apply(parts).message == "alice/a created (id 2)"


def test_what_waits_is_deleted_at_once(parts: Parts) -> None:
    apply(parts)
    assert delete(parts) == "deleted"
    assert parts.books.board.workloads[1].ended_at == START


def test_a_workload_of_another_user_is_left_alone(parts: Parts) -> None:
    workspace = StoredObject(
        kind="Workspace", zone="", workspace="", name="team", spec="{}",
        owner="bob", created_at=START, changed_at=START,
    )  # fmt: skip
    parts.books.rights.apply([workspace])
    apply(parts, BOB, workspace="team")
    with pytest.raises(NotAllowed, match="workspace 'team': alice may not Apply"):
        apply(parts, workspace="team")
    grant(parts, "alice", "team")
    with pytest.raises(NotAllowed, match="runs under the login of bob"):
        apply(parts, workspace="team", image="other:1")


def test_an_unknown_workspace_or_zone_is_refused(parts: Parts) -> None:
    with pytest.raises(NotAllowed, match="'nosuch', which nobody has made: alice may"):
        apply(parts, workspace="nosuch")
    with pytest.raises(Refused, match="'z9' is not served by this daemon"):
        apply(parts, zone="z9")


def test_a_replica_wanted_again_while_it_stops_comes_back(parts: Parts) -> None:
    apply(parts, replicas="2")
    parts.run(parts.container(1, 2))
    apply(parts, replicas="1")
    assert parts.states(1)[1] is State.STOPPING
    apply(parts, replicas="2")
    gone(parts, 2)
    assert parts.states(1) == [State.QUEUED, State.QUEUED]
    assert [c.replica for c in parts.books.board.containers_of(1)] == [1, 2]


def test_a_workload_of_no_replicas_lives_until_it_is_deleted(parts: Parts) -> None:
    apply(parts, replicas="0")
    assert parts.books.board.workloads[1].ended_at is None
    assert delete(parts) == "deleted"
    assert parts.books.board.workloads[1].ended_at is not None
    assert apply(parts).result == "created"


@pytest.mark.mission("M41")
def test_anothers_volume_is_refused(parts: Parts) -> None:
    with pytest.raises(NotAllowed, match="bob"):
        apply(parts, volumes=["bob/home:/home"])


def test_a_turn_changes_without_a_restart(parts: Parts) -> None:
    apply(parts)
    assert apply(parts, nice="7").message == "a: its turn in the queue"
    board = parts.books.board
    assert board.workloads[1].version == 1
    assert [claim.nice for claim in waiting_claims(parts)] == [7]
    assert apply(parts, nice="7").result == "not changed"


def waiting_claims(parts: Parts) -> list[Claim]:
    """The claims of what waits."""
    found = parts.books.board.pending.arrays()
    return [found.claims[number] for number in found.claim]


def test_users_may_only_let_others_go_first(parts: Parts) -> None:
    with pytest.raises(NotAllowed, match=r"nice: -1: only an admin"):
        apply(parts, nice="-1")
    boss = caller(is_admin=True)
    wanted = document(name="b", nice="-5")
    done = parts.applier.apply(boss, wanted)
    assert done.result == "created"


def test_a_nice_out_of_bounds_and_an_unknown_qos_are_refused(parts: Parts) -> None:
    with pytest.raises(Refused, match=r"nice: 1000001 \(allowed here: up to 1000000"):
        apply(parts, nice="1000001")
    with pytest.raises(Refused, match=r"no QOS 'gold' \(known: none\)"):
        apply(parts, qos="gold")


def test_a_change_made_in_the_same_moment_is_not_written_over(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(parts)
    write = parts.effects.writer.do

    def overtaken(action: Callable[[Tx], Any]) -> Any:
        monkeypatch.setattr(parts.effects.writer, "do", write)
        apply(parts, env=["A=1"])
        return write(action)

    monkeypatch.setattr(parts.effects.writer, "do", overtaken)
    with pytest.raises(ConflictError, match="changed in the same moment"):
        apply(parts, replicas="2")
    workload = parts.books.board.workloads[1]
    assert (workload.version, workload.replicas) == (2, 1)


def test_a_new_spec_for_fewer_replicas_keeps_the_workload_alive(parts: Parts) -> None:
    apply(parts, replicas="2")
    running = parts.run(parts.container(1))
    parts.change(running, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, ""))
    gone(parts)
    assert parts.states(1) == [State.FINISHED, State.QUEUED]
    apply(parts, env=["A=1"])
    assert parts.states(1) == [State.QUEUED, State.FINISHED]
    assert parts.books.board.workloads[1].ended_at is None
