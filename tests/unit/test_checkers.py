"""The laws accept what is right and reject each kind of wrong records."""

from collections.abc import Callable

import pytest

from dorabatch.queue.records import Container
from dorabatch.queue.states import State
from tests import checkers
from tests.makers import RTX, container, facts, hold

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
