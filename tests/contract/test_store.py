"""Every statement of the stores does the same on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, bindparam, func, select
from sqlalchemy.exc import IntegrityError

from dorabatch.daemon.runs.settle import end_workloads
from dorabatch.daemon.state import object_store
from dorabatch.daemon.state.node_view import Loss
from dorabatch.daemon.state.object_store import StoredObject
from dorabatch.db import transaction
from dorabatch.errors import LeaseLost
from dorabatch.fairshare.store.report_store import changes_between
from dorabatch.fairshare.store.share_store import load_changes
from dorabatch.fairshare.turn.changes import Change, document_key
from dorabatch.queue import history, store
from dorabatch.queue import transitions as to
from dorabatch.queue.records import (
    Container,
    Happening,
    NewWorkload,
    Workload,
    WorkloadId,
)
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.queue.tables import CONTAINERS, EVENTS
from dorabatch.units import microseconds_of
from tests.makers import BOB, START, ZONE, hold, later, new_workload


def insert(engine: Engine, *new: NewWorkload) -> list[Workload]:
    """Store submissions in one transaction."""
    with transaction(engine) as tx:
        first = store.take_ids(tx, "workload", len(new))
        return store.insert_workloads(tx, list(new), first)


def containers(engine: Engine, workload: Workload) -> list[Container]:
    """What is stored of a workload's containers."""
    with transaction(engine) as tx:
        return store.containers_of(tx, workload.workload_id)


def save(engine: Engine, *pairs: tuple[Container, Container]) -> None:
    """Write changed containers in one transaction."""
    with transaction(engine) as tx:
        store.save_containers(tx, pairs)


def test_ids_follow_each_other_and_sequences_are_apart(engine: Engine) -> None:
    with transaction(engine) as tx:
        taken = [store.take_ids(tx, "a", n) for n in (3, 1, 10, 1)]
        assert taken == [1, 4, 5, 15]
        assert store.take_ids(tx, "b", 2) == 1


def test_a_submission_comes_back_as_it_was_stored(engine: Engine) -> None:
    key = "k" * 64
    new = [
        new_workload("a", replicas=3, submission_key=key),
        new_workload("größe", submitter=BOB, workspace="bob", replicas=0),
    ]
    made = insert(engine, *new)
    assert [w.workload_id for w in made] == [1, 2]
    with transaction(engine) as tx:
        assert [store.get_workload(tx, w.workload_id) for w in made] == made
        assert store.get_workload(tx, 99) is None
        assert store.ids_of_submissions(tx, [key, "other"]) == {key: 1}
        assert store.ids_of_submissions(tx, []) == {}
        assert store.live_id(tx, ZONE, "alice", "a") == 1
        assert store.live_id(tx, ZONE, "bob", "a") is None
    found = containers(engine, made[0])
    assert [c.replica for c in found] == [1, 2, 3]
    assert {c.state for c in found} == {State.QUEUED}
    assert {c.queued_at for c in found} == {START}
    assert containers(engine, made[1]) == []
    with engine.connect() as connection:
        assert [e.kind for e in history.events_of(connection, 1)] == ["submit"]
        versions = history.versions_of(connection, 1)
        assert versions == [(1, START, "alice", made[0].spec_json)]


def test_a_name_is_free_again_after_the_end(engine: Engine) -> None:
    (first,) = insert(engine, new_workload("a"))
    with pytest.raises(IntegrityError):
        insert(engine, new_workload("a"))
    insert(engine, new_workload("a", workspace="team"))
    with transaction(engine) as tx:
        store.save_workload(tx, replace(first, ended_at=later(1)))
    (second,) = insert(engine, new_workload("a"))
    assert second.workload_id == 3
    with transaction(engine) as tx:
        assert store.live_id(tx, ZONE, "alice", "a") == 3


def test_many_workloads_are_read_and_ended_at_once(engine: Engine) -> None:
    made = insert(engine, *(new_workload(name, replicas=2) for name in "abc"))
    ids = [one.workload_id for one in made]
    with transaction(engine) as tx:
        found = store.containers_by_workload(tx.connection, [*ids, WorkloadId(99)])
        assert {key: len(some) for key, some in found.items()} == {
            **dict.fromkeys(ids, 2),
            99: 0,
        }
        assert store.containers_by_workload(tx.connection, []) == {}
        assert sorted(store.get_workloads(tx, ids), key=lambda w: w.name) == made
        ended = [replace(one, ended_at=later(1)) for one in made[:2]]
        store.date_ends(tx, ended)
        store.date_ends(tx, [])
        assert tx.changes == ended
        assert sorted(store.get_workloads(tx, ids), key=lambda w: w.name) == [
            *ended,
            made[2],
        ]


