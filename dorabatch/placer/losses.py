"""GPUs expected to stay idle for want of CPUs or memory: one table a resource.

A logistic need around what a GPU is expected to ask for. Worked out when first asked
for, since requests that are placed together need none of it. It knows no node.
"""

import numpy as np

from dorabatch.placer.arrays import FloatArray, IntArray

SPREAD = 0.55
"""Logistic scale per standard deviation (sqrt(3) / pi)."""


class LossTable:
    """lost[shape, GPUs free, step]: of so many GPUs with so many steps beside them.

    mean[shape], spread[shape] of the resource per GPU to come; `most` GPUs and of the
    resource in steps of `step`.
    """

    __slots__ = ("_mean", "_most", "_spread", "_table", "step")

    def __init__(
        self, mean: FloatArray, spread: FloatArray, most: tuple[int, int], step: int
    ) -> None:
        self._mean = mean
        self._spread = spread
        self._most = most
        self._table: FloatArray | None = None
        self.step = step

    def at(self, shape: IntArray, gpus: IntArray, left: IntArray) -> FloatArray:
        """The loss of each (shape, GPUs free, amount of the resource left)."""
        if self._table is None:
            self._table = self._made()
        return np.asarray(self._table[shape, gpus, left // self.step])

    def _made(self) -> FloatArray:
        gpus, amount = self._most
        levels = np.arange(amount // self.step + 1) * self.step
        count = np.arange(gpus + 1, dtype=np.float64)[None, :, None]
        per, scatter = self._mean[:, None, None], self._spread[:, None, None]
        scale = np.maximum(scatter * np.sqrt(count) * SPREAD, 0.02 * per)
        short = (count * per - levels[None, None, :]) / scale
        lost = np.maximum(short, 0.0) + np.log1p(np.exp(-np.abs(short)))
        lost *= scale / per
        return np.asarray(np.where(count > 0, np.minimum(lost, count), 0.0))
