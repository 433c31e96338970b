"""Admission: what is refused, and with which sentence."""

import pytest

from dorabatch.config import Settings
from dorabatch.daemon.admission import (
    check_can_ever_run,
    check_cpus_exist,
    check_models_exist,
    check_nodes_exist,
    check_site_bounds,
)
from dorabatch.daemon.capture import cluster_arrays
from dorabatch.daemon.snapshot import accepts_table
from dorabatch.errors import Refused
from dorabatch.placer.arrays import SHARE
from dorabatch.queue.board import Board
from dorabatch.queue.pending import Demand, Restriction
from tests.makers import RTX, V100, demand, document, node_settings, view

NODES = [view("n1"), view("n2", settings=node_settings("n2", allows_gpu=False))]


def can_ever_run(wanted: Demand, nodes: list[object] | None = None) -> None:
    """Check against two nodes of four V100, eight cores, 16 GiB each."""
    board = Board(ended_max=1, demand_of=lambda workload, replica: wanted)
    cluster = cluster_arrays(NODES if nodes is None else nodes, board)  # type: ignore[arg-type]
    accepts = accepts_table([wanted.gpu_models], cluster.models)[0]
    check_can_ever_run(wanted, cluster, accepts.tolist())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicas": "11"}, r"spec.replica.count: 11 \(allowed here: 10\)"),
        ({"network": "host"}, "'host' is not allowed here"),
        ({"gpus": "1", "gpu_share": "0.5"}, "whole GPUs only"),
    ],
)
def test_what_the_site_never_allows(options: dict[str, str], words: str) -> None:
    settings = Settings(limits={"replicas_max": 10})  # type: ignore[arg-type]
    with pytest.raises(Refused, match=words):
        check_site_bounds(document(**options).spec, settings)


def test_what_the_site_ignores_is_told() -> None:
    assert check_site_bounds(document().spec, Settings()) == []
    spec = document(volumes=["home:/home", "data:/data:ro"]).spec
    (warning,) = check_site_bounds(spec, Settings())
    assert "home, data" in warning


def test_nodes_by_name() -> None:
    check_nodes_exist(Restriction(nodes=("n1",)), {"n1", "n2"})
    with pytest.raises(Refused, match=r"no node 'n3' \(known: n1, n2\)"):
        check_nodes_exist(Restriction(nodes=("n1", "n3")), {"n2", "n1"})
    with pytest.raises(Refused, match="known: none"):
        check_nodes_exist(Restriction(nodes=("n3",)), ())


def test_a_long_list_of_names_is_cut() -> None:
    known = [f"n{number}" for number in range(100, 1300)]
    with pytest.raises(Refused, match=r"n1005, n1006 and 1192 more\); see dnode list"):
        check_nodes_exist(Restriction(nodes=("n3",)), known)
    wanted = demand(gpu_models=tuple(f"M{number}" for number in range(200)))
    with pytest.raises(Refused, match="or 'M7' or one of 192 more"):
        check_models_exist(wanted, {V100})


def test_cpus_by_name() -> None:
    asked = Restriction(cpu_models=("Epyc", "Xeon"))
    check_cpus_exist(asked, {"Xeon"})
    check_cpus_exist(asked, set())
    with pytest.raises(Refused, match=r"CPU model 'Epyc' or 'Xeon' \(known: Ryzen\)"):
        check_cpus_exist(asked, {"Ryzen"})


def test_models_by_name() -> None:
    check_models_exist(demand(gpu_models=None), {V100})
    check_models_exist(demand(gpu_models=("A100", V100)), {V100, RTX})
    check_models_exist(demand(gpu_models=("A100",)), set())
    with pytest.raises(Refused) as caught:
        check_models_exist(demand(gpu_models=("A100", "H100")), {V100, RTX})
    assert "'A100' or 'H100'" in caught.value.message
    assert f"known: {RTX}, {V100}" in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_count": 4},
        {"gpu_count": 0, "cpu_milli": 8000, "memory_mib": 16384},
        {"gpu_count": 1, "cpu_milli": 8000},
    ],
)
def test_what_fits_an_empty_node_is_taken(changes: dict[str, int]) -> None:
    can_ever_run(demand(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_count": 5},
        {"gpu_count": 1, "cpu_milli": 8001},
        {"gpu_count": 1, "memory_mib": 16385},
        {"gpu_count": 0, "cpu_milli": 9000},
        {"gpu_count": 0, "cpu_milli": SHARE},
        {"gpu_count": 1, "gpu_models": ("A100",)},
    ],
)
def test_what_fits_no_empty_node_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(Refused) as caught:
        can_ever_run(demand(**changes))
    assert len(caught.value.message.split()) > 3


def test_without_any_node_nothing_is_refused() -> None:
    can_ever_run(demand(gpu_count=99), [])
