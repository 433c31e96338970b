"""What the nodes could ever run, asked by many threads while nodes come and go."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dorabatch.daemon.intake import possible as module
from dorabatch.daemon.intake.possible import Possible
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.spec_units import demand_of, demand_of_spec
from dorabatch.errors import Refused
from dorabatch.placer.arrays.types import ClusterArrays
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand
from tests.makers import RTX, START, V100, document, facts, gpus, node_settings

SECONDS = 10


def demand(**options: object) -> Demand:
    """What a workload asks for."""
    return demand_of_spec(document(**options).spec, 1)


@pytest.fixture
def fleet() -> Fleet:
    """n1 with four V100."""
    made = Fleet()
    add(made, "n1", V100)
    return made


def add(fleet: Fleet, name: str, model: str) -> None:
    """A node with four GPUs answers for the first time."""
    fleet.put(node_settings(name))
    has = facts(hostname=name, gpus=gpus(4, model, name))
    fleet.seen(name, START, has)


def possible_on(fleet: Fleet) -> Possible:
    """What could run on these nodes."""
    return Possible(fleet, Board(ended_max=0, demand_of=demand_of))


def test_a_node_that_was_just_added_counts_in_every_thread(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    possible, wanted = possible_on(fleet), demand(gpu_models=[RTX])
    with pytest.raises(Refused, match="no node has GPU model"):
        possible.check(wanted)
    add(fleet, "n2", RTX)
    looks, go_on = threading.Event(), threading.Event()
    real = module.cluster_arrays

    def slow_at_first(*args: object) -> ClusterArrays:
        is_first = not looks.is_set()
        looks.set()
        if is_first:
            assert go_on.wait(SECONDS)
        return real(*args)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(module, "cluster_arrays", slow_at_first)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(possible.check, wanted)
        assert looks.wait(SECONDS)
        try:
            # Meanwhile the first makes its arrays.
            pool.submit(possible.check, wanted).result(SECONDS)
        finally:
            go_on.set()
        first.result(SECONDS)


def test_a_verdict_by_earlier_nodes_ends_with_them(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    possible, wanted = possible_on(fleet), demand(gpu_models=[V100])
    real = module.check_can_ever_run

    def node_goes(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]  # as given
        fleet.drop("n1")

    add(fleet, "n2", RTX)
    monkeypatch.setattr(module, "check_can_ever_run", node_goes)
    possible.check(wanted)
    with pytest.raises(Refused, match="no node has GPU model"):
        possible.check(wanted)
