"""The laws accept what is right and reject each kind of wrong records."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from dorabatch.fairshare.turn.use_limits import UseLimits
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container
from dorabatch.queue.states import Outcome, State
from tests import checkers
from tests.makers import RTX, START, container, facts, hold, later

NODES = {"n1": facts()}


def held(key: int, **changes: object) -> Container:
    """A running container that holds something."""
    return container(key, state=State.RUNNING, hold=hold(**changes))


GOOD = [
    held(1),
    held(2, gpus=("GPU-1",), cores=(2, 3), ports=("tcp/2000",)),
    held(3, node="n2", gpus=(), gpu_models=(), cores=()),
    container(4),
    container(5, state=State.FINISHED),
]


def test_sound_records_break_no_law() -> None:
    nodes = {**NODES, "n2": facts(gpus=())}
    assert checkers.broken_laws(GOOD, nodes) == []


@pytest.mark.parametrize(
    ("law", "bad"),
    [
        (checkers.gpus_held_twice, [held(1), held(2, cores=(4,))]),
        (checkers.gpus_held_twice, [held(1, gpus=("GPU-0", "GPU-0"))]),
        (checkers.cores_pinned_twice, [held(1), held(2, gpus=("GPU-1",))]),
        (
            checkers.ports_held_twice,
            [held(1, ports=("tcp/2000",)), held(2, ports=("tcp/2000",))],
        ),
        (checkers.misplaced_holds, [container(1, hold=hold())]),
        (checkers.misplaced_holds, [container(1, state=State.STOPPING)]),
        (
            checkers.misplaced_holds,
            [container(1, state=State.FINISHED, hold=hold())],
        ),
    ],
)
def test_bad_records_are_rejected(
    law: Callable[[list[Container]], list[str]], bad: list[Container]
) -> None:
    assert law(bad)
    assert checkers.broken_laws(bad, NODES)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cpu_milli": 8001}, "CPU"),
        ({"memory_mib": 16385}, "memory"),
        ({"gpus": tuple("abcde"), "gpu_models": ("x",) * 5}, "GPUs"),
        ({"gpu_models": (RTX,)}, "is no"),
        ({"gpu_models": ()}, "other models"),
        ({"cores": (8,)}, "not all its own"),
        ({"node": "n9"}, "unknown node"),
    ],
)
def test_more_than_the_node_has_is_rejected(
    changes: dict[str, object], word: str
) -> None:
    broken = checkers.capacity_exceeded([held(1, **changes)], NODES)
    assert any(word in sentence for sentence in broken), broken


def test_equal_names_on_different_nodes_are_no_clash() -> None:
    pair = [held(1), held(2, node="n2")]
    assert checkers.gpus_held_twice(pair) == []
    assert checkers.cores_pinned_twice(pair) == []


def test_illegal_moves_are_rejected() -> None:
    good = [State.QUEUED, State.PLACED, State.PLACED, State.STARTING, State.RUNNING]
    assert checkers.illegal_moves({1: good, 2: []}) == []
    assert checkers.illegal_moves({1: [State.PLACED]})
    assert checkers.illegal_moves({1: [State.QUEUED, State.RUNNING]})
    assert checkers.illegal_moves({1: [*good, State.FINISHED]})


def test_what_runs_without_a_hold_is_rejected() -> None:
    one = held(1)
    assert checkers.containers_without_hold([one], {"n1": [(1, 1, 0)]}) == []
    for attempt in ((1, 1, 1), (1, 2, 0), (2, 1, 0)):
        assert checkers.containers_without_hold([one], {"n1": [attempt]})
    assert checkers.containers_without_hold([one], {"n2": [(1, 1, 0)]})
    assert checkers.containers_without_hold([container(1)], {"n1": [(1, 1, 0)]})


def test_a_replica_that_runs_twice_is_rejected() -> None:
    assert checkers.replicas_running_twice({"n1": [(1, 1, 1)], "n2": [(1, 2, 1)]}) == []
    assert checkers.replicas_running_twice({"n1": [(1, 1, 1)], "n2": [(1, 1, 2)]})
    assert checkers.replicas_running_twice({"n1": [(1, 1, 1), (1, 1, 2)]})


def test_memory_that_differs_from_the_disk_is_rejected() -> None:
    assert checkers.differences_in_memory({1: held(1)}, [held(1), held(2)]) == []
    assert checkers.differences_in_memory({1: held(1)}, [container(1)])


def test_what_is_left_unfinished_is_rejected() -> None:
    over = container(1, state=State.FINISHED, outcome=Outcome.DONE)
    assert checkers.unfinished([over]) == []
    for bad in (
        container(1),
        container(1, state=State.FINISHED),
        container(1, state=State.FINISHED, outcome=Outcome.DONE, hold=hold()),
    ):
        assert checkers.unfinished([bad])


def test_results_that_no_job_had_are_rejected() -> None:
    run = to.new_run(container(1, attempt=1, hold=hold()), START)
    done = replace(run, outcome=Outcome.DONE, exit_code=0)
    failed = replace(run, outcome=Outcome.FAILED, exit_code=3, reason="exit code 3")
    refused = replace(run, outcome=Outcome.FAILED, exit_code=143, reason="no image")
    for good, code in ((done, 0), (failed, 3), (refused, None), (run, None)):
        exits = {} if code is None else {(1, 1, 1): code}
        assert checkers.made_up_results([(1, 1, 1, good)], exits) == []
    for bad, code in ((done, None), (done, 1), (failed, None), (failed, 0)):
        exits = {} if code is None else {(1, 1, 1): code}
        assert checkers.made_up_results([(1, 1, 1, bad)], exits)


def test_credit_held_for_nothing_is_rejected() -> None:
    live = container(1, state=State.RUNNING, hold=hold(), attempt=2)
    assert checkers.liens_without_run({"1.1/2": 5, "1.1/1": 0}, [live]) == []
    for bad in ({"1.1/1": 5}, {"1.1/2": -5}, {"2.1/2": 5}):
        assert checkers.liens_without_run(bad, [live])
    assert checkers.liens_without_run({"1.1/0": 5}, [container(1)])


def test_what_is_on_trial_without_holding_anything_is_rejected() -> None:
    good = [replace(held(1), trial_seconds=30), container(4)]
    assert checkers.misplaced_trials(good) == []
    bad = [container(4, trial_seconds=30)]
    assert checkers.misplaced_trials(bad) == ["container 4: queued but on trial"]


def test_more_than_a_limit_is_rejected() -> None:
    pair = [held(1), held(2, gpus=("GPU-1",), gpu_milli=500), container(3)]
    users, none = {1: "ana"}, UseLimits()

    def broken(limits: UseLimits) -> list[str]:
        return checkers.over_limits(pair, users, limits, lambda _: ("lab", "uni"))

    assert broken(none) == broken(UseLimits(gpus_per_user=2)) == []
    assert broken(UseLimits(running_per_user=2)) == []
    assert broken(UseLimits(gpus_per_user=1)) == [
        "ana holds 1.5 GPUs of 1 that are allowed"
    ]
    assert broken(UseLimits(running_per_user=1)) == [
        "ana holds 2 places of 1 that are allowed"
    ]
    assert broken(UseLimits(gpus_of_accounts={"lab": 2, "uni": 1})) == [
        "account uni holds 1.5 GPUs of 1 that are allowed"
    ]


def test_debts_are_rejected() -> None:
    assert checkers.debts({"ana": 0, "bob": 5}) == []
    (text,) = checkers.debts({"ana": -1, "bob": 5})
    assert text == "account ana has -1 ucr available"


@pytest.mark.parametrize(
    ("ucr", "free", "is_right"),
    [
        (2_500_000, [], True),
        (2_500_001, [], False),
        (5_000_000, [], False),
        (-1, [], False),
        (0, ["1.1/1"], True),
        (1, ["1.1/1"], False),
    ],
)
def test_wrong_charges_are_rejected(ucr: int, free: list[str], is_right: bool) -> None:
    run = replace(
        to.new_run(replace(held(1), attempt=1), START),
        started_at=START,
        ended_at=later(3600),
    )
    found = checkers.wrong_charges({"1.1/1": run}, {"1.1/1": ucr}, free)
    assert (found == []) == is_right


def test_starts_that_a_replay_has_not_are_found() -> None:
    real = {(1, 1): 5.0, (2, 1): 40.0}
    assert checkers.different_starts(real, {(1, 1): 5.0, (2, 1): 44.0}, 5.0) == []
    late = checkers.different_starts(real, {(1, 1): 5.0, (2, 1): 46.0}, 5.0)
    assert late == ["(2, 1): started at 40 s, played at 46 s"]
    never = checkers.different_starts(real, {(1, 1): math.nan, (3, 1): 0.0}, 5.0)
    assert never == [
        "(1, 1): started at 5 s, played at nan s",
        "(2, 1): not played",
        "(3, 1): never was",
    ]
