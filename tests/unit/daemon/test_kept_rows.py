"""Rows that are kept for long lists: made once, and never shown when out of date."""

from dataclasses import replace

import pytest

from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.views.kept_rows import KeptRows, make_listed
from dorabatch.placer.arrays.types import Explanation, Plan
from dorabatch.queue.states import Outcome, State
from tests.makers import START, container, hold, later, workload


def plan(sentence: str) -> LastPlan:
    explanation = Explanation(reason="Gpus", counts={"Gpus": 1}, sentence=sentence)
    waiting = Plan(placements=(), waiting={1: 0}, explanations=(explanation,))
    return LastPlan(plan=waiting)


RUNNING = container(state=State.RUNNING, hold=hold(), started_at=START, attempt=1)


def test_what_has_not_changed_is_the_same_row() -> None:
    kept, wanted, waiting = KeptRows(), workload(), container()
    first = kept.listed(plan("no GPU is free"), wanted, [waiting], START)
    again = kept.listed(plan("no GPU is free"), wanted, [waiting], later(60))
    assert again is first


def test_another_reason_to_wait_is_shown() -> None:
    kept, wanted, waiting = KeptRows(), workload(), container()
    kept.listed(plan("no GPU is free"), wanted, [waiting], START)
    found = kept.listed(plan("the node is away"), wanted, [waiting], START)
    assert found.row["reason"] == "the node is away"
    assert found.cells[-1] == "(the node is away)"


def test_the_time_of_a_running_workload_goes_on() -> None:
    kept, wanted = KeptRows(), workload()
    kept.listed(LastPlan(), wanted, [RUNNING], later(5))
    found = kept.listed(LastPlan(), wanted, [RUNNING], later(65))
    assert found.row["seconds"] == 65
    assert "1:05" in found.cells


FINISHED = replace(
    RUNNING,
    state=State.FINISHED,
    outcome=Outcome.FAILED,
    exit_code=3,
    ended_at=later(9),
)


@pytest.mark.parametrize(
    ("after", "containers"),
    [
        (workload(), [RUNNING]),
        (workload(), [container(), container(2, replica=2)]),
        (workload(), [container(reason="node n1 was lost")]),
        (workload(version=2), [container()]),
        (workload(ended_at=later(9)), [FINISHED]),
    ],
)
def test_any_change_gives_what_a_fresh_row_says(after, containers) -> None:
    kept = KeptRows()
    kept.listed(LastPlan(), workload(), [container()], START)
    found = kept.listed(LastPlan(), after, containers, later(30))
    fresh = make_listed(LastPlan(), after, containers, later(30))
    assert (found.row, found.cells) == (fresh.row, fresh.cells)
