"""Committing a plan: exclusive devices, guarded writes, stale ones left alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from dorabatch.daemon.cycle import commit as committing
from dorabatch.daemon.cycle.assembly import cycle_of
from dorabatch.daemon.cycle.commit import Committed, PlanCommitter
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import end_containers
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.spec_units import amounts
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError
from dorabatch.placer.arrays.types import SHARE, Placement
from dorabatch.queue import history, store
from dorabatch.queue.records import Container, StartHold, WorkloadId
from dorabatch.queue.states import Outcome, State
from dorabatch.resources.cluster import NodeSpec
from tests.checkers import broken_laws
from tests.makers import V100, demand, document, facts, hold, node_settings, view
from tests.oracles.placer_cases import make_requests
from tests.unit.daemon.conftest import Parts, caller

N1 = view("n1")
NODES = {"n1": facts()}
HOLD = StartHold(by="root", reason="at the last moment")
KEY = "SHA256:" + "A" * 43


def snapshot_of(parts: Parts) -> Snapshot:
    """What a cycle would see."""
    parts.books.fleet.put(N1.settings)
    return take_snapshot(parts.books.board, [N1])


def committer_of(parts: Parts, snapshot: Snapshot) -> PlanCommitter:
    """Who commits a plan that was made on a snapshot."""
    books = parts.books
    return PlanCommitter(books.board, snapshot, books.fleet, books.billing)


def commit(
    parts: Parts, snapshot: Snapshot, wanted: Sequence[tuple[int, int]]
) -> Committed:
    """Commit (container, GPUs) on n1 and check the laws."""
    placements = [Placement(key=k, node=0, gpus=(n,)) for k, n in wanted]
    committer = committer_of(parts, snapshot)
    now = parts.clock.now()
    done = parts.effects.writer.do(lambda tx: committer.commit(tx, placements, now))
    board = parts.books.board
    assert broken_laws(list(board.containers.values()), NODES) == []
    return done


def test_devices_are_picked_for_one_container_only(parts: Parts) -> None:
    parts.submit("a", replicas=3, options={"gpus": "1", "cpus": "2"})
    done = commit(parts, snapshot_of(parts), [(1, 1), (2, 1), (3, 1)])
    assert done.stale == 0
    holds = [one.hold for one in done.placed]
    assert [h.gpus for h in holds if h] == [("GPU-0",), ("GPU-1",), ("GPU-2",)]
    assert [h.cores for h in holds if h] == [(0, 1), (2, 3), (4, 5)]
    assert {h.boot_id for h in holds if h} == {"boot-1"}
    with parts.effects.engine.connect() as connection:
        runs = history.runs_of(connection, [1, 2, 3])
        kinds = [e.kind for e in history.events_of(connection, 1)]
    assert [run.hold for run in runs] == holds
    assert kinds.count("place") == 3


class Before(Writer):
    """The daemon's writer, to which another job comes first, once."""

    def __init__(self, writer: Writer, first: Callable[[Tx], object]) -> None:
        self._writer, self._first = writer, first

    def do(self, action: Callable[[Tx], Any]) -> Any:
        """Both in one batch, as two that come at the same moment."""

        def both(tx: Tx) -> Any:
            self._first(tx)
            return action(tx)

        return self._writer.do(both)


def placing(parts: Parts) -> Callable[[Tx], Committed]:
    """What a cycle that has planned container 1 on n1 writes."""
    committer, now = committer_of(parts, snapshot_of(parts)), parts.clock.now()
    placements = [Placement(key=1, node=0, gpus=(1,))]
    return lambda tx: committer.commit(tx, placements, now)


def test_nothing_is_placed_on_a_node_that_was_removed_meanwhile(parts: Parts) -> None:
    admin, nodes = caller(is_admin=True), parts.nodes
    nodes.save(admin, "n1", NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY))
    parts.submit("a")
    write = placing(parts)
    nodes.remove(admin, "n1")
    done = parts.effects.writer.do(write)
    assert (done.placed, done.stale) == ((), 1)
    assert parts.container(1).state is State.QUEUED


