"""Runs that are ended without their node's word, and what comes after that."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from dorabatch.config import LaunchSettings
from dorabatch.daemon.intake.stored_nodes import StoredNodes
from dorabatch.daemon.runs.assembly import lost_runs_of
from dorabatch.daemon.runs.end_verdict import verdict_on_loss
from dorabatch.daemon.runs.lost_runs import Declared, LostRuns
from dorabatch.daemon.runs.settle import Settlement
from dorabatch.daemon.runs.start_records import EndRecords, RefusedStarts, StartRecords
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import Loss, NodeState, NodeView, Refusal
from dorabatch.daemon.state.object_store import save_facts, save_loss
from dorabatch.db import Tx
from dorabatch.errors import ConflictError
from dorabatch.queue import transitions as to
from dorabatch.queue.history import events_of
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.queue.tables import RUNS
from dorabatch.resources.cluster import NodeSpec
from tests.makers import START, ZONE, facts, gpus, hold, later, node_settings
from tests.unit.daemon.conftest import Parts

LOST = Declared(node="n1", by="root", words="node n1 was declared lost by root")


def view(fleet: Fleet) -> NodeView:
    """The node n1."""
    found = fleet.get("n1")
    assert found is not None
    return found


def silent(fleet: Fleet) -> Fleet:
    """n1 was there and does not answer any more."""
    fleet.put(node_settings("n1"))
    fleet.seen("n1", START, facts())
    fleet.fault("n1", NodeState.UNREACHABLE, "no route")
    return fleet


@pytest.fixture
def site(parts: Parts) -> Parts:
    """A daemon whose n1 does not answer."""
    silent(parts.books.fleet)
    return parts


def losing(site: Parts) -> LostRuns:
    return lost_runs_of(site.books, site.effects)


def run(site: Parts, name: str = "a", **spec: object) -> Container:
    """A workload's container that runs on n1."""
    return site.run(site.container(site.submit(name, **spec).workload_id))


def outcomes(site: Parts) -> list[tuple[int, str | None]]:
    """(attempt, outcome) of every attempt on disk."""
    with site.effects.engine.connect() as connection:
        rows = connection.execute(select(RUNS.c.attempt, RUNS.c.outcome))
        return [(row.attempt, row.outcome) for row in rows]


@pytest.mark.parametrize(
    ("state", "on_lost", "interrupted", "after"),
    [
        (State.RUNNING, "wait", "requeue", AfterStop.REQUEUE),
        (State.RUNNING, "wait", "fail", AfterStop.FINISH),
        (State.RUNNING, "requeue", "fail", AfterStop.REQUEUE),
        (State.RUNNING, "fail", "requeue", AfterStop.FINISH),
        (State.STARTING, "fail", "requeue", AfterStop.FINISH),
        # Nothing of it was ever begun.
        (State.PLACED, "fail", "fail", AfterStop.REQUEUE),
    ],
)
def test_the_verdict_on_a_loss(
    state: State, on_lost: str, interrupted: str, after: AfterStop
) -> None:
    one = Container(
        container_id=1, workload_id=1, replica=1, state=state, rev=1, version=1,
        attempt=1, queued_at=START,
    )  # fmt: skip
    launch = LaunchSettings(interrupted=interrupted)
    found = verdict_on_loss(one, on_lost, "why", later(9), launch)
    assert (found.after, found.outcome) == (after, Outcome.NODE_LOST)
    assert found.reason == "why"
    is_counted = after is AfterStop.REQUEUE and state is not State.PLACED
    assert found.lost_requeues == is_counted


@pytest.mark.parametrize(
    ("state", "began", "after", "count"),
    [
        (State.RUNNING, START, AfterStop.FINISH, 5),
        (State.STARTING, None, AfterStop.FINISH, 5),
        (State.PLACED, None, AfterStop.REQUEUE, 5),
        # What ran for a day says nothing against its job.
        (State.RUNNING, START - timedelta(days=1), AfterStop.REQUEUE, 1),
    ],
)
def test_what_was_lost_too_often_is_given_up(
    state: State, began: datetime | None, after: AfterStop, count: int
) -> None:
    one = Container(
        container_id=1, workload_id=1, replica=1, state=state, rev=1, version=1,
        attempt=6, queued_at=START, started_at=began, lost_requeues=5,
    )  # fmt: skip
    found = verdict_on_loss(one, "requeue", "why", later(9), LaunchSettings())
    assert (found.after, found.lost_requeues) == (after, count)
    assert ("gave up" in found.reason) == (after is AfterStop.FINISH)


