"""The outlook: who may go to which shape, and who comes late there."""

import numpy as np
import pytest

from dorabatch.placer.arrays.bins import BinState, lay_bin_table, shapes_of
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.plan.demand_outlook import (
    BEHIND,
    LATEST,
    look_ahead,
    patience,
    queue_of,
)
from tests.oracles.placer_cases import make_cluster, make_requests

ROOM = np.array([[8.0, 1.0, 1.0], [8.0, 1.0, 1.0]])
"""Two shapes of 8 free GPUs each."""

USABLE = np.array([[True, True], [True, False]])
"""The first class may go anywhere, the second to the first shape only."""

GPU = np.array([1.0, 1.0])


def test_who_may_go_anywhere_comes_late_where_others_are_bound():
    plan = np.array([[2.0, 8.0], [6.0, 0.0]])
    found = patience(plan, USABLE, ROOM, GPU)
    # Half of the GPUs are out of the bound class's reach: 1 - 6 x 1/2 / 8.
    assert found[0].tolist() == [0.625, 1.0]


def test_nobody_is_late_where_all_may_go_anywhere():
    plan = np.array([[8.0, 8.0], [0.0, 0.0]])
    assert patience(plan, USABLE, ROOM, GPU).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_requests_without_gpus_do_not_wait_for_gpus():
    plan = np.array([[2.0, 8.0], [6.0, 0.0]])
    found = patience(plan, USABLE, ROOM, np.array([0.0, 1.0]))
    assert found[0].tolist() == [1.0, 1.0]


def test_a_shape_is_never_closed_to_anybody():
    plan = np.array([[0.0, 8.0], [100.0, 0.0]])
    assert patience(plan, USABLE, ROOM, GPU)[0, 0] == pytest.approx(LATEST)


def test_nobody_is_planned_where_even_an_empty_node_is_too_small():
    cluster = make_cluster([(8000, 16384, (2, 0, 0)), (64000, 16384, (2, 0, 0))])
    classes = classes_of(make_requests([{"cpu": 9000}, {"memory": 20000}, {}]))
    usable = shapes_of(lay_bin_table(classes, cluster), classes).usable
    assert usable.tolist() == [
        [False, True],
        [False, False],
        [True, True],
    ]


def test_the_plan_is_made_for_those_whom_the_free_room_is_enough_for():
    # Small ones come first and fill everything; large ones behind take no shape.
    cluster = make_cluster([(64000, 262144, (8, 0, 0)), (64000, 262144, (0, 4, 0))])
    classes = classes_of(make_requests([{}] * 12 + [{"gpus": 8}] * 30))
    state = BinState(lay_bin_table(classes, cluster), classes, cluster)
    queued = queue_of(state, classes.of)
    assert queued.tolist() == pytest.approx([12.0, 12 * BEHIND / 8])
    counts = np.bincount(classes.of)
    shapes = shapes_of(state.ground, classes)
    share = look_ahead(state, shapes, (queued, counts)).share[0]
    by_gpus = share[np.argsort(cluster.gpus_total.sum(axis=1)[shapes.first])]
    assert by_gpus == pytest.approx([1 / 3, 2 / 3], abs=0.1)
    whole = look_ahead(state, shapes, (counts * 1.0, counts)).share[0]
    assert whole != pytest.approx([1 / 3, 2 / 3], abs=0.1)
