"""FGD (Weng et al., ATC'23) as the reference: least growth of fragmentation.

Score = floor(100 * sigmoid((F before - F after) / 1000)), F in thousandths of a GPU
over the task mix that covers 95 % of the tasks; ties go to the first node. It is
written for comparison only.
"""

import numpy as np
import numpy.typing as npt

from dorabatch.placer.arrays.bins import BinState
from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, FloatArray, IntArray

COVERED = 0.95


class Fgd:
    """The task mix, and a cost for the engine: minus the score."""

    def __init__(self, classes: Classes, model: IntArray) -> None:
        # Tasks that differ in memory only are one task of the mix.
        asks = np.column_stack(
            [classes.cpu_milli, classes.gpu_count, classes.gpu_milli, classes.accepts]
        )
        _, first, ask = np.unique(asks, axis=0, return_index=True, return_inverse=True)
        counts = np.bincount(ask.ravel()[classes.of], minlength=len(first))
        order = np.argsort(-counts, kind="stable")
        covered = np.cumsum(counts[order]) / max(counts.sum(), 1)
        most = order[: int(np.searchsorted(covered, COVERED)) + 1]
        self.weight = counts[most] / max(counts[most].sum(), 1)
        kept = first[most]
        self.cpu = classes.cpu_milli[kept]
        self.count = classes.gpu_count[kept]
        self.milli = classes.gpu_milli[kept]
        padded = np.concatenate(
            [classes.accepts, np.zeros((len(classes), 1), dtype=bool)], axis=1
        )
        # access[bin, task of the mix]
        self.access = padded[kept][:, model].T

    def fragments(
        self, bins: IntArray, cpu: IntArray, free: IntArray, rest: IntArray
    ) -> FloatArray:
        """F[bin] in thousandths of a GPU; rest[bin, slot] of opened GPUs."""
        total = free * WHOLE_GPU_MILLI + rest.sum(axis=1)
        roomy = rest[:, :, None] >= self.milli[None, None, :]
        fitting = free[:, None] + roomy.sum(axis=1)
        good = (fitting >= self.count) & self.access[bins]
        good &= (cpu[:, None] >= self.cpu) & (self.count > 0)
        small = (rest[:, :, None] * ~roomy).sum(axis=1)
        amount = np.where(good, small, total[:, None])
        return np.asarray(amount @ self.weight, dtype=np.float64)

    def cost(self, state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
        """Minus the integer score; infinite where the class does not fit."""
        where = np.arange(len(state.free))[bins]
        result = np.full(len(where), np.inf)
        fits = np.flatnonzero(state.fits(index, where))
        if len(fits) == 0:
            return result
        gain = self._gain(state, index, where[fits])[0]
        score = np.floor(100.0 / (1.0 + np.exp(-gain / WHOLE_GPU_MILLI)))
        result[fits] = -score
        return result

    def slot(self, state: BinState, index: int, bin_: int) -> int:
        """The GPU that FGD takes for a share on `bin_`."""
        return int(self._gain(state, index, np.array([bin_]))[1][0])

    def _gain(
        self, state: BinState, index: int, bins: IntArray
    ) -> tuple[FloatArray, IntArray]:
        """F before - F after per bin, at the best slot of each for a share."""
        rest = np.maximum(state.rest[bins], 0)
        free, cpu = state.free[bins], state.cpu[bins]
        count = int(state.classes.gpu_count[index])
        milli = int(state.classes.gpu_milli[index])
        before = self.fragments(bins, cpu, free, rest)
        left = cpu - state.ground.cpu_need[index][bins]
        if count == 0 or milli == WHOLE_GPU_MILLI:
            after = self.fragments(bins, left, free - count, rest)
            return before - after, np.full(len(bins), -1)
        return self._share_gain(state, bins, milli, (before, left, free, rest))

    def _share_gain(
        self,
        state: BinState,
        bins: IntArray,
        milli: int,
        books: tuple[FloatArray, IntArray, IntArray, IntArray],
    ) -> tuple[FloatArray, IntArray]:
        before, left, free, rest = books
        roomy = rest >= milli
        unused = state.rest[bins] == 0
        fresh = np.zeros_like(roomy)
        fresh[np.arange(len(bins)), unused.argmax(axis=1)] = free > 0
        at, slot = np.nonzero(roomy | fresh)
        opened = fresh[at, slot]
        after_rest = rest[at]
        pair = np.arange(len(at))
        after_rest[pair, slot] += np.where(opened, WHOLE_GPU_MILLI, 0) - milli
        after = self.fragments(bins[at], left[at], free[at] - opened, after_rest)
        gain = np.full(rest.shape, -np.inf)
        gain[at, slot] = before[at] - after
        best: npt.NDArray[np.int64] = gain.argmax(axis=1)
        return gain[np.arange(len(bins)), best], best
