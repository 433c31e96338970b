"""The snapshot: what is free, what a request accepts, where it may go at all."""

import numpy as np
import pytest

from dorabatch.daemon.capture import (
    cluster_arrays,
    held_ports,
    mask_of,
    restricts,
    take_snapshot,
)
from dorabatch.daemon.devices import FreeDevices
from dorabatch.daemon.node_view import NodeState, NodeView
from dorabatch.daemon.snapshot import accepts_table
from dorabatch.queue.board import Board
from dorabatch.queue.pending import Demand, Restriction
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State
from tests.makers import (
    RTX,
    V100,
    container,
    demand,
    facts,
    gpus,
    hold,
    node_settings,
    view,
    workload,
)


def board_of(*containers: Container, demands: dict[int, Demand] | None = None) -> Board:
    """A board with these containers, each of workload 1; demands by replica."""
    wanted = demands or {}

    def demand_of(_: Workload, replica: int) -> Demand:
        return wanted.get(replica, demand())

    board = Board(ended_max=9, demand_of=demand_of)
    board.apply([workload(1), *containers])
    return board


def running(key: int, **changes: object) -> Container:
    """A running container of workload 1."""
    return container(key, replica=key, state=State.RUNNING, hold=hold(**changes))


N1 = view("n1")
N2 = view("n2", facts=facts(hostname="n2", gpus=gpus(2, RTX, "RTX"), cpu_model="Xeon"))
N3 = view("n3", facts=facts(hostname="n3", gpus=(), memory_mib=4096))


def test_free_amounts_are_totals_less_holds() -> None:
    board = board_of(
        running(1, gpus=("GPU-0", "GPU-2"), gpu_models=(V100, V100)),
        running(2, gpus=(), gpu_models=(), cores=(), cpu_milli=500, memory_mib=100),
        running(3, node="n2", gpus=("RTX-1",), gpu_models=(RTX,)),
    )
    found = cluster_arrays([N1, N2, N3], board)
    assert found.names == ("n1", "n2", "n3")
    assert found.models == (RTX, V100)
    assert found.gpus_total.tolist() == [[0, 4], [2, 0], [0, 0]]
    assert found.gpus_free.tolist() == [[0, 2], [1, 0], [0, 0]]
    assert found.cpu_total_milli.tolist() == [8000, 8000, 8000]
    assert found.cpu_free_milli.tolist() == [5500, 6000, 8000]
    assert found.memory_free_mib.tolist() == [16384 - 1124, 16384 - 1024, 4096]
    assert found.siblings == {(1, 0): 2, (1, 1): 1}


@pytest.mark.parametrize("state", [State.PLACED, State.STARTING, State.STOPPING])
def test_every_holding_state_counts(state: State) -> None:
    board = board_of(container(1, state=state, hold=hold()))
    assert cluster_arrays([N1], board).gpus_free.tolist() == [[3]]


def test_more_held_than_there_is_counts_as_nothing_free() -> None:
    shrunk = view("n1", facts=facts(gpus=(), cores=(0,), memory_mib=512))
    found = cluster_arrays([shrunk], board_of(running(1)))
    assert found.gpus_free.size == 0
    assert (found.cpu_free_milli[0], found.memory_free_mib[0]) == (0, 0)


def test_what_nodes_take() -> None:
    nodes = [
        view("n1", settings=node_settings("n1", scheduling_disabled=True)),
        view("n2", state=NodeState.UNREACHABLE),
        view("n3", settings=node_settings("n3", allows_gpu=False)),
        view("n4", settings=node_settings("n4", allows_cpu=False)),
    ]
    found = cluster_arrays(nodes, board_of())
    assert found.enabled.tolist() == [False, True, True, True]
    assert found.ready.tolist() == [True, False, True, True]
    assert found.allows_gpu.tolist() == [True, True, False, True]
    assert found.allows_cpu.tolist() == [True, True, True, False]