def test_cancelling_ends_what_waits_and_stops_what_runs(engine: Engine) -> None:
    made = insert(engine, *(new_workload(name, replicas=2) for name in "abc"))
    ids = [one.workload_id for one in made]
    (one, *_), now = containers(engine, made[1]), later(5)
    save(engine, (one, to.placed(one, hold(), one.version)))
    for _ in range(2):
        with transaction(engine) as tx:
            told = end_workloads(tx, ids, reason="cancelled by bob", now=now)
        states = [[c.state for c in containers(engine, w)] for w in made]
        assert states == [
            [State.FINISHED] * 2,
            [State.STOPPING, State.FINISHED],
            [State.FINISHED] * 2,
        ]
    assert told == []
    with transaction(engine) as tx:
        ends = {one.name: one.ended_at for one in store.get_workloads(tx, ids)}
    assert ends == {"a": now, "b": None, "c": now}
    with engine.connect() as connection:
        kinds = [[e.kind for e in history.events_of(connection, key)] for key in ids]
    assert kinds == [["submit", "stop", "stop"]] * 3


def test_a_submission_key_makes_one_workload(engine: Engine) -> None:
    insert(engine, new_workload("a", submission_key="k"))
    with pytest.raises(IntegrityError):
        insert(engine, new_workload("b", submission_key="k"))


def test_a_container_comes_back_as_it_was_saved(engine: Engine) -> None:
    (workload,) = insert(engine, new_workload("a"))
    (queued,) = containers(engine, workload)
    full = replace(
        queued,
        state=State.STOPPING,
        rev=2,
        version=2,
        attempt=5,
        ready_at=later(1.5),
        hold=hold(ports=("tcp/25000",)),
        docker_id="d" * 64,
        started_at=later(2),
        ended_at=later(3),
        exit_code=137,
        outcome=Outcome.NODE_LOST,
        reason="ä" * 300,
        after_stop=AfterStop.REQUEUE,
        fast_failures=3,
        lost_requeues=2,
        removed=True,
    )
    save(engine, (queued, full))
    with transaction(engine) as tx:
        assert store.get_container(tx, full.container_id) == full
    empty = replace(full, rev=3, hold=None, outcome=None, after_stop=None)
    save(engine, (full, empty))
    assert containers(engine, workload) == [empty]
    with engine.connect() as connection:
        is_null = select(func.count()).where(CONTAINERS.c.hold.is_(None))
        assert connection.execute(is_null).scalar() == 1


def test_an_outdated_write_is_refused_and_changes_nothing(engine: Engine) -> None:
    (workload,) = insert(engine, new_workload("a", replicas=3))
    one, two, three = containers(engine, workload)
    save(engine, (two, to.told_to_end(two, Outcome.CANCELLED, "x", START)))
    pairs = [(c, to.placed(c, hold(), 1)) for c in (one, two, three)]
    with pytest.raises(LeaseLost, match="1 of 3"):
        save(engine, *pairs)
    states = [c.state for c in containers(engine, workload)]
    assert states == [State.QUEUED, State.FINISHED, State.QUEUED]
    save(engine)


def test_attempts_are_kept(engine: Engine) -> None:
    (workload,) = insert(engine, new_workload("a"))
    (queued,) = containers(engine, workload)
    placed = to.placed(queued, hold(), 1)
    runs = to.starting(placed)
    runs = to.running(runs, "d1", later(10))
    stops = to.stopping(runs, AfterStop.FINISH, Outcome.FAILED, "exit code 3")
    ended = to.exited(stops, exit_code=3, started_at=None, ended_at=later(70))
    with transaction(engine) as tx:
        store.insert_runs(tx, [])
        store.insert_runs(tx, [to.new_run(placed, later(1))])
        store.save_run_end(tx, ended)
    with engine.connect() as connection:
        (run,) = history.runs_of(connection, [queued.container_id])
        assert history.runs_of(connection, []) == []
    assert (run.attempt, run.hold, run.placed_at) == (1, hold(), later(1))
    assert (run.started_at, run.ended_at) == (later(10), later(70))
    assert (run.exit_code, run.outcome) == (3, Outcome.FAILED)
    assert run.reason == "exit code 3"


