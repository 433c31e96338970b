"""When a run began and ended: clocks that differ or are stepped harm nobody."""

from datetime import datetime

import pytest

from dorabatch.daemon.runs.run_span import run_span
from dorabatch.node.facts import ContainerFacts, ContainerState
from tests.makers import START, later


def facts(started: float | None, finished: float | None) -> ContainerFacts:
    """What a node tells, by its own clock."""
    return ContainerFacts(
        name="x",
        container_id="d1",
        state=ContainerState.EXITED,
        started_at=None if started is None else later(started),
        finished_at=None if finished is None else later(finished),
    )


@pytest.mark.parametrize(
    ("told", "now", "end"),
    [
        (facts(0, 60), 61, 60),
        # The node's clock differs by an hour and more, in each direction.
        (facts(4000, 4060), 61, 60),
        (facts(-4000, -3940), 61, 60),
        # It was stepped during the run: bounded by what the daemon saw, or unknown.
        (facts(0, 3660), 61, 61),
        (facts(0, -3540), 61, 61),
        # The daemon was away when it ended.
        (facts(0, 60), 5000, 60),
        # It began again with its clock set back.
        (facts(0, 60), -3000, 60),
        (None, -3000, 0),
        (None, 61, 61),
        (facts(None, None), 61, 61),
        (facts(0, None), 61, 61),
    ],
)
def test_a_run_lasts_as_long_as_it_did(
    told: ContainerFacts | None, now: float, end: float
) -> None:
    assert run_span(START, told, later(now)) == (START, later(end))


@pytest.mark.parametrize(
    ("told", "span"),
    [
        (facts(9000, 9060), (later(40), later(100))),
        (facts(None, None), (None, later(100))),
        (None, (None, later(100))),
    ],
)
def test_a_run_whose_start_is_not_on_record(
    told: ContainerFacts | None, span: tuple[datetime | None, datetime]
) -> None:
    assert run_span(None, told, later(100)) == span
