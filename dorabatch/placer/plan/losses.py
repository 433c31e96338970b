"""GPUs expected to stay idle for want of CPUs or memory: one table a resource.

A logistic need around what a GPU is expected to ask for. Worked out where it is asked
for, and once as much was asked as the table holds, for all of it. It knows no node.
"""

import numpy as np

from dorabatch.placer.arrays.types import FloatArray, IntArray

SPREAD = 0.55
"""Logistic scale per standard deviation (sqrt(3) / pi)."""

ROW = 500
"""What one question costs beside its entries, in entries."""


class LossTable:
    """lost[shape, GPUs free, step]: of so many GPUs with so many steps beside them.

    mean[shape], spread[shape] of the resource per GPU to come; `most` GPUs and of the
    resource in steps of `step`.
    """

    __slots__ = ("_asked", "_mean", "_most", "_rows", "_spread", "_table", "step")

    def __init__(
        self, mean: FloatArray, spread: FloatArray, most: tuple[int, int], step: int
    ) -> None:
        self._mean = mean
        self._spread = spread
        self._most = most
        self._table: FloatArray | None = None
        self._rows: dict[tuple[int, int], FloatArray] = {}
        self._asked = 0
        self.step = step

    def at(self, shape: IntArray, gpus: IntArray, left: IntArray) -> FloatArray:
        """The loss of each (shape, GPUs free, amount of the resource left)."""
        steps = left // self.step
        if self._table is None:
            self._asked += ROW + len(shape)
            if self._asked < len(self._mean) * self._most[0] * self._steps():
                return self._lost(shape, gpus, steps)
            self._table = self._made()
        return np.asarray(self._table[shape, gpus, steps])

    def one(self, shape: int, gpus: int, left: int) -> float:
        """The same for one of them; its row of the table is kept."""
        if self._table is not None:
            return self._table.item(shape, gpus, left // self.step)
        row = self._rows.get((shape, gpus))
        if row is None:
            steps = np.arange(self._steps())
            row = self._lost(np.array([shape]), np.array([gpus]), steps)
            self._rows[shape, gpus] = row
        return row.item(left // self.step)

    def _steps(self) -> int:
        return self._most[1] // self.step + 1

    def _made(self) -> FloatArray:
        gpus, steps = np.arange(self._most[0] + 1), np.arange(self._steps())
        shape = np.arange(len(self._mean))[:, None, None]
        return self._lost(shape, gpus[None, :, None], steps[None, None, :])

    def _lost(self, shape: IntArray, gpus: IntArray, steps: IntArray) -> FloatArray:
        per, scatter = self._mean[shape], self._spread[shape]
        scale = np.maximum(scatter * np.sqrt(gpus) * SPREAD, 0.02 * per)
        short = (gpus * per - steps * self.step) / scale
        lost = np.maximum(short, 0.0) + np.log1p(np.exp(-np.abs(short)))
        lost *= scale / per
        return np.asarray(np.where(gpus > 0, np.minimum(lost, gpus), 0.0))