def test_a_node_that_something_is_placed_on_meanwhile_is_kept(parts: Parts) -> None:
    admin, nodes = caller(is_admin=True), parts.nodes
    nodes.save(admin, "n1", NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY))
    parts.submit("a")
    placed_before = parts.again(writer=Before(parts.effects.writer, placing(parts)))
    with pytest.raises(ConflictError, match=r"1 container \(workload 1\); cordon"):
        placed_before.nodes.remove(admin, "n1")
    assert parts.books.fleet.get("n1") is not None
    assert nodes.pinned_key("n1")[1] == KEY


def test_what_is_held_already_is_not_picked(parts: Parts) -> None:
    parts.submit("a")
    parts.run(parts.container(1), hold(gpus=("GPU-0",), cores=(0, 1)))
    parts.submit("b", options={"gpus": "2", "cpus": "1"})
    (placed,) = commit(parts, snapshot_of(parts), [(2, 2)]).placed
    assert placed.hold is not None
    assert (placed.hold.gpus, placed.hold.cores) == (("GPU-1", "GPU-2"), (2,))


def test_a_placement_whose_devices_are_gone_is_stale(parts: Parts) -> None:
    parts.submit("a", replicas=3, options={"gpus": "2", "cpus": "1"})
    done = commit(parts, snapshot_of(parts), [(1, 2), (2, 2), (3, 2)])
    assert ([c.replica for c in done.placed], done.stale) == ([1, 2], 1)
    assert parts.container(1, 3).state is State.QUEUED


def test_too_few_whole_cores_are_stale(parts: Parts) -> None:
    parts.submit("a", replicas=2, options={"cpus": "5"})
    done = commit(parts, snapshot_of(parts), [(1, 0), (2, 0)])
    assert (len(done.placed), done.stale) == (1, 1)


def test_what_asks_for_more_than_was_planned_is_stale(parts: Parts) -> None:
    parts.submit("a", options={"cpus": 1})
    snapshot = snapshot_of(parts)
    asks = document(name="a", cpus=6, workspace="alice")
    parts.applier.apply(caller(), asks)
    done = commit(parts, snapshot, [(1, 0)])
    assert (done.placed, done.stale) == ((), 1)
    (placed,) = commit(parts, snapshot_of(parts), [(1, 0)]).placed
    assert placed.hold is not None and placed.hold.cpu_milli == 6000


def test_a_port_goes_to_one_container_of_a_node(parts: Parts) -> None:
    options = {"ports": ["25000:80/tcp"], "cpus": "1"}
    parts.submit("a", options=options)
    parts.submit("b", options=options)
    parts.submit("c", options={**options, "ports": ["25000:80/udp"]})
    done = commit(parts, snapshot_of(parts), [(1, 0), (2, 0), (3, 0)])
    ports = [one.hold.ports for one in done.placed if one.hold]
    assert (ports, done.stale) == ([("tcp/25000",), ("udp/25000",)], 1)
    again = commit(parts, snapshot_of(parts), [(2, 0)])
    assert (again.placed, again.stale) == ((), 1)


@pytest.mark.mission("M43")
def test_each_replica_has_its_own_port(parts: Parts) -> None:
    parts.submit("a", replicas=2, options={"ports": ["25000:80/tcp"], "cpus": "1"})
    done = commit(parts, snapshot_of(parts), [(1, 0), (2, 0)])
    ports = [one.hold.ports for one in done.placed if one.hold]
    assert ports == [("tcp/25000",), ("tcp/25001",)]


def test_held_before_the_commit_is_stale(parts: Parts) -> None:
    parts.submit("a")
    snapshot, writer = snapshot_of(parts), parts.effects.writer
    held = replace(parts.books.board.workloads[WorkloadId(1)], start_hold=HOLD)
    writer.do(lambda tx: store.save_workload(tx, held))
    done = commit(parts, snapshot, [(1, 1)])
    assert (done.placed, done.stale) == ((), 1)


