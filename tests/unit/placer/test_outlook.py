"""The outlook: who may go to which shape, and who comes late there."""

import numpy as np
import pytest

from dorabatch.placer.classes import classes_of
from dorabatch.placer.ground import lay_ground
from dorabatch.placer.outlook import LATEST, patience
from dorabatch.placer.shapes import shapes_of
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
    usable = shapes_of(lay_ground(classes, cluster), classes).usable
    assert usable.tolist() == [
        [False, True],
        [False, False],
        [True, True],
    ]
