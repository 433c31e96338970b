"""The fluid plan: which part of each class belongs on which shape of node.

A linear programme (serve as much demand as the free room allows), solved by a
primal-dual interior-point method that eliminates the demand rows, so one step costs
a system of shapes x resources. Its interior answers leave slack evenly. It knows
nothing of single nodes, ranks or requests.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.types import BoolArray, FloatArray, IntArray

STEPS = 40
STEP_PART = 0.97
CENTRE_LEAST = 1e-3
GAP_ENOUGH = 1e-5

START_PRICE = 0.1
"""What room costs at first, in parts of what a unit left unserved costs."""

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
    unserved costs 1.

    Mehrotra's predictor-corrector method (SIAM J. Optimization 2, 1992).
    """
    total = max(float(demand.sum()), 1e-9)
    programme = _programme(demand / total, need * total, room, dislike)
    # GPUs may be used up; of CPUs and memory each shape keeps a like part.
    even = EVEN / total * room
    even[:, 0] = 0.0
    count = programme.open.sum() + room.size
    now = _start(programme)
    for _ in range(STEPS):
        newton = _Newton(programme, now)
        gap = now.gap(even)
        if max(gap, newton.missed) < GAP_ENOUGH:
            break
        ahead = newton.step(0.0, even, None)
        reached = now.moved(ahead).gap(even)
        centre = max(min(reached / gap, 1.0) ** 3, CENTRE_LEAST)
        now = now.moved(newton.step(centre * gap / count, even, ahead))
    return np.ascontiguousarray(now.part[:-1].T) * total


class _Programme(NamedTuple):
    """The programme by way: a shape, or (the last) being left unserved.

    demand[class], cost[way, class], open[way, class]; need[shape, class, resource] and
    room[shape, resource]. The demands add up to one.
    """

    demand: FloatArray
    cost: FloatArray
    open: BoolArray
    need: FloatArray
    room: FloatArray


class _Point(NamedTuple):
    """Where the method stands: primal and dual amounts, all above zero.

    part[way, class] of the demand, beside what each is too dear by (excess);
    slack[shape, resource] beside the price of the resource; served[class]: what a unit
    of demand pays. Or a step: the changes of all of them.
    """

    part: FloatArray
    excess: FloatArray
    slack: FloatArray
    price: FloatArray
    served: FloatArray

    def gap(self, even: FloatArray) -> float:
        """How far from the optimum, in units left unserved."""
        uneven = np.abs(self.slack * self.price - even).sum()
        return float(np.vdot(self.part, self.excess) + uneven)

    def moved(self, step: "_Point") -> "_Point":
        """As far along the step as everything stays above zero."""
        primal = min(_reach(self.part, step.part), _reach(self.slack, step.slack))
        dual = min(_reach(self.excess, step.excess), _reach(self.price, step.price))
        return _Point(
            part=self.part + primal * step.part,
            excess=self.excess + dual * step.excess,
            slack=self.slack + primal * step.slack,
            price=self.price + dual * step.price,
            served=self.served + dual * step.served,
        )


def _programme(
    demand: FloatArray, need: FloatArray, room: FloatArray, dislike: FloatArray
) -> _Programme:
    classes, shapes, _ = need.shape
    usable: BoolArray = np.asarray(np.isfinite(need).all(axis=2), dtype=bool)
    open_ = np.ones((shapes + 1, classes), dtype=bool)
    open_[:-1] = usable.T
    cost = np.ones((shapes + 1, classes))
    cost[:-1] = np.where(usable, dislike, 0.0).T
    clean = np.where(usable[:, :, None], need, 0.0)
    return _Programme(
        demand, cost, open_, np.ascontiguousarray(clean.transpose(1, 0, 2)), room
    )


def _start(programme: _Programme) -> _Point:
    """Every class spread evenly; half of the room used."""
    demand, cost, open_, need, room = programme
    price = np.full_like(room, START_PRICE)
    excess = cost.copy()
    excess[:-1] += _priced(need, price)
    served = np.where(open_, excess, np.inf).min(axis=0) - START_PRICE
    return _Point(
        part=open_ * (demand / open_.sum(axis=0)),
        excess=np.where(open_, excess - served, 1.0),
        slack=np.maximum(room * 0.5, 1e-6),
        price=price,
        served=served,
    )


