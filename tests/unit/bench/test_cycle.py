"""The cycle bench on a small zone: real database, real placer, invented nodes."""

from collections.abc import Iterator

import pytest

from bench.cycle import (
    GPUS_ASKED,
    STAGES,
    finish_some,
    invent_nodes,
    invent_workloads,
    main,
    medians,
    private_parts,
    submit,
    timed_cycle,
    top_up,
)
from dorabatch.daemon.assembly import DaemonParts
from dorabatch.queue.states import State


@pytest.fixture
def parts() -> Iterator[DaemonParts]:
    with private_parts() as made:
        yield made


def test_the_same_seed_invents_the_same_workloads() -> None:
    first, again, other = (
        [one.spec_json for one in invent_workloads(20, seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_cycle_fills_the_zone_and_tells_its_stages(parts: DaemonParts) -> None:
    invent_nodes(parts.books.fleet, parts.effects.clock, 4)
    submit(parts.effects.writer, invent_workloads(60, 1))
    found, board = timed_cycle(parts.cycle), parts.books.board
    held = [c for n in board.nodes_in_use() for c in board.on_node(n)]
    assert set(STAGES) <= set(found)
    assert 0 < found["placed"] == len(held) < 60
    assert {c.state for c in held} == {State.PLACED}
    assert len(board.pending) == 60 - len(held)


def test_room_that_was_freed_is_given_away(parts: DaemonParts) -> None:
    invent_nodes(parts.books.fleet, parts.effects.clock, 4)
    submit(parts.effects.writer, invent_workloads(60, 1))
    timed_cycle(parts.cycle)
    ended = finish_some(parts, 1.0, 1)
    top_up(parts, 60, 2)
    assert len(parts.books.board.pending) == 60
    assert timed_cycle(parts.cycle)["placed"] > 0
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


def test_nothing_ends_where_nothing_runs(parts: DaemonParts) -> None:
    invent_nodes(parts.books.fleet, parts.effects.clock, 1)
    assert finish_some(parts, 0.5, 1) == 0