def test_accepts() -> None:
    found = accepts_table([None, (V100,), (RTX, V100), ("A100",)], [RTX, V100])
    assert found.tolist() == [[1, 1], [0, 1], [1, 1], [0, 0]]
    assert accepts_table([None], []).shape == (1, 0)


@pytest.mark.parametrize(
    ("restriction", "node", "ports", "reason"),
    [
        (Restriction(), N1, frozenset(), None),
        (Restriction(nodes=("n1",)), N1, frozenset(), None),
        (Restriction(nodes=("n1",)), N2, frozenset(), "NodeList"),
        (Restriction(cpu_models=("Xeon",)), N2, frozenset(), None),
        (Restriction(cpu_models=("Xeon",)), N1, frozenset(), "CpuModel"),
        (Restriction(ports=("tcp/1",)), N1, frozenset({"tcp/1"}), "Port"),
        (Restriction(ports=("tcp/1",)), N1, frozenset({"udp/1"}), None),
    ],
)
def test_where_a_request_may_go(
    restriction: Restriction, node: NodeView, ports: frozenset[str], reason: str | None
) -> None:
    assert restricts(restriction, node, ports) == reason


def test_masks_of_what_waits() -> None:
    demands = {
        1: demand(restriction=Restriction(nodes=("n2",))),
        2: demand(restriction=Restriction(ports=("tcp/2000",))),
        4: demand(gpu_models=(V100,)),
    }
    waiting = [container(n, replica=n) for n in (1, 2, 3, 4)]
    holder = running(5, ports=("tcp/2000",))
    board = board_of(*waiting, holder, demands=demands)
    assert held_ports(board, "n1") == {"tcp/2000"}
    snapshot = take_snapshot(board, [N1, N2])
    order = np.argsort(snapshot.pending.key)
    requests = snapshot.requests(order)
    assert requests.key.tolist() == [1, 2, 3, 4]
    masks = snapshot.cluster.masks
    allowed = [
        masks[mask - 1].allowed.tolist() if mask else None
        for mask in requests.mask.tolist()
    ]
    assert allowed == [[False, True], [False, True], None, None]
    assert {mask.reason for mask in masks} == {"NodeList", "Port"}
    assert requests.accepts.tolist() == [[1, 1], [1, 1], [1, 1], [0, 1]]
    assert not requests.gang.any()
    assert np.array_equal(requests.group, np.ones(4))


def test_each_node_has_its_own_reason_in_a_mask() -> None:
    asked = Restriction(nodes=("n1", "n2"), cpu_models=("Xeon",), ports=("tcp/1",))
    mask = mask_of(asked, [N1, N2, N3], {"n2": frozenset({"tcp/1"})})
    assert not mask.allowed.any()
    assert mask.reason == "Port"
    first = [(name, refused.tolist()) for name, refused in mask.first]
    assert first == [
        ("NodeList", [False, False, True]),
        ("CpuModel", [True, False, False]),
    ]
    assert mask_of(asked, [N2]).allowed.all()


def test_a_node_without_facts_is_left_out() -> None:
    snapshot = take_snapshot(board_of(), [view("n0", facts=None), N1])
    assert snapshot.cluster.names == ("n1",)
    assert [node.name for node in snapshot.nodes] == ["n1"]


def test_the_snapshot_does_not_change_with_the_board() -> None:
    board = board_of(container(1))
    snapshot = take_snapshot(board, [N1])
    board.apply([running(1)])
    assert len(snapshot.pending) == 1
    assert snapshot.cluster.gpus_free.tolist() == [[4]]


def test_free_devices_lowest_first() -> None:
    holds = [hold(ports=("tcp/1",)), hold(gpus=("GPU-2",), cores=(5,))]
    free = FreeDevices(view("n1", facts=facts(cores=(7, 5, 3, 1, 0, 2))), holds)
    assert free.gpus == {V100: ["GPU-1", "GPU-3"]}
    assert free.cores == [2, 3, 7]
    assert free.ports == {"tcp/1"}