class _Newton:
    """Newton's system at a point, the demand rows eliminated: shapes x resources."""

    def __init__(self, programme: _Programme, now: _Point) -> None:
        self._programme, self._now = programme, now
        need, (shapes, resources) = programme.need, programme.room.shape
        self._missing = programme.demand - now.part.sum(axis=0)
        self._over = programme.room - _used(now.part, need) - now.slack
        self.missed = float(np.abs(self._missing).sum() + np.abs(self._over).sum())
        self._weight = now.part / now.excess
        self._loose = now.slack / now.price
        self._stiff = self._weight.sum(axis=0)
        turned = need.transpose(0, 2, 1)
        heavy = turned * self._weight[:-1, None, :]
        cross = heavy.reshape(shapes * resources, -1)
        self._cross = cross / self._stiff
        matrix = -(self._cross @ cross.T)
        each = np.arange(shapes)
        blocks = matrix.reshape(shapes, resources, shapes, resources)
        blocks[each, :, each, :] += heavy @ need
        matrix.ravel()[:: shapes * resources + 1] += self._loose.ravel() + 1e-13
        self._inverse = np.linalg.inv(matrix)

    def step(self, target: float, even: FloatArray, ahead: _Point | None) -> _Point:
        """The step towards products of `target`, corrected by the step `ahead`."""
        programme, now = self._programme, self._now
        products: FloatArray | float = target
        slacks = np.maximum(target, even)
        if ahead is not None:
            products = target - ahead.part * ahead.excess
            slacks = slacks - ahead.slack * ahead.price
        part = programme.open * products / now.excess - now.part
        slack = slacks / now.price - now.slack
        lacking = self._missing - part.sum(axis=0)
        over = self._over - _used(part, programme.need) - slack
        fall = self._inverse @ (over.ravel() - self._cross @ lacking)
        rise = lacking / self._stiff - fall @ self._cross
        fall = fall.reshape(over.shape)
        turn = np.broadcast_to(rise, part.shape).copy()
        turn[:-1] += _priced(programme.need, fall)
        turn *= programme.open
        return _Point(
            part=part + self._weight * turn,
            excess=-turn,
            slack=slack + self._loose * fall,
            price=-fall,
            served=rise,
        )


def _used(part: FloatArray, need: FloatArray) -> FloatArray:
    """used[shape, resource] by part[way, class]."""
    return np.asarray((part[:-1, None, :] @ need)[:, 0, :])


def _priced(need: FloatArray, price: FloatArray) -> FloatArray:
    """cost[shape, class] of what each class needs at price[shape, resource]."""
    return np.asarray((need @ price[:, :, None])[:, :, 0])


def _reach(value: FloatArray, change: FloatArray) -> float:
    """The largest step that keeps `value` above zero, at most one."""
    fall = -float((change / np.maximum(value, 1e-300)).min(initial=0.0))
    return 1.0 if fall <= STEP_PART else STEP_PART / fall


def split(plan: FloatArray, of: IntArray) -> IntArray:
    """shape[row] for rows of classes of[row], in the parts of plan[class, shape]."""
    order = np.argsort(of, kind="stable")
    counts = np.bincount(of, minlength=len(plan))
    rank = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    offset = (np.cumsum(counts > 0) * GOLDEN) % 1.0
    point = (rank + np.repeat(offset, counts)) / np.repeat(counts, counts)
    ladder = np.cumsum(plan, axis=1)
    ladder /= np.maximum(ladder[:, -1:], 1e-12)
    # One ascending list: class c's ladder lies in c..c+1.
    flat = (ladder + np.arange(len(ladder))[:, None]).ravel()
    shapes = plan.shape[1]
    found = np.searchsorted(flat, of[order] + np.minimum(point, 1 - 1e-9), side="right")
    shape = np.empty(len(of), dtype=np.int64)
    shape[order] = np.minimum(found - of[order] * shapes, shapes - 1)
    return shape