def test_events_keep_their_order(engine: Engine) -> None:
    (workload,) = insert(engine, new_workload("a"))
    events = [
        Happening(
            workload_id=workload.workload_id, at=START, replica=n, kind="x", text=str(n)
        )
        for n in range(1, 30)
    ]
    with transaction(engine) as tx:
        store.insert_events(tx, [])
        store.insert_events(tx, events)
    with engine.connect() as connection:
        assert history.events_of(connection, workload.workload_id)[1:] == events


def test_live_and_ended_are_loaded_apart(engine: Engine) -> None:
    made = insert(engine, *[new_workload(f"w{n}", replicas=2) for n in range(6)])
    with transaction(engine) as tx:
        for workload in made[:4]:
            at = later(10 - workload.workload_id)
            store.save_workload(tx, replace(workload, ended_at=at))
        store.insert_containers(tx, [], now=START)
    with engine.connect() as connection:
        live = list(store.load_live(connection, ZONE))
        ended = list(store.load_ended(connection, ZONE, 2))
        assert list(store.load_live(connection, "elsewhere")) == []
    assert [type(one) for one in live] == [Workload, Container, Container] * 2
    assert {w.workload_id for w in live if isinstance(w, Workload)} == {5, 6}
    assert {w.workload_id for w in ended if isinstance(w, Workload)} == {1, 2}


def test_the_last_of_a_name_is_found(engine: Engine) -> None:
    (first,) = insert(engine, new_workload("a"))
    with transaction(engine) as tx:
        store.save_workload(tx, replace(first, ended_at=later(1)))
    insert(engine, new_workload("a"), new_workload("a", workspace="team"))

    def found(workspace: str | None, name: str) -> list[int]:
        with engine.connect() as connection:
            records = store.find_ended(connection, ZONE, workspace, name)
            return [r.workload_id for r in records if isinstance(r, Workload)]

    assert found("alice", "a") == [2]
    assert found("team", "a") == [3]
    assert found(None, "1") == [1]
    assert found("alice", "b") == []
    assert found(None, "77") == []


def test_a_thousand_workloads_are_loaded_in_order(engine: Engine) -> None:
    insert(engine, *[new_workload(f"w{n}") for n in range(1001)])
    with engine.connect() as connection:
        live = list(store.load_live(connection, ZONE))
    keys = [one.workload_id for one in live if isinstance(one, Workload)]
    assert keys == list(range(1, 1002))
    assert len(live) == 2002


def stored_object(**changes: str) -> StoredObject:
    """A workspace."""
    made = StoredObject(
        kind="Workspace",
        zone="",
        workspace="",
        name="team",
        spec="{}",
        owner="alice",
        created_at=START,
        changed_at=START,
    )
    return replace(made, **changes)


def test_objects_are_created_changed_and_removed(engine: Engine) -> None:
    wanted = stored_object()
    changed = replace(wanted, spec='{"a":1}', owner="bob", changed_at=later(5))
    with transaction(engine) as tx:
        assert object_store.save_object(tx, wanted) == "created"
        assert object_store.save_object(tx, wanted) == "not changed"
        assert object_store.save_object(tx, changed) == "updated"
        object_store.save_object(tx, stored_object(name="a", zone="z1"))
    with engine.connect() as connection:
        found = object_store.get_object(connection, "Workspace", "", "", "team")
        names = [one.name for one in object_store.list_objects(connection, "Workspace")]
        assert names == ["a", "team"]
        assert len(object_store.list_objects(connection, "Workspace", "z1")) == 1
    # Whoever made it stays its owner.
    assert found == replace(wanted, spec='{"a":1}', changed_at=later(5))
    with transaction(engine) as tx:
        gone = object_store.RemovedObject(
            kind="Workspace", zone="", workspace="", name="team"
        )
        by = {"actor": "eve", "at": later(9)}
        assert object_store.delete_object(tx, gone, **by) is True
        assert object_store.delete_object(tx, gone, **by) is False
    at = [microseconds_of(later(seconds)) for seconds in (0, 5, 9)]
    key = document_key("Workspace", "team")
    with engine.connect() as connection:
        history = changes_between(connection, ZONE, 0, at[2] + 1)
        assert history == [
            Change(at=at[0], actor="alice", key=key, old="", new="{}"),
            Change(at=at[1], actor="bob", key=key, old="{}", new='{"a":1}'),
            Change(at=at[2], actor="eve", key=key, old='{"a":1}', new=""),
        ]
        # What belongs to another zone is told there; the policy's log has none of it.
        elsewhere = changes_between(connection, "z1", 0, at[2] + 1)
        assert {one.key for one in elsewhere} == {key, document_key("Workspace", "a")}
        assert load_changes(connection, "") == load_changes(connection, "z1") == []


