"""The cycle bench on a small zone: real database, real placer, invented nodes."""

from collections.abc import Iterator

import pytest

from bench.cycle import (
    GPUS_ASKED,
    STAGES,
    IdleKeepers,
    finish_some,
    invent_nodes,
    invent_workloads,
    main,
    medians,
    private_services,
    submit,
    timed_cycle,
    top_up,
)
from dorabatch.daemon.state.services import Services
from dorabatch.queue.states import State


@pytest.fixture
def services() -> Iterator[Services]:
    with private_services() as made:
        yield made


def test_the_same_seed_invents_the_same_workloads() -> None:
    first, again, other = (
        [one.spec_json for one in invent_workloads(20, seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_cycle_fills_the_zone_and_tells_its_stages(services: Services) -> None:
    invent_nodes(services, 4)
    submit(services, invent_workloads(60, 1))
    found = timed_cycle(services, IdleKeepers(services))
    held = [c for n in services.board.nodes_in_use() for c in services.board.on_node(n)]
    assert set(STAGES) <= set(found)
    assert 0 < found["placed"] == len(held) < 60
    assert {c.state for c in held} == {State.PLACED}
    assert len(services.board.pending) == 60 - len(held)


def test_room_that_was_freed_is_given_away(services: Services) -> None:
    keepers = IdleKeepers(services)
    invent_nodes(services, 4)
    submit(services, invent_workloads(60, 1))
    timed_cycle(services, keepers)
    ended = finish_some(services, 1.0, 1)
    top_up(services, 60, 2)
    assert len(services.board.pending) == 60
    assert timed_cycle(services, keepers)["placed"] > 0
    assert ended > 0


def test_medians_count_a_stage_that_was_left_out_as_nothing() -> None:
    cycles = [{"whole": 3.0, "commit": 2.0}, {"whole": 1.0}, {"whole": 2.0}]
    assert medians(cycles) == {"commit": 0.0, "whole": 2.0}


def test_all_sizes_of_requests_occur() -> None:
    texts = [one.spec_json for one in invent_workloads(200, 3)]
    for count in set(GPUS_ASKED) - {0}:
        assert any(f'"count":{count}' in text for text in texts)


@pytest.mark.parametrize("option", ["--nodes", "--pending", "--runs"])
def test_a_zone_of_nothing_is_refused_in_one_sentence(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.cycle", option, "0"])
    assert main() == 2
    assert capsys.readouterr().err == f"bench.cycle: {option} 0: give 1 or more\n"


def test_nothing_ends_where_nothing_runs(services: Services) -> None:
    invent_nodes(services, 1)
    assert finish_some(services, 0.5, 1) == 0