@pytest.mark.parametrize(
    ("stop", "state", "outcome"),
    [
        (
            (AfterStop.FINISH, Outcome.CANCELLED, "cancelled"),
            State.FINISHED,
            "cancelled",
        ),
        ((AfterStop.FINISH, Outcome.DONE, ""), State.FINISHED, "done"),
        ((AfterStop.REQUEUE, None, "makes way"), State.QUEUED, None),
        ((AfterStop.RESTART, Outcome.DONE, "exit code 0"), State.QUEUED, "done"),
    ],
)
def test_what_was_being_ended_ends_as_that(
    site: Parts, stop: tuple[AfterStop, Outcome, str], state: State, outcome: str | None
) -> None:
    one = run(site)
    site.change(one, lambda c: to.stopping(c, *stop))
    assert losing(site).end(LOST) is not None
    assert site.states(one.workload_id) == [state]
    assert outcomes(site) == [(1, outcome)]


def test_its_end_is_when_it_was_last_known(site: Parts) -> None:
    site.clock.advance(-5)
    one = run(site)
    site.clock.advance(3600)
    losing(site).end(LOST)
    with site.effects.engine.connect() as connection:
        (row,) = connection.execute(select(RUNS))
    assert (row.started_at, row.ended_at) == (one.started_at, START)


def test_it_is_ended_once(site: Parts) -> None:
    one = run(site)
    (before,) = losing(site).end(LOST) or ()
    assert before.container_id == one.container_id
    assert losing(site).end(LOST) == []
    assert outcomes(site) == [(1, "node_lost")]


def ends(site: Parts) -> EndRecords:
    books, effects = site.books, site.effects
    return EndRecords(
        board=books.board,
        writer=effects.writer,
        clock=effects.clock,
        settlement=Settlement(billing=books.billing, usage=books.usage),
        launch=books.settings.launch,
    )


def starts(site: Parts) -> StartRecords:
    books, effects = site.books, site.effects
    launch = books.settings.launch
    return StartRecords(
        board=books.board,
        writer=effects.writer,
        clock=effects.clock,
        steps=effects.steps,
        refused_starts=RefusedStarts(
            registries=books.registries,
            avoided=books.avoided,
            nodes=site.keepers.refusing,
            clock=effects.clock,
            launch=launch,
        ),
        launch=launch,
    )


@pytest.mark.parametrize("replaced", [False, True])
def test_who_still_ends_it_on_its_node_is_too_late(site: Parts, replaced: bool) -> None:
    one = run(site)
    stopped = site.change(
        one, lambda c: to.stopping(c, AfterStop.REQUEUE, None, "makes way")
    )
    losing(site).end(LOST)
    if replaced:
        site.run(site.container(one.workload_id), replace(hold(), node="n2"))
    with pytest.raises(ConflictError, match="without its node"):
        ends(site).gone(stopped)
    found = outcomes(site)
    assert found == [(1, None), (2, None)][: 1 + replaced]
    expected = State.RUNNING if replaced else State.QUEUED
    assert site.states(one.workload_id) == [expected]


def test_a_write_that_fails_leaves_all_as_it_was(site: Parts) -> None:
    one = run(site)

    def refuse(_tx: Tx, _ended: list[Container]) -> None:
        raise ConflictError("as the test wants it")

    with pytest.raises(ConflictError):
        losing(site).end(replace(LOST, also=refuse))
    assert site.states(one.workload_id) == [State.RUNNING]
    assert view(site.books.fleet).state is NodeState.UNREACHABLE
    assert view(site.books.fleet).lost is None
    assert site.books.fleet.seen("n1", later(9), looked_at=later(8))