def test_facts_of_nodes_are_kept(engine: Engine) -> None:
    with transaction(engine) as tx:
        object_store.save_facts(tx, ZONE, "n1", "{}", START)
        object_store.save_facts(tx, ZONE, "n1", '{"a":1}', later(1))
        object_store.save_facts(tx, "other", "n1", "{}", START)
    with engine.connect() as connection:
        assert object_store.load_facts(connection, ZONE) == {
            "n1": ('{"a":1}', later(1), None)
        }
    with transaction(engine) as tx:
        object_store.forget_facts(tx, ZONE, "n1")
    with engine.connect() as connection:
        assert object_store.load_facts(connection, ZONE) == {}
        assert set(object_store.load_facts(connection, "other")) == {"n1"}


def test_what_is_remembered_of_a_node_is_kept(engine: Engine) -> None:
    lost = Loss(by="root", at=later(5), settled_at=later(5))
    with transaction(engine) as tx:
        for zone in (ZONE, "other"):
            object_store.save_facts(tx, zone, "n1", "{}", START)
        object_store.save_seen(tx, ZONE, "n1", later(3))
        object_store.save_loss(tx, ZONE, "n1", lost)
        # Nothing is remembered of a node that was never seen.
        object_store.save_seen(tx, ZONE, "n2", later(3))
        object_store.save_loss(tx, ZONE, "n2", lost)
    with engine.connect() as connection:
        found = object_store.load_facts(connection, ZONE)
        assert found == {"n1": ("{}", later(3), lost)}
        assert object_store.load_facts(connection, "other")["n1"] == ("{}", START, None)
    with transaction(engine) as tx:
        object_store.save_facts(tx, ZONE, "n1", '{"a":1}', later(9))
    with engine.connect() as connection:
        assert object_store.load_facts(connection, ZONE)["n1"].lost == lost
    with transaction(engine) as tx:
        object_store.save_loss(tx, ZONE, "n1", None)
    with engine.connect() as connection:
        assert object_store.load_facts(connection, ZONE)["n1"].lost is None


def test_the_latest_attempts_on_disk(engine: Engine) -> None:
    first = insert(engine, new_workload("a", replicas=2))[0].workload_id
    (second,) = (one.workload_id for one in insert(engine, new_workload("b")))
    with transaction(engine) as tx:
        one = store.containers_of(tx, first)[1]
        store.save_containers(tx, [(one, to.placed(one, hold(), 1))])
    with engine.connect() as connection:
        assert store.latest_attempts(connection, [first, second, 99]) == {
            (first, 1): 0, (first, 2): 1, (second, 1): 0,
        }  # fmt: skip
        assert store.latest_attempts(connection, []) == {}


def test_rows_written_together_are_those_of_single_statements(engine: Engine) -> None:
    (workload,) = insert(engine, new_workload("a"))
    happenings = [
        Happening(
            workload_id=workload.workload_id,
            at=later(n),
            replica=n or None,
            kind="note",
            text=f"größe {n} %(x)s ? :y",
        )
        for n in range(3)
    ]
    with transaction(engine) as tx:
        rows = [
            {name: getattr(one, name) for name in Happening.__slots__}
            for one in happenings
        ]
        statement = EVENTS.insert().inline()
        assert tx.write_rows(statement, rows) == 3
        for row in rows:
            tx.connection.execute(statement, row)
        assert tx.write_rows(statement, []) == 0
        renamed = EVENTS.update().where(EVENTS.c.kind == bindparam("old"))
        renamed = renamed.values(kind=bindparam("new"))
        words = [{"old": "note", "new": "said"}, {"old": "nothing", "new": "lost"}]
        assert tx.write_rows(renamed, words) == 6
        found = history.events_of(tx.connection, workload.workload_id)[1:]
    assert found == 2 * [replace(one, kind="said") for one in happenings]
