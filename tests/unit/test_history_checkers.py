"""The laws on what has happened accept what is right and find what is wrong."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dorabatch.queue.records import ContainerId, Run
from dorabatch.queue.states import AfterStop, Outcome, State
from tests import history_checkers as laws
from tests.makers import START, V100, container, demand, hold, later

RUN = Run(
    container_id=ContainerId(1),
    attempt=1,
    version=1,
    hold=hold(),
    placed_at=START,
    started_at=START,
    ended_at=later(3600),
    exit_code=0,
    outcome=Outcome.DONE,
)
SECOND = replace(RUN, attempt=2)
LOST = replace(RUN, outcome=Outcome.NODE_LOST, reason="the node was restarted")
OVER = container(1, state=State.FINISHED, attempt=1, outcome=Outcome.DONE)
HELD = container(1, state=State.RUNNING, attempt=1, hold=hold())
STOPPING = replace(HELD, state=State.STOPPING, after_stop=AfterStop.FINISH)
ASKED = demand(gpu_models=(V100,))


@pytest.mark.parametrize(
    ("law", "right", "wrong"),
    [
        (laws.wrong_attempts, ([OVER], [RUN]), ([OVER], [RUN, SECOND])),
        (laws.wrong_attempts, ([OVER], [RUN]), ([OVER], [])),
        (
            laws.done_again,
            ([(1, 1, 1, RUN), (2, 1, 2, SECOND)], {(1, 1, 1): 0}, {2}),
            ([(1, 1, 1, RUN), (1, 1, 2, SECOND)], {}, set()),
        ),
        (
            laws.done_again,
            ([(1, 1, 1, LOST)], {(1, 1, 1): 3}, set()),
            ([(1, 1, 1, LOST)], {(1, 1, 1): 0}, set()),
        ),
        (
            laws.wrong_causes,
            ([(1, 1, 1, LOST)], {(1, 1, 1): {"reboot"}}),
            ([(1, 1, 1, LOST)], {(1, 1, 1): {"docker"}}),
        ),
        (
            laws.wrong_boots,
            ([HELD], {"n1": [(1, 1, 1)]}, {"n1": "boot-1"}),
            ([HELD], {"n1": [(1, 1, 1)]}, {"n1": "boot-2"}),
        ),
        (laws.given_up, ([OVER],), ([replace(OVER, outcome=Outcome.NODE_LOST)],)),
        (
            laws.ended_unasked,
            ([replace(OVER, outcome=Outcome.CANCELLED)], {1}),
            ([replace(OVER, outcome=Outcome.CANCELLED)], {2}),
        ),
        (laws.still_wanted, ([OVER, STOPPING], {1}), ([HELD], {1})),
        (
            laws.holds_not_asked_for,
            ([HELD], {1: ASKED}),
            ([HELD], {1: replace(ASKED, gpu_count=2)}),
        ),
        (
            laws.lost_logs,
            ({(1, 1, 1): b"start"}, {(1, 1, 1): b"a start"}),
            ({(1, 1, 1): b"start"}, {}),
        ),
        (
            laws.started_while_held,
            ([(1, "hold"), (2, "place"), (1, "release"), (1, "place")],),
            ([(1, "hold"), (1, "restart")],),
        ),
        (
            laws.undercharged,
            ({"a": RUN}, {"a": 2_500_000}, {"a": None}),
            ({"a": RUN}, {"a": 2_400_000}, {"a": None}),
        ),
        (
            laws.undercharged,
            ({"a": RUN}, {"a": 1_250_000}, {"a": 1800}),
            ({"a": RUN}, {}, {"a": 1800}),
        ),
        (laws.differences, ("x", {1: 2}, {1: 2}), ("x", {1: 2}, {})),
        (laws.different_use, ({"a": 1.0}, {"a": 1.0}), ({"a": 2.0}, {"a": 1.0})),
    ],
)
def test_each_law_tells_right_from_wrong(
    law: Callable[..., list[str]],
    right: tuple[object, ...],
    wrong: tuple[object, ...],
) -> None:
    assert law(*right) == []
    assert law(*wrong)