def test_cancelled_before_the_commit_is_stale(parts: Parts) -> None:
    parts.submit("a", replicas=2)
    snapshot = snapshot_of(parts)
    first = parts.container(1)
    parts.effects.writer.do(
        lambda tx: end_containers(
            tx, [first], outcome=Outcome.CANCELLED, reason="x", now=parts.clock.now()
        )
    )
    done = commit(parts, snapshot, [(1, 1), (2, 1), (77, 1)])
    assert ([c.replica for c in done.placed], done.stale) == ([2], 2)


def test_cancelled_in_the_same_transaction_is_stale_alone(parts: Parts) -> None:
    parts.submit("a", replicas=3)
    snapshot, now = snapshot_of(parts), parts.clock.now()
    placements = [Placement(key=n, node=0, gpus=(1,)) for n in (1, 2, 3)]
    committer = committer_of(parts, snapshot)
    second = parts.container(1, 2)

    def both(tx: store.Tx) -> Committed:
        end_containers(tx, [second], outcome=Outcome.CANCELLED, reason="x", now=now)
        return committer.commit(tx, placements, now)

    done = parts.effects.writer.do(both)
    assert ([c.replica for c in done.placed], done.stale) == ([1, 3], 1)
    board = parts.books.board
    assert [c.state for c in board.containers_of(1)] == [
        State.PLACED, State.FINISHED, State.PLACED
    ]  # fmt: skip
    assert parts.states(1) == [State.PLACED, State.FINISHED, State.PLACED]
    with parts.effects.engine.connect() as connection:
        assert [run.container_id for run in history.runs_of(connection, [1, 2, 3])] == [
            1, 3
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpu_count", "cpu", "memory", "expected"),
    [
        (1, SHARE, SHARE, (2000, 4096)),
        (3, SHARE, SHARE, (6000, 12288)),
        (1, 500, SHARE, (500, 4096)),
        (1, SHARE, 100, (2000, 100)),
        (0, 4000, SHARE, (4000, 8192)),
        (0, 1000, 7, (1000, 7)),
    ],
)
def test_slices(
    gpu_count: int, cpu: int, memory: int, expected: tuple[int, int]
) -> None:
    wanted = demand(gpu_count=gpu_count, cpu_milli=cpu, memory_mib=memory)
    assert amounts(wanted, N1) == expected


def test_gpu_models_are_named_in_the_hold(parts: Parts) -> None:
    parts.submit("a", options={"gpus": "2"})
    (placed,) = commit(parts, snapshot_of(parts), [(1, 2)]).placed
    assert placed.hold is not None
    assert placed.hold.gpu_models == (V100, V100)
    assert (placed.hold.cores, placed.hold.cpu_milli) == ((), 4000)


def test_a_plan_is_written_in_parts_that_keep_a_gang_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committing, "PART", 2)
    rows: list[dict[str, object]] = [{"key": 1}]
    rows += [{"key": key, "group": 7, "gang": 1} for key in (2, 3, 4, 5)]
    rows += [{"key": 6, "group": 8, "gang": 1}, {"key": 9}]
    placements = [Placement(key=key, node=0, gpus=(1,)) for key in (1, 2, 3, 4, 5, 6)]
    found = committing.parts(placements, make_requests(rows))
    assert [[one.key for one in part] for part in found] == [[1, 2, 3, 4, 5], [6]]


def test_other_writes_come_between_the_parts_of_a_plan(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "PART", 2)
    launched: list[int] = []
    last = parts.submit("a", replicas=4, options={"gpus": "1"}).workload_id

    class CancelsLast:
        def launch(self, one: Container) -> None:
            """While the first part starts the last container is cancelled."""
            launched.append(one.replica)
            if len(launched) == 1:
                gone = parts.container(last, 4)
                now = parts.clock.now()
                parts.effects.writer.do(
                    lambda tx: end_containers(
                        tx, [gone], outcome=Outcome.CANCELLED, reason="x", now=now
                    )
                )

    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), facts())
    keepers = cast(Keepers, CancelsLast())
    result = cycle_of(parts.books, parts.effects, keepers).run()
    assert launched == [1, 2, 3]
    assert (result.placed, result.stale) == (3, 1)
    board = parts.books.board
    assert broken_laws(list(board.containers.values()), NODES) == []
