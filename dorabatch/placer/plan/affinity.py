"""Which of the feasible bins a request prefers: its affinity.

Chooses one bin from a cost row; it books nothing and scores nothing.
"""

from collections.abc import Mapping

import numpy as np

from dorabatch.placer.arrays.types import Affinity, FloatArray, IntArray


def choose(
    affinity: Affinity,
    row: FloatArray,
    node: IntArray,
    siblings: Mapping[int, int],
    draw: int,
) -> int:
    """Return the preferred bin of `row` (cost[bin], infinite = no), or -1.

    siblings: node -> rows of the same group there. `draw` is the request's own
    pseudo-random number.
    """
    open_bins = np.flatnonzero(row < np.inf)
    if len(open_bins) == 0:
        return -1
    match affinity:
        case Affinity.FIRST:
            return int(open_bins[0])
        case Affinity.RANDOM:
            return _by_draw(open_bins, node, row, draw)
        case Affinity.DISTRIBUTE:
            held = _held(open_bins, node, siblings)
            open_bins = open_bins[held == held.min()]
        case Affinity.FILL:
            held = _held(open_bins, node, siblings)
            if held.max() > 0:
                open_bins = open_bins[held > 0]
        case Affinity.BEST:
            pass
    return int(open_bins[np.argmin(row[open_bins])])


def _held(bins: IntArray, node: IntArray, siblings: Mapping[int, int]) -> IntArray:
    return np.array([siblings.get(n, 0) for n in node[bins].tolist()], dtype=np.int64)


def _by_draw(bins: IntArray, node: IntArray, row: FloatArray, draw: int) -> int:
    """Every node has the same chance, however many models it holds."""
    nodes = np.unique(node[bins])
    chosen = nodes[draw % len(nodes)]
    bins = bins[node[bins] == chosen]
    return int(bins[np.argmin(row[bins])])


def draw_for(seed: int, key: int) -> int:
    """A pseudo-random number that depends on the seed and the request only."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + key * 0xD1342543DE82EF95 + 1) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) & mask
    return value ^ (value >> 31)
