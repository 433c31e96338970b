"""Devices as rows: exactly what live runs hold is held, and by whom."""

import pytest

from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.views.device_rows import (
    CPU_CELLS,
    CPU_COLUMNS,
    GPU_CELLS,
    GPU_COLUMNS,
    DeviceRows,
)
from dorabatch.daemon.views.node_use import node_use
from dorabatch.daemon.views.table_layout import render_table
from dorabatch.queue.board import Board
from dorabatch.queue.records import Hold
from dorabatch.queue.states import Outcome, State
from tests.makers import (
    BOB,
    START,
    V100,
    container,
    demand,
    facts,
    gpus,
    hold,
    later,
    node_settings,
    workload,
)


@pytest.fixture
def fleet() -> Fleet:
    """n1 with four V100 and eight cores, n2 that has not told anything."""
    made = Fleet()
    made.put(node_settings("n1"))
    made.put(node_settings("n2"))
    made.seen("n1", START, facts(gpus=gpus(4)[::-1]))
    return made


@pytest.fixture
def board() -> Board:
    """An empty board."""
    return Board(ended_max=10, demand_of=lambda _w, _r: demand())


def run(board: Board, key: int, where: Hold, **changes: object) -> None:
    """A running workload of alice's, or of who is named."""
    one = container(
        key, workload_id=key, state=State.RUNNING, hold=where, attempt=1, **changes
    )
    board.apply([workload(key, submitter=BOB), one])


def end(board: Board, key: int) -> None:
    one = board.containers[key]
    done = {"state": State.FINISHED, "hold": None, "outcome": Outcome.DONE}
    board.apply([container(key, workload_id=key, attempt=1, **done)])
    assert board.containers[key] is not one


def test_only_what_live_runs_hold_is_held(board: Board, fleet: Fleet) -> None:
    rows = DeviceRows(board=board, fleet=fleet, see_others="queue")
    assert [row["state"] for row in rows.gpus()] == ["free"] * 4
    run(board, 1, hold(gpus=("GPU-1", "GPU-2"), gpu_models=(V100, V100)))
    found = rows.gpus()
    assert [row["index"] for row in found] == [0, 1, 2, 3]
    assert [row["state"] for row in found] == ["free", "held", "held", "free"]
    assert [row["free_milli"] for row in found] == [1000, 0, 0, 1000]
    assert found[1]["holders"] == [
        {"id": 1, "name": "w1", "workspace": "alice", "replica": 1, "user": "bob",
         "milli": 1000}
    ]  # fmt: skip
    end(board, 1)
    assert [row["state"] for row in rows.gpus()] == ["free"] * 4
    assert all(row["holders"] == [] for row in rows.gpus())


def test_a_shared_gpu_names_everybody_and_what_is_left(
    board: Board, fleet: Fleet
) -> None:
    run(board, 1, hold(gpu_milli=250, cores=()))
    run(board, 2, hold(gpu_milli=500, cores=()))
    first = DeviceRows(board=board, fleet=fleet, see_others="queue").gpus()[0]
    assert (first["state"], first["held_milli"], first["free_milli"]) == (
        "shared", 750, 250,
    )  # fmt: skip
    assert [(one["id"], one["milli"]) for one in first["holders"]] == [
        (1, 250),
        (2, 500),
    ]
    run(board, 3, hold(gpu_milli=250, cores=()))
    full = DeviceRows(board=board, fleet=fleet, see_others="queue").gpus()[0]
    assert (full["state"], full["free_milli"]) == ("shared", 0)


def test_a_held_gpu_that_is_gone_is_lost(board: Board, fleet: Fleet) -> None:
    run(board, 1, hold(gpus=("GPU-3",)))
    fleet.seen("n1", later(1), facts(gpus=gpus(2)))
    found = DeviceRows(board=board, fleet=fleet, see_others="queue").gpus()
    assert [(row["index"], row["state"]) for row in found] == [
        (0, "free"),
        (1, "free"),
        (None, "lost"),
    ]
    lost = found[-1]
    assert (lost["uuid"], lost["model"], lost["free_milli"]) == ("GPU-3", V100, 0)
    assert lost["holders"][0]["id"] == 1


def test_the_cpu_of_each_node_that_told_of_itself(board: Board, fleet: Fleet) -> None:
    run(board, 1, hold())
    run(board, 2, hold(gpus=(), gpu_models=(), cores=(), cpu_milli=500))
    (row,) = DeviceRows(board=board, fleet=fleet, see_others="queue").cpus()
    assert (row["node"], row["model"], row["cores"]) == ("n1", "EPYC", 8)
    assert (row["cores_pinned"], row["held_milli"], row["free_milli"]) == (
        2, 2500, 5500,
    )  # fmt: skip


def test_the_tables(board: Board, fleet: Fleet) -> None:
    run(board, 1, hold(gpu_milli=500, cores=()))
    rows = DeviceRows(board=board, fleet=fleet, see_others="queue")
    lines = render_table(rows.gpus(), GPU_CELLS, GPU_COLUMNS).splitlines()
    assert lines[0].split()[:3] == ["NODE", "INDEX", "MODEL"]
    assert "shared" in lines[1] and "0.5xalice/w1.1 (id 1, bob)" in lines[1]
    assert lines[2].split()[-1] == "-"
    lines = render_table(rows.cpus(), CPU_CELLS, CPU_COLUMNS).splitlines()
    assert lines[1].split() == ["n1", "READY", "EPYC", "8", "0", "2", "6"]


def test_what_is_held_counts_a_shared_gpu_once() -> None:
    where = hold(gpu_milli=500, cores=())
    held = [container(key, state=State.RUNNING, hold=where) for key in (1, 2)]
    use = node_use(held)
    assert use.gpus_of(V100) == {"held": 1, "held_milli": 1000}
    assert (use.containers, use.cpu_milli, use.memory_mib) == (2, 4000, 2048)
