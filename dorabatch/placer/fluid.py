"""The fluid plan: which part of each class belongs on which shape of node.

A linear programme (serve as much demand as the free room allows), solved by a
primal-dual interior-point method that eliminates the demand rows, so one step costs
a system of shapes x resources. Its interior answers leave slack evenly. It knows
nothing of single nodes, ranks or requests.
"""

import numpy as np

from dorabatch.placer.arrays import BoolArray, FloatArray, IntArray

STEPS = 30
CENTRE = 0.15
STEP_PART = 0.95
GAP_ENOUGH = 1e-5

GOLDEN = 0.6180339887498949
"""Offsets classes against each other, so that their roundings differ."""

EVEN = 0.05
"""Weight of even slack: what the last of a resource on a shape costs (log barrier)."""


def fluid_plan(
    demand: FloatArray, need: FloatArray, room: FloatArray, dislike: FloatArray
) -> FloatArray:
    """Return plan[class, shape]: how much of demand[class] each shape serves.

    need[class, shape, resource] (infinite: never there), room[shape, resource],
    dislike[class, shape]: small costs between shapes that would all do; a unit left
    unserved costs 1. All amounts are scaled to about one.
    """
    usable: BoolArray = np.asarray(np.isfinite(need).all(axis=2), dtype=bool)
    clean = np.where(usable[:, :, None], need, 0.0)
    # Where a class may not go it costs more than leaving it unserved.
    price = np.where(usable, dislike, 100.0)
    worth = np.ones(len(demand))
    x = np.where(usable, demand[:, None] / (need.shape[1] + 1.0), 1e-4)
    unserved = np.maximum(demand - x.sum(axis=1), 0.1 * demand) + 1e-3
    slack = np.maximum(room * 0.5, 1e-3)
    load = np.zeros_like(room) - 1.0
    served = np.zeros_like(demand)
    # GPUs may be used up; of CPUs and memory each shape keeps a like part.
    even = EVEN * room
    even[:, 0] = 0.0
    for _ in range(STEPS):
        zx = price - served[:, None] - (clean * load[None]).sum(axis=2)
        zx = np.maximum(zx, 1e-9)
        zu = np.maximum(worth - served, 1e-9)
        zs = np.maximum(-load, 1e-9)
        count = x.size + unserved.size + slack.size
        gap = (x * zx).sum() + (unserved * zu).sum() + np.abs(slack * zs - even).sum()
        target = CENTRE * gap / count
        missing = demand - x.sum(axis=1) - unserved
        over = room - (x[:, :, None] * clean).sum(axis=0) - slack
        if gap < GAP_ENOUGH * max(float((worth * demand).sum()), 1e-9):
            break
        dx_free, du_free = target / zx - x, target / zu - unserved
        ds_free = np.maximum(target, even) / zs - slack
        weight = (x / zx, unserved / zu, slack / zs)
        goal = (
            missing - dx_free.sum(axis=1) - du_free,
            over - (dx_free[:, :, None] * clean).sum(axis=0) - ds_free,
        )
        dy, dp = _solve(weight, clean, goal)
        turn = dy[:, None] + (clean * dp[None]).sum(axis=2)
        dx = dx_free + weight[0] * turn
        du = du_free + weight[1] * dy
        ds = ds_free + weight[2] * dp
        forward = min(_reach(x, dx), _reach(unserved, du), _reach(slack, ds))
        dual = min(_reach(zx, -turn), _reach(zu, -dy), _reach(zs, -dp))
        x, unserved = x + forward * dx, unserved + forward * du
        slack = slack + forward * ds
        served, load = served + dual * dy, load + dual * dp
    return np.where(usable, x, 0.0)


def _solve(
    weight: tuple[FloatArray, FloatArray, FloatArray],
    need: FloatArray,
    goal: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray]:
    """Newton's system with the demand rows eliminated."""
    wx, wu, ws = weight
    classes, shapes, resources = need.shape
    diagonal = wx.sum(axis=1) + wu
    cross = (wx[:, :, None] * need).reshape(classes, shapes * resources)
    blocks = np.einsum("cs,csr,csq->srq", wx, need, need)
    small = np.zeros((shapes, resources, shapes, resources))
    each = np.arange(shapes)
    small[each, :, each, :] = blocks
    matrix = small.reshape(shapes * resources, shapes * resources)
    matrix = matrix - cross.T @ (cross / diagonal[:, None])
    matrix[np.diag_indices_from(matrix)] += ws.ravel() + 1e-12
    right = goal[1].ravel() - cross.T @ (goal[0] / diagonal)
    dp = np.linalg.lstsq(matrix, right, rcond=1e-14)[0]
    dy = (goal[0] - cross @ dp) / diagonal
    return dy, dp.reshape(shapes, resources)


def _reach(value: FloatArray, change: FloatArray) -> float:
    """The largest step that keeps `value` positive, at most one."""
    falling = change < 0
    if not falling.any():
        return 1.0
    limit = float((-value[falling] / change[falling]).min())
    return min(1.0, STEP_PART * limit)


def split(plan: FloatArray, of: IntArray) -> IntArray:
    """shape[row] for rows of classes of[row], in the parts of plan[class, shape]."""
    order = np.argsort(of, kind="stable")
    classes, counts = np.unique(of[order], return_counts=True)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(of)) - np.repeat(starts, counts)
    offset = np.repeat((np.arange(1, len(classes) + 1) * GOLDEN) % 1.0, counts)
    point = (rank + offset) / np.repeat(counts, counts)
    ladder = np.cumsum(plan, axis=1)
    ladder /= np.maximum(ladder[:, -1:], 1e-12)
    # One ascending list: class c's ladder lies in c..c+1.
    flat = (ladder + np.arange(len(ladder))[:, None]).ravel()
    shapes = plan.shape[1]
    found = np.searchsorted(flat, of[order] + np.minimum(point, 1 - 1e-9), side="right")
    shape = np.empty(len(of), dtype=np.int64)
    shape[order] = np.minimum(found - of[order] * shapes, shapes - 1)
    return shape
