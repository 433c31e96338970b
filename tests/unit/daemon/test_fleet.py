"""The fleet: when a node is ready, what makes it unusable, what is news."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dorabatch.daemon.state import fleet as module
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeState, NodeView
from tests.makers import RTX, START, V100, facts, gpus, later, node_settings


@pytest.fixture
def fleet() -> Fleet:
    """A fleet with one node that was never seen."""
    made = Fleet()
    made.put(node_settings("n1"))
    return made


def state(fleet: Fleet) -> NodeState:
    """How n1 stands."""
    view = fleet.get("n1")
    assert view is not None
    return view.state


def test_a_node_is_ready_once_its_facts_are_known(fleet: Fleet) -> None:
    assert state(fleet) is NodeState.CONNECTING
    assert fleet.seen("n1", START) is False
    assert state(fleet) is NodeState.CONNECTING
    assert fleet.seen("n1", START, facts()) is True
    assert fleet.seen("n1", START) is False
    assert state(fleet) is NodeState.READY


def test_facts_from_before_a_restart_count_only_after_an_answer() -> None:
    fleet = Fleet()
    fleet.put(node_settings("n1"), facts())
    assert state(fleet) is NodeState.CONNECTING
    assert fleet.known_models() == {V100}
    assert fleet.seen("n1", START) is True


@pytest.mark.parametrize(
    "fault", [NodeState.UNREACHABLE, NodeState.REFUSED, NodeState.QUARANTINED]
)
def test_a_fault_is_news_once_and_ends_with_an_answer(
    fleet: Fleet, fault: NodeState
) -> None:
    fleet.seen("n1", START, facts())
    assert fleet.fault("n1", fault, "why") is True
    assert fleet.fault("n1", fault, "why") is False
    assert fleet.fault("n1", fault, "another reason") is False
    view = fleet.get("n1")
    assert view is not None
    assert (view.state, view.reason) == (fault, "another reason")
    assert view.facts is not None
    assert fleet.seen("n1", later(1)) is True
    assert state(fleet) is NodeState.READY


@pytest.mark.mission("M52")
def test_silence_counts_for_ready_nodes_only(fleet: Fleet) -> None:
    patience = timedelta(seconds=12)
    assert fleet.silent(later(99), patience) == []
    fleet.seen("n1", START, facts())
    assert fleet.silent(later(12), patience) == []
    assert fleet.silent(later(12.5), patience) == ["n1"]
    assert fleet.silent(later(13), patience) == []
    assert state(fleet) is NodeState.UNREACHABLE


def test_changed_settings_keep_what_is_known(fleet: Fleet) -> None:
    fleet.seen("n1", START, facts())
    fleet.put(node_settings("n1", scheduling_disabled=True))
    view = fleet.get("n1")
    assert view is not None
    assert view.settings.scheduling_disabled
    assert (view.state, view.facts) == (NodeState.READY, facts())


def test_unknown_and_removed_nodes_stay_away(fleet: Fleet) -> None:
    assert fleet.seen("n9", START, facts()) is False
    assert fleet.fault("n9", NodeState.REFUSED, "x") is False
    fleet.drop("n1")
    fleet.drop("n1")
    assert fleet.seen("n1", START, facts()) is False
    assert fleet.views() == []
    assert fleet.get("n1") is None


def test_the_capacity_revision_grows_with_what_nodes_have(fleet: Fleet) -> None:
    seen = [fleet.capacity_revision]
    fleet.seen("n1", START, facts())
    seen.append(fleet.capacity_revision)
    fleet.put(node_settings("n0"), facts(gpus=gpus(1, RTX)))
    seen.append(fleet.capacity_revision)
    fleet.drop("n1")
    seen.append(fleet.capacity_revision)
    assert seen == sorted(set(seen))
    before = fleet.capacity_revision
    fleet.seen("n0", START)
    assert fleet.capacity_revision == before
    assert fleet.known_models() == {RTX}


def test_a_new_revision_is_seen_with_its_nodes_and_never_before(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = fleet.capacity_revision, []

    def told(*args: Any, **changes: Any) -> NodeView:
        seen.append(fleet.capacity_revision)
        return replace(*args, **changes)

    monkeypatch.setattr(module, "replace", told)
    fleet.seen("n1", START, facts())
    assert seen == [before]
    revision, views = fleet.capacity()
    assert revision == fleet.capacity_revision > before
    assert views == fleet.views()


def test_views_are_ordered_by_name(fleet: Fleet) -> None:
    for name in ("n3", "n0", "n2"):
        fleet.put(node_settings(name))
    assert [view.name for view in fleet.views()] == ["n0", "n1", "n2", "n3"]


def test_the_second_of_one_machine_takes_nothing_until_the_first_is_gone(
    fleet: Fleet,
) -> None:
    fleet.seen("n1", START, facts())
    fleet.put(node_settings("again"))
    assert fleet.seen("again", START, facts(gpus=gpus(4)[2:])) is False
    view = fleet.get("again")
    assert view is not None
    assert view.state is NodeState.ASIDE
    assert "same machine as node n1 (GPU GPU-" in view.reason
    fleet.seen("n1", later(1), facts())
    assert state(fleet) is NodeState.READY
    fleet.drop("n1")
    assert fleet.seen("again", later(2)) is True


@pytest.mark.parametrize(
    ("boot_id", "docker_id", "is_one"),
    [
        ("boot-1", "D1", True),
        # A copied disk, two containers on one host, two that tell nothing.
        ("boot-2", "D1", False),
        ("boot-1", "D2", False),
        ("boot-1", "", False),
    ],
)
def test_a_machine_without_gpus_is_known_by_its_boot_and_its_docker(
    fleet: Fleet, boot_id: str, docker_id: str, is_one: bool
) -> None:
    fleet.seen("n1", START, facts(gpus=(), docker_id="D1"))
    fleet.put(node_settings("n2"))
    found = facts(gpus=(), boot_id=boot_id, docker_id=docker_id)
    assert fleet.seen("n2", START, found) is not is_one


def test_a_node_without_some_of_its_gpus_says_why(fleet: Fleet) -> None:
    broken = facts(gpus=(), missing_gpus=gpus(4), gpu_error="NVML is broken")
    assert fleet.seen("n1", START, broken) is True
    view = fleet.get("n1")
    assert view is not None
    assert view.reason == "4 of its 4 GPUs are missing: NVML is broken"
    assert len(view.kept_out) == 4
    assert fleet.known_models() == {V100}


@pytest.mark.parametrize("skips", [False, True])
def test_gpus_that_others_use_are_kept_out_where_the_site_says_so(skips: bool) -> None:
    fleet = Fleet(skips_used_gpus=skips)
    fleet.put(node_settings("n1"))
    busy = tuple(replace(gpu, is_used_by_others=True) for gpu in gpus(2))
    fleet.seen("n1", START, facts(gpus=(*busy, *gpus(4)[2:])))
    view = fleet.get("n1")
    assert view is not None
    assert view.kept_out == ({"GPU-0", "GPU-1"} if skips else set())