def test_of_two_at_once_the_later_one_does_it(site: Parts) -> None:
    one, fleet = run(site), site.books.fleet
    later_one = []

    def also(_tx: Tx, ended: list[Container]) -> None:
        later_one.append(len(ended))

    first = fleet.lose("n1", "dorad", site.clock.now())
    assert first is not None
    second = fleet.lose("n1", "root", site.clock.now())
    assert second is not None
    assert second.by == "dorad"
    assert not fleet.is_losing("n1", first)
    # The first is over, and the node is out of use until the second is.
    fleet.settle_loss("n1", first, later(1))
    assert not fleet.seen("n1", later(5), looked_at=later(4))
    fleet.fault("n1", NodeState.UNREACHABLE, "no route")
    assert losing(site).end(replace(LOST, also=also)) is not None
    assert later_one == [1]
    assert site.states(one.workload_id) == [State.QUEUED]


def test_a_failed_write_keeps_a_lost_node_lost(site: Parts) -> None:
    fleet = site.books.fleet
    losing(site).end(LOST)

    def refuse(_tx: Tx, _ended: list[Container]) -> None:
        raise ConflictError("as the test wants it")

    with pytest.raises(ConflictError):
        losing(site).end(replace(LOST, also=refuse))
    assert view(fleet).state is NodeState.LOST
    assert fleet.seen("n1", later(9), looked_at=later(8))


def test_a_node_that_answers_is_left_alone(site: Parts) -> None:
    one = run(site)
    site.books.fleet.seen("n1", later(1))
    assert losing(site).end(LOST) is None
    assert losing(site).end(replace(LOST, node="n9")) is None
    assert site.states(one.workload_id) == [State.RUNNING]
    assert view(site.books.fleet).state is NodeState.READY


def test_a_lost_node_is_used_after_a_clean_look_only() -> None:
    fleet = silent(Fleet())
    loss = fleet.lose("n1", "root", later(10))
    assert loss is not None
    # While it is being written down no look counts.
    assert not fleet.seen("n1", later(12), looked_at=later(11))
    fleet.settle_loss("n1", loss, later(13))
    assert not fleet.seen("n1", later(14), looked_at=later(12))
    assert not fleet.seen("n1", later(15))
    assert not fleet.seen("n1", later(16), looked_at=later(14), is_clean=False)
    assert (view(fleet).state, view(fleet).silent_since) == (NodeState.LOST, None)
    assert not fleet.fault("n1", NodeState.REFUSED, "who are you")
    assert (view(fleet).state, view(fleet).silent_since) == (NodeState.LOST, later(16))
    assert fleet.seen("n1", later(18), looked_at=later(17))
    assert (view(fleet).state, view(fleet).lost) == (NodeState.READY, None)


def test_whatever_was_away_is_clean_before_it_is_used() -> None:
    fleet = silent(Fleet())
    assert not fleet.seen("n1", later(1), is_clean=False)
    assert view(fleet).state is NodeState.CONNECTING
    assert fleet.seen("n1", later(2))
    # What is in use stays so; what is left over there is removed in time.
    assert not fleet.seen("n1", later(3), is_clean=False)
    assert view(fleet).state is NodeState.READY


def test_what_nobody_looked_at_cannot_be_lost() -> None:
    fleet = Fleet()
    fleet.put(node_settings("n1"), facts(), last_seen=START)
    assert not fleet.lose("n1", "root", later(1))
    assert not fleet.lose("n9", "root", later(1))
    assert view(fleet).silent_since is None
    fleet.fault("n1", NodeState.UNREACHABLE, "no route")
    assert view(fleet).silent_since == START


def test_a_second_name_of_a_machine_is_clean_before_it_is_used() -> None:
    fleet = Fleet()
    for name in ("n1", "again"):
        fleet.put(node_settings(name))
        fleet.seen(name, START, facts())
    fleet.seen("again", later(1), is_clean=False)
    found = fleet.get("again")
    assert found is not None
    assert found.state is NodeState.ASIDE
    fleet.drop("n1")
    assert not fleet.seen("again", later(2), is_clean=False)
    assert fleet.seen("again", later(3))


def test_a_lost_node_that_is_a_machine_twice_is_put_aside_once_clean() -> None:
    fleet = silent(Fleet())
    fleet.put(node_settings("again"))
    loss = fleet.lose("n1", "root", later(1))
    assert loss is not None
    fleet.settle_loss("n1", loss, later(2))
    fleet.drop("n1")
    fleet.seen("again", later(3), facts())
    fleet.put(node_settings("n1"), facts(), lost=replace(loss, settled_at=later(2)))
    assert not fleet.seen("n1", later(5), looked_at=later(4), is_clean=False)
    assert view(fleet).state is NodeState.LOST
    assert not fleet.seen("n1", later(7), looked_at=later(6))
    assert (view(fleet).state, view(fleet).lost) == (NodeState.ASIDE, None)


