"""The table of what is held follows the board, whatever happens to containers."""

from datetime import timedelta

from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim
from dorabatch.queue.live_columns import HeldTable
from dorabatch.queue.states import State
from tests.makers import START, V100, container, demand, hold, workload

HOUR_US = 3_600_000_000


def board_of(*containers, limit=0):
    claim = Claim(user="alice", workspace="alice", run_seconds_max=limit)
    board = Board(
        ended_max=9, demand_of=lambda _w, _r: demand(), claim_of=lambda _w: claim
    )
    board.apply([workload(1), *containers])
    return board


def running(key, **changes):
    started = START + timedelta(hours=1)
    return container(
        key, replica=key, state=State.RUNNING, hold=hold(**changes), started_at=started
    )


def test_columns_say_what_the_holds_say():
    found = board_of(
        running(1, gpus=("GPU-0", "GPU-2"), gpu_models=(V100, V100)),
        running(2, node="n2", gpus=("GPU-9",), gpu_milli=250, memory_mib=7),
        limit=3600,
    ).held.arrays()
    assert [found.nodes[n] for n in found.node] == ["n1", "n2"]
    assert [found.model_sets[m] for m in found.models] == [(V100, V100), (V100,)]
    assert [found.devices[d] for d in found.device] == ["", "GPU-9"]
    assert found.gpu_milli.tolist() == [1000, 250]
    assert found.memory_mib.tolist() == [1024, 7]
    limits = [found.claims[c].run_seconds_max for c in found.claim]
    assert limits == [3600, 3600]
    assert (found.started_us[0] - HOUR_US) % 10**6 == START.microsecond


def test_what_ends_or_waits_again_is_gone():
    board = board_of(running(1), running(2), running(3))
    board.apply(
        [container(1, replica=1), container(3, replica=3, state=State.FINISHED)]
    )
    assert board.held.arrays().key.tolist() == [2]
    assert len(board.held) == 1


def test_stopping_is_told():
    board = board_of(container(1, state=State.STOPPING, hold=hold()))
    assert board.held.arrays().stopping.tolist() == [1]
    assert board.held.arrays().started_us.tolist() == [0]


def test_the_arrays_are_a_copy():
    table = HeldTable()
    table.put(running(1), Claim(user="alice", workspace="alice"))
    before = table.arrays()
    table.drop(1)
    table.drop(1)
    assert before.key.tolist() == [1]
    assert len(before.claims) == 1
    assert len(table.arrays()) == 0
    assert table.arrays().claims == ()