def test_a_loss_and_silence_are_told_before_all_else() -> None:
    fleet = Fleet()
    fleet.put(node_settings("n1"))
    broken = facts(gpus=(), missing_gpus=gpus(4), gpu_error="NVML is broken")
    fleet.seen("n1", START, broken)
    refusal = Refusal(
        since=START, reason="no runtime", tries=0, try_at=START, with_gpus=True
    )
    fleet.refuses("n1", refusal)
    assert view(fleet).told == (NodeState.QUARANTINED, refusal.words)
    fleet.silent(later(99), timedelta(seconds=12))
    state, reason = view(fleet).told
    assert state is NodeState.UNREACHABLE
    assert reason == f"no answer since {START:%Y-%m-%d %H:%M} UTC"
    loss = fleet.lose("n1", "root", later(100))
    assert loss is not None
    fleet.settle_loss("n1", loss, later(101))
    state, reason = view(fleet).told
    assert state is NodeState.LOST
    assert reason.startswith("lost since ")
    assert "(by root)" in reason
    assert "; no answer since" in reason
    # It is back, and refuses starts as before.
    fleet.seen("n1", later(103), looked_at=later(102))
    assert view(fleet).told == (NodeState.QUARANTINED, refusal.words)
    assert view(fleet).reason == "4 of its 4 GPUs are missing: NVML is broken"


def test_a_node_that_is_put_back_is_as_it_was() -> None:
    fleet = silent(Fleet())
    refusal = Refusal(since=START, reason="x", tries=0, try_at=START, with_gpus=True)
    fleet.refuses("n1", refusal)
    fleet.lose("n1", "root", later(1))
    before = view(fleet)
    fleet.drop("n1")
    fleet.put_back(before)
    assert view(fleet) is before
    # It is the first of its machine again.
    fleet.put(node_settings("again"))
    assert not fleet.seen("again", later(2), facts())


def test_a_clock_that_was_set_back_keeps_no_lost_node_out(site: Parts) -> None:
    stored = StoredNodes(
        zone=ZONE,
        engine=site.effects.engine,
        writer=site.effects.writer,
        clock=site.clock,
    )
    stored.save("root", "n1", NodeSpec(endpoint="ssh://127.0.0.1:1"))

    def write(tx: Tx) -> None:
        save_facts(tx, ZONE, "n1", facts_to_json(facts()), later(9000))
        save_loss(tx, ZONE, "n1", Loss(by="root", at=later(9500)))

    site.effects.writer.do(write)
    ((_, _, known),) = stored.all()
    now = site.clock.now()
    assert known is not None
    assert known.seen_at == now
    assert known.lost is not None
    assert known.lost.at == later(9500)
    assert known.lost.counts(now + timedelta(seconds=1))


def test_who_fetched_an_image_for_a_lost_attempt_starts_no_other(site: Parts) -> None:
    before = site.place(site.container(site.submit("a").workload_id))
    records = starts(site)
    assert records.to_start(before.container_id, "n1") == before
    losing(site).end(LOST)
    placed = site.place(site.container(before.workload_id), replace(hold(), node="n2"))
    assert placed.attempt == before.attempt + 1
    assert records.to_start(before.container_id, "n1") is None
    assert records.intend(before) is None
    assert site.states(before.workload_id) == [State.PLACED]
    assert records.to_start(before.container_id, "n2") == placed
    # It was never begun, so nothing counts.
    assert placed.lost_requeues == 0


def test_a_lost_run_is_counted_so_that_it_goes_first(site: Parts) -> None:
    one = run(site, "b")
    losing(site).end(LOST)
    assert site.container(one.workload_id).lost_requeues == 1
    with site.effects.engine.connect() as connection:
        texts = [each.text for each in events_of(connection, one.workload_id)]
    assert (
        f"{LOST.words}; queued again, 1 of at most 5 times for lost attempts" in texts
    )
